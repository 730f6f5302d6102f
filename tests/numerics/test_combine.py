"""TIES and DARE on tensors: methods.md §5.5."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.numerics.combine import dare, ties, trimmed


def some(seed: int, *shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {str(j): torch.randn(shape, generator=generator) for j, shape in enumerate(shapes)}


@given(st.integers(0, 1000), st.floats(0, 1))
def test_trimming_keeps_the_largest_over_all_tensors(seed, density):
    change = some(seed, (3, 4), (5,))
    sparse = trimmed(change, density)
    flat = torch.cat([t.flatten() for t in change.values()])
    kept = torch.cat([t.flatten() for t in sparse.values()])
    assert int((kept != 0).sum()) == round(density * 17)
    assert torch.equal(kept[kept != 0], flat[kept != 0])
    if 0 < (kept != 0).sum() < 17:
        assert flat[kept != 0].abs().min() >= flat[kept == 0].abs().max()


def test_ties_elects_the_sign_with_more_mass_and_averages_those_who_agree():
    a, b, c = ({"w": torch.tensor(row)} for row in ([3.0, 1.0], [1.0, -2.0], [-2.0, -4.0]))
    # column 0: 3 + 1 - 2 > 0 -> mean(3, 1); column 1: 1 - 2 - 4 < 0 -> mean(-2, -4)
    assert torch.equal(ties([a, b, c], 1.0)["w"], torch.tensor([2.0, -3.0]))


def test_ties_of_equal_changes_is_that_change_and_of_opposite_ones_nothing():
    change = some(1, (3, 4), (5,))
    opposite = {name: -t for name, t in change.items()}
    for name, merged in ties([change, change], 1.0).items():
        torch.testing.assert_close(merged, change[name])
    assert all(not t.any() for t in ties([change, opposite], 1.0).values())


def test_ties_leaves_a_weight_that_only_one_changes_to_it():
    merged = ties([{"a": torch.tensor([1.0])}, {"b": torch.tensor([-2.0])}], 1.0)
    assert torch.equal(merged["a"], torch.tensor([1.0]))
    assert torch.equal(merged["b"], torch.tensor([-2.0]))


def test_dare_keeps_the_mean():
    change = {"w": torch.full((200, 200), 2.0)}
    sparse = dare(change, 0.9, torch.Generator().manual_seed(0))["w"]
    torch.testing.assert_close(sparse.unique(), torch.tensor([0.0, 20.0]))
    assert float((sparse == 0).float().mean()) == pytest.approx(0.9, abs=0.01)
    assert float(sparse.mean()) == pytest.approx(2.0, abs=0.2)


def test_dare_that_drops_nothing_is_the_identity():
    change = some(2, (3, 4))
    assert torch.equal(dare(change, 0.0, torch.Generator())["0"], change["0"])


def test_shares_are_shares():
    with pytest.raises(ValueError, match="between 0 and 1"):
        trimmed(some(0, (2,)), 1.5)
    with pytest.raises(ValueError, match="drop = 1"):
        dare(some(0, (2,)), 1.0, torch.Generator())
