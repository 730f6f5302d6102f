"""The projector onto flat directions: methods.md §4.14."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corrigenda.numerics.kfac import flat_directions
from corrigenda.numerics.solve import null_space


def moment(size: int, seed: int) -> Tensor:
    """A random second moment with a falling spectrum."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(3 * size, size, generator=generator, dtype=torch.float64)
    rows = rows * torch.logspace(0, -2, size, dtype=torch.float64)
    return rows.T @ rows / len(rows)


def change(o: int, i: int, seed: int) -> Tensor:
    return torch.randn(o, i, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)


@given(sizes, sizes, seeds, st.floats(0, 1))
def test_projecting_twice_is_projecting_once(o, i, seed, energy):
    flat = flat_directions(moment(i, seed), moment(o, seed + 1), energy=energy)
    once = flat.project(change(o, i, seed))
    torch.testing.assert_close(flat.project(once), once)


@given(sizes, sizes, seeds, st.floats(0, 1))
def test_curvature_is_below_the_threshold(o, i, seed, energy):
    """vec(Δ)ᵀ (B ⊗ A) vec(Δ) <= τ ‖Δ‖² for projected Δ."""
    a, b = moment(i, seed), moment(o, seed + 1)
    flat = flat_directions(a, b, energy=energy)
    delta = flat.project(change(o, i, seed))
    vector = delta.flatten()  # row by row, so that B ⊗ A acts as B Δ A
    curvature = float(vector @ torch.kron(b, a) @ vector)
    assert curvature <= min(flat.threshold, 1e9) * float(delta.square().sum()) + 1e-9


@given(sizes, sizes, seeds)
def test_energy_zero_keeps_every_direction(o, i, seed):
    flat = flat_directions(moment(i, seed), moment(o, seed + 1), energy=0.0)
    delta = change(o, i, seed)
    assert flat.share == 1.0
    torch.testing.assert_close(flat.project(delta), delta)


@given(sizes, sizes, seeds, st.floats(0.05, 0.99))
def test_what_is_removed_holds_the_energy(o, i, seed, energy):
    a, b = moment(i, seed), moment(o, seed + 1)
    flat = flat_directions(a, b, energy=energy)
    values = torch.linalg.eigvalsh(b)[:, None] * torch.linalg.eigvalsh(a)
    assert float(values[~flat.free].sum()) >= energy * float(values.sum()) * (1 - 1e-9)


@pytest.mark.parametrize("rule", [{"energy": 0.9}, {"threshold": 0.02}])
def test_without_output_curvature_it_is_alphaedits_projector(rule):
    """B = I: P(Δ) = Δ U₀U₀ᵀ with U₀ the null space of A."""
    a = moment(6, 3)
    flat = flat_directions(a, torch.eye(4), **rule)
    basis, _ = null_space(a, **rule)
    assert 0 < basis.shape[1] < 6
    delta = change(4, 6, 5)
    torch.testing.assert_close(flat.project(delta), delta @ basis @ basis.T)


def test_exactly_one_rule():
    with pytest.raises(ValueError, match="either"):
        flat_directions(torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match="either"):
        flat_directions(torch.eye(2), torch.eye(2), energy=0.5, threshold=0.5)
