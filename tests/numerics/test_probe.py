"""Linear probes: what they can tell and what they cannot."""

from __future__ import annotations

import pytest
import torch

from corrigenda.numerics.erase import ConceptMoments, leace
from corrigenda.numerics.probe import _ridge, majority, probe_accuracy, probe_read


def rows(n=240, d=10, gap=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 3
    means = gap * torch.randn(3, d, generator=generator, dtype=torch.float64)
    return means[classes] + torch.randn(n, d, generator=generator, dtype=torch.float64), classes


def test_classes_that_are_apart_are_told():
    x, classes = rows()
    assert probe_accuracy(x, classes) > 0.98
    assert probe_accuracy(1e3 + 1e-3 * x, classes) > 0.98, "whatever their mean and scale"


def test_noise_tells_nothing():
    x, _ = rows(gap=0.0)
    classes = torch.randint(2, (240,), generator=torch.Generator().manual_seed(1))
    assert 0.35 < probe_accuracy(x, classes) < 0.65


def test_many_dimensions_do_not_fool_it():
    """A probe with more weights than rows fits anything, and is judged by other rows."""
    x = torch.randn(60, 500, generator=torch.Generator().manual_seed(2))
    classes = torch.arange(60) % 2
    assert probe_accuracy(x, classes, folds=1) > 0.95
    assert probe_accuracy(x, classes) < 0.75


def test_after_an_erasure_it_answers_the_majority():
    x, classes = rows()
    classes[:40] = 0
    erased = leace(ConceptMoments.of(x, torch.nn.functional.one_hot(classes)))(x)
    assert probe_accuracy(x, classes, folds=1) > majority(classes) + 0.1
    assert probe_accuracy(erased, classes, folds=1) == pytest.approx(majority(classes))


def test_equal_rows_are_a_constant():
    classes = torch.tensor([0, 0, 1, 0, 1, 0])
    assert probe_accuracy(torch.ones(6, 3), classes, folds=2) == majority(classes) == 4 / 6


def test_rows_of_one_group_do_not_tell_of_each_other():
    """Every group has its own place and its class says nothing about it."""
    generator = torch.Generator().manual_seed(4)
    groups = torch.arange(40).repeat_interleave(5)
    classes = torch.randint(2, (40,), generator=generator)[groups]
    x = torch.randn(40, 60, generator=generator)[groups]
    x = x + 0.01 * torch.randn(200, 60, generator=generator)
    assert probe_accuracy(x, classes) > 0.95
    assert probe_accuracy(x, classes, groups=groups) < 0.75


@pytest.mark.parametrize("d", [3, 40])
def test_both_forms_of_the_solution_agree(d):
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(20, d, generator=generator, dtype=torch.float64)
    y = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    share = float(a.square().sum(1).mean()) * 0.1
    wanted = torch.linalg.solve(a.T @ a + share * torch.eye(d), a.T @ y)
    torch.testing.assert_close(_ridge(a, y, 0.1), wanted, atol=1e-7, rtol=1e-6)


def test_what_a_probe_reads_is_what_its_accuracy_counts() -> None:
    draw = torch.Generator().manual_seed(0)
    x, classes = torch.randn(30, 6, generator=draw), torch.randint(0, 3, (30,), generator=draw)
    read = probe_read(x, classes, x)
    assert float((read == classes).double().mean()) == probe_accuracy(x, classes, folds=1)


def test_a_probe_reads_others_by_what_it_learned() -> None:
    """Two classes along one axis; others on either side of it."""
    x = torch.tensor([[1.0, 0.0], [2.0, 1.0], [-1.0, 0.0], [-2.0, 1.0]])
    found = probe_read(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[5.0, 9.0], [-3.0, 9.0]]))
    assert found.tolist() == [0, 1]
