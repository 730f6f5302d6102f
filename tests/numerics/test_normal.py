"""Normal equations and their closed-form derivatives, against autograd."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given

from corrigenda.numerics.normal import NormalEquations


def drawn(n: int, i: int, o: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = ((n, i), (n, o), (o, i))
    x, d, weight = (torch.randn(s, generator=g, dtype=torch.float64) for s in sizes)
    return x, d, weight


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6), st.floats(-2, 3)
)
def test_the_change_is_the_ridge_solution(n, i, o, seed, log_ridge):
    x, d, _ = drawn(n, i, o, seed)
    ridge = torch.tensor(log_ridge).double().exp()
    equations = NormalEquations.of(x, float(ridge))
    found = equations.solve(d).T @ x
    expected = torch.linalg.solve(x.T @ x + ridge * torch.eye(i).double(), x.T @ d).T
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6), st.floats(-2, 3)
)
def test_the_derivatives_are_those_of_autograd(n, i, o, seed, log_ridge):
    """∂L/∂D = (XXᵀ + λI)⁻¹ ∂L/∂A, and ∂L/∂log λ, on both sides of Woodbury."""
    x, d, weight = drawn(n, i, o, seed)
    d.requires_grad_()
    log = torch.tensor(log_ridge, dtype=torch.float64, requires_grad=True)
    delta = torch.linalg.solve(x.T @ x + log.exp() * torch.eye(i).double(), x.T @ d).T
    (weight * delta.sin()).sum().backward()
    assert d.grad is not None and log.grad is not None

    equations = NormalEquations.of(x, float(log.detach().exp()))
    solved = equations.solve(d.detach())
    upstream = weight * (solved.T @ x).cos()  # ∂L/∂Δ (o, i)
    backward = equations.solve(x @ upstream.T)
    torch.testing.assert_close(backward, d.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        equations.ridge_gradient(solved, backward), log.grad, rtol=1e-6, atol=1e-9
    )
