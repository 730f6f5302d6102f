"""The identities of methods.md §1 and §4, on small random matrices in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corrigenda.numerics.solve import (
    Factor,
    equality,
    inside,
    null_space,
    preserving,
    ridge,
    ridge_in,
)

TIGHT = {"atol": 1e-9, "rtol": 1e-9}


def problem(seed: int, o: int = 5, i: int = 8, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Keys (i, n), residuals (o, n) and a well-conditioned second moment (i, i)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(40, i, generator=g, dtype=torch.float64)
    keys = torch.randn(i, n, generator=g, dtype=torch.float64)
    residuals = torch.randn(o, n, generator=g, dtype=torch.float64)
    return keys, residuals, x.T @ x / len(x)


seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 12), st.floats(0.01, 100))
def test_woodbury_equals_the_direct_form(seed: int, n: int, weight: float) -> None:
    keys, residuals, moment = problem(seed, n=n)
    direct = residuals @ keys.T @ torch.linalg.inv(weight * moment + keys @ keys.T)
    torch.testing.assert_close(
        ridge(keys, residuals, Factor.of(moment), weight).matrix, direct, atol=1e-7, rtol=1e-7
    )


@given(seeds, st.floats(0.1, 50))
def test_ridge_is_a_stationary_point(seed: int, weight: float) -> None:
    """λ Δ C + (Δ K - R) Kᵀ = 0."""
    keys, residuals, moment = problem(seed)
    delta = ridge(keys, residuals, Factor.of(moment), weight).matrix
    gradient = weight * delta @ moment + (delta @ keys - residuals) @ keys.T
    assert float(gradient.abs().max()) < 1e-9


@given(seeds, st.floats(0.1, 50))
def test_one_edit_reaches_its_share_of_the_residual(seed: int, weight: float) -> None:
    """s = q / (λ + q) with q = kᵀ C⁻¹ k."""
    keys, residuals, moment = problem(seed, n=1)
    q = float(keys.T @ torch.linalg.solve(moment, keys))
    got = ridge(keys, residuals, Factor.of(moment), weight).matrix @ keys
    torch.testing.assert_close(got, residuals * q / (weight + q), **TIGHT)


@given(seeds)
def test_the_order_of_facts_does_not_matter(seed: int) -> None:
    keys, residuals, moment = problem(seed, n=4)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    factor = Factor.of(moment)
    torch.testing.assert_close(
        ridge(keys, residuals, factor).matrix,
        ridge(keys[:, order], residuals[:, order], factor).matrix,
        **TIGHT,
    )


@given(seeds, st.integers(1, 4))
def test_equality_meets_every_key(seed: int, n: int) -> None:
    keys, residuals, moment = problem(seed, n=n)
    update = equality(keys, residuals, Factor.of(moment))
    torch.testing.assert_close(update.matrix @ keys, residuals, atol=1e-7, rtol=1e-7)
    assert torch.linalg.matrix_rank(update.matrix) <= n


@given(seeds)
def test_one_key_gives_romes_update(seed: int) -> None:
    keys, residuals, moment = problem(seed, n=1)
    u = torch.linalg.solve(moment, keys)
    rome = residuals @ u.T / (keys.T @ u)
    torch.testing.assert_close(equality(keys, residuals, Factor.of(moment)).matrix, rome, **TIGHT)


@given(seeds)
def test_no_change_that_meets_the_key_costs_less(seed: int) -> None:
    """tr(Δ C Δᵀ) is least among all Δ with Δ k = r."""
    keys, residuals, moment = problem(seed, n=1)
    best = equality(keys, residuals, Factor.of(moment)).matrix
    g = torch.Generator().manual_seed(seed + 1)
    k = keys[:, 0]
    other = torch.randn(best.shape, generator=g, dtype=torch.float64)
    other = best + other - (other @ k)[:, None] * k / (k @ k)  # same image of k
    torch.testing.assert_close(other @ keys, residuals, **TIGHT)
    cost = lambda d: float(torch.trace(d @ moment @ d.T))  # noqa: E731
    assert cost(best) <= cost(other) + 1e-9


@given(seeds, st.floats(1e-3, 1e3))
def test_the_scale_of_c_does_not_matter_to_equality(seed: int, scale: float) -> None:
    keys, residuals, moment = problem(seed)
    a = equality(keys, residuals, Factor.of(moment)).matrix
    b = equality(keys, residuals, Factor.of(moment * scale)).matrix
    torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


@given(seeds)
def test_ridge_tends_to_equality_as_its_weight_vanishes(seed: int) -> None:
    keys, residuals, moment = problem(seed, n=1)
    factor = Factor.of(moment)
    small = ridge(keys, residuals, factor, 1e-10).matrix
    torch.testing.assert_close(
        small, equality(keys, residuals, factor).matrix, atol=1e-7, rtol=1e-7
    )


@given(seeds, st.floats(0.01, 10), st.floats(0.1, 100))
def test_damped_emmet_is_memit(seed: int, damping: float, weight: float) -> None:
    """With damping ε and weight λ, EMMET as coded is MEMIT with weight ε λ."""
    keys, residuals, moment = problem(seed)
    factor = Factor.of(moment)
    torch.testing.assert_close(
        equality(keys, residuals, factor, weight=weight, damping=damping).matrix,
        ridge(keys, residuals, factor, damping * weight).matrix,
        atol=1e-7,
        rtol=1e-7,
    )


def test_equal_keys_are_refused_without_damping() -> None:
    keys, residuals, moment = problem(0, n=1)
    with pytest.raises(ValueError, match="linearly dependent"):
        equality(keys.repeat(1, 2), residuals.repeat(1, 2), Factor.of(moment))


def test_a_singular_moment_is_factored_with_jitter_and_says_so() -> None:
    low = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factor = Factor.of(low @ low.T)
    assert factor.jitter > 0
    with pytest.raises(ValueError, match="not finite"):
        Factor.of(torch.full((2, 2), float("nan")))


# -- AlphaEdit: methods.md §4.8 ---------------------------------------------------------------


@given(seeds, st.floats(0.1, 10), st.integers(0, 12))
def test_null_space_update_satisfies_its_normal_equation(seed: int, l2: float, p: int) -> None:
    """(Δ K - R) Kᵀ P + Δ K_p K_pᵀ P + L2 Δ = 0, and Δ P = Δ."""
    keys, residuals, moment = problem(seed)
    past = problem(seed + 1, n=max(p, 1))[0][:, :p]
    basis, values = null_space(moment, threshold=float(moment.diagonal().mean()))
    projector = basis @ basis.T
    delta = ridge_in(basis, keys, residuals, l2, past).matrix
    torch.testing.assert_close(delta @ projector, delta, **TIGHT)
    normal = (
        (delta @ keys - residuals) @ keys.T @ projector
        + delta @ past @ past.T @ projector
        + l2 * delta
    )
    assert float(normal.abs().max()) < 1e-8
    kept = values[values < float(moment.diagonal().mean())]
    if len(kept):
        cost = float(torch.trace(delta @ moment @ delta.T))
        assert cost <= float(moment.diagonal().mean()) * float(delta.square().sum()) + 1e-9


@given(seeds, st.floats(0.1, 10))
def test_whole_space_makes_it_plain_ridge(seed: int, l2: float) -> None:
    keys, residuals, moment = problem(seed)
    basis, _ = null_space(moment, threshold=float("inf"))
    assert basis.shape[1] == len(moment)
    eye = Factor.of(torch.eye(len(moment), dtype=torch.float64))
    torch.testing.assert_close(
        ridge_in(basis, keys, residuals, l2).matrix,
        ridge(keys, residuals, eye, l2).matrix,
        atol=1e-8,
        rtol=1e-8,
    )


def test_no_null_space_means_no_change() -> None:
    keys, residuals, moment = problem(0)
    basis, _ = null_space(moment, threshold=0.0)
    assert basis.shape[1] == 0
    assert not ridge_in(basis, keys, residuals, 1.0).matrix.any()


@given(seeds, st.floats(0.5, 5), st.integers(1, 6))
def test_a_sequence_equals_one_batch(seed: int, l2: float, split: int) -> None:
    """Residuals against the current weights, past keys in M: the sum of two updates is the
    update of both at once (fixed keys). The best single test of a lifelong method."""
    keys, wanted, moment = problem(seed, n=7)
    basis, _ = null_space(moment, threshold=float("inf"))
    first = ridge_in(basis, keys[:, :split], wanted[:, :split], l2).matrix
    left = wanted[:, split:] - first @ keys[:, split:]
    # Cross terms with the first update vanish by its normal equation, so nothing is lost.
    second = ridge_in(basis, keys[:, split:], left, l2, keys[:, :split]).matrix
    together = ridge_in(basis, keys, wanted, l2).matrix
    torch.testing.assert_close(first + second, together, atol=1e-7, rtol=1e-7)


@given(seeds, st.floats(0.05, 0.95))
def test_energy_rule_protects_that_share_of_the_trace(seed: int, energy: float) -> None:
    _, _, moment = problem(seed)
    basis, values = null_space(moment, energy=energy)
    left = float(torch.trace(basis.T @ moment @ basis)) / float(values.sum())
    assert left <= 1 - energy + 1e-9
    same, _ = null_space(moment * 7.0, energy=energy)
    assert same.shape == basis.shape, "unlike the threshold, it does not depend on the scale"


# -- MEMIT in sequence, NSE, ENCORE: methods.md §4.9-4.10 ---------------------------------------


@given(seeds, st.floats(0.1, 20), st.floats(0, 20), st.integers(1, 6))
def test_past_keys_make_a_sequence_one_batch(
    seed: int, weight: float, shift: float, split: int
) -> None:
    """With M = λC + λ_n I + K_p K_pᵀ and residuals against the current weights."""
    keys, wanted, moment = problem(seed, n=7)
    some, rest = keys[:, :split], keys[:, split:]
    start = preserving(moment, weight, shift=shift)
    first = ridge(some, wanted[:, :split], start, weight).matrix
    left = wanted[:, split:] - first @ rest
    then = preserving(moment, weight, shift=shift, past=some)
    second = ridge(rest, left, then, weight).matrix
    together = ridge(keys, wanted, start, weight).matrix
    torch.testing.assert_close(first + second, together, atol=1e-7, rtol=1e-7)


@given(seeds)
def test_a_growing_norm_weight_shrinks_the_change_to_nothing(seed: int) -> None:
    keys, residuals, moment = problem(seed)
    norms = [
        float(ridge(keys, residuals, preserving(moment, 2.0, shift=s), 2.0).matrix.norm())
        for s in (0.0, 1.0, 10.0, 1e9)
    ]
    assert norms == sorted(norms, reverse=True) and norms[-1] < 1e-6 * norms[0]


@given(seeds, st.integers(0, 12), st.integers(1, 12), st.floats(0.1, 20))
def test_a_factor_that_holds_more_keys_is_that_of_the_sum(
    seed: int, p: int, r: int, weight: float
) -> None:
    """So what is factored from most of the past keys serves for some edits more."""
    keys, residuals, moment = problem(seed, n=3)
    past = problem(seed + 1, n=p + r)[0]
    factor = preserving(moment, weight, past=past[:, :p])
    for part in past[:, p:].split(4, dim=1):
        factor = factor.holding(part / weight**0.5)
    whole = preserving(moment, weight, past=past)
    torch.testing.assert_close(factor.solve(keys), whole.solve(keys), atol=1e-7, rtol=1e-7)
    basis, _ = null_space(moment, energy=0.5)
    held = inside(basis, weight, past[:, :p]).holding(basis.T @ past[:, p:])
    torch.testing.assert_close(
        ridge_in(basis, keys, residuals, weight, held=held).matrix,
        ridge_in(basis, keys, residuals, weight, past).matrix,
        atol=1e-7, rtol=1e-7,
    )  # fmt: skip
