from __future__ import annotations

import math

import pytest
import torch

from corrigenda.metrics.kl import kl_edited_reference, kl_reference_edited

REFERENCE = torch.tensor([0.5, 0.25, 0.25]).log()
EDITED = torch.tensor([0.25, 0.5, 0.25]).log()


def test_divergence_is_in_nats():
    assert float(kl_reference_edited(REFERENCE, EDITED)) == pytest.approx(0.173287, abs=1e-6)


def test_both_directions_are_told_apart():
    other = torch.tensor([0.8, 0.1, 0.1]).log()
    there = float(kl_reference_edited(REFERENCE, other))
    back = float(kl_edited_reference(REFERENCE, other))
    assert there == pytest.approx(0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(2.5))
    assert back == pytest.approx(float(kl_reference_edited(other, REFERENCE)))
    assert there != pytest.approx(back)


def test_zero_probabilities_count_as_zero_or_infinity():
    sharp = torch.tensor([1.0, 0.0, 0.0]).log()
    assert float(kl_reference_edited(sharp, sharp)) == 0.0
    assert float(kl_reference_edited(sharp, REFERENCE)) == pytest.approx(math.log(2))
    assert float(kl_reference_edited(REFERENCE, sharp)) == math.inf


def test_rows_are_kept_apart_and_zero_where_nothing_changed():
    rows = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert kl_reference_edited(rows, rows).tolist() == [0.0, 0.0, 0.0]
    assert bool((kl_reference_edited(rows, rows.flip(0)) >= 0).all())


def test_a_broken_distribution_shows():
    assert math.isnan(float(kl_reference_edited(REFERENCE, torch.full((3,), math.nan))))
