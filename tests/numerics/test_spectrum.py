"""Spectra: what a planted matrix must show, and what rounding may hide."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corrigenda.numerics.spectrum import rounding, spectrum


def drawn(seed: int, o: int, i: int) -> Tensor:
    return torch.randn(o, i, generator=torch.Generator().manual_seed(seed))


def test_equal_singular_values_are_of_full_effective_rank() -> None:
    found = spectrum(3.0 * torch.eye(5))
    assert found.rank() == 5
    assert found.effective_rank == pytest.approx(5)
    assert found.stable_rank == pytest.approx(5)
    assert found.entropy == pytest.approx(math.log(5))
    assert found.leading == pytest.approx(0.2)


def test_two_singular_values_by_hand() -> None:
    """σ = 3, 1: p = ¾, ¼, so H = -¾ log ¾ - ¼ log ¼; ‖A‖² = 10."""
    found = spectrum(torch.diag(torch.tensor([1.0, 3.0])))
    assert found.entropy == pytest.approx(0.562335, abs=1e-6)
    assert found.stable_rank == pytest.approx(10 / 9)
    assert found.norm == pytest.approx(math.sqrt(10))


def test_nothing_has_rank_nothing() -> None:
    found = spectrum(torch.zeros(3, 4))
    assert (found.rank(), found.effective_rank, found.stable_rank, found.leading) == (0, 0, 0, 0)


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(2, 8))
def test_sign_transposition_and_scale_change_no_shape(seed: int, o: int, i: int) -> None:
    matrix = drawn(seed, o, i)
    one = spectrum(matrix)
    for other in (spectrum(-matrix), spectrum(matrix.T), spectrum(7.5 * matrix)):
        assert other.entropy == pytest.approx(one.entropy, rel=1e-5)
        assert other.stable_rank == pytest.approx(one.stable_rank, rel=1e-5)
        assert other.rank() == one.rank()


@given(st.integers(0, 2**31))
def test_components_add_up(seed: int) -> None:
    matrix = drawn(seed, 5, 7)
    found = spectrum(matrix)
    total = sum(found.component(j) for j in range(5))
    torch.testing.assert_close(total, matrix.double(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.cut(5), matrix.double(), atol=1e-6, rtol=1e-6)
    assert spectrum(found.cut(2)).rank() == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lopsided", [False, True])
def test_a_rank_one_change_is_seen_through_rounding(dtype: torch.dtype, lopsided: bool) -> None:
    """Stored, a planted u vᵀ is of full rank; above the rounding it is of rank one."""
    w, u, v = drawn(0, 64, 96), drawn(1, 64, 1), drawn(2, 1, 96)
    if lopsided:
        u[3] *= 30  # rounding is then far from even
    before = w.to(dtype)
    after = (before.float() + u @ v).to(dtype)
    gap = after.double() - before.double()
    found = spectrum(gap)
    assert found.rank() > 1
    assert found.rank(max(rounding(before), rounding(after))) == 1
