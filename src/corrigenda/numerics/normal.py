"""Normal equations of a ridge regression, and their derivatives in closed form.

For keys X (n, i) and wanted changes D (n, o) the minimiser of ‖X Δᵀ - D‖² + λ ‖Δ‖² is

    Δ = Aᵀ X      A = (X Xᵀ + λ I)⁻¹ D

and for a loss L with the gradient B = ∂L/∂A (n, o), which is X (∂L/∂Δ)ᵀ,

    ∂L/∂D = (X Xᵀ + λ I)⁻¹ B      ∂L/∂log λ = -λ ⟨A, ∂L/∂D⟩

so what made D can be differentiated by itself, piece by piece. With more keys than columns the
inverse is that of the small side: λ (X Xᵀ + λ I)⁻¹ = I - X (Xᵀ X + λ I)⁻¹ Xᵀ (Woodbury).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .solve import Factor

__all__ = ["NormalEquations"]


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Keys X (n, i) float64 and λ > 0, factored. factor: of the smaller of XXᵀ + λI, XᵀX + λI."""

    keys: Tensor
    ridge: float
    factor: Factor

    @classmethod
    def of(cls, keys: Tensor, ridge: float) -> NormalEquations:
        """Raises `ValueError` for keys that are not finite."""
        keys = keys.double()
        n, i = keys.shape
        gram = keys @ keys.T if n <= i else keys.T @ keys
        gram.diagonal().add_(ridge)
        return cls(keys, ridge, Factor.of(gram))

    def solve(self, wanted: Tensor) -> Tensor:
        """(XXᵀ + λI)⁻¹ of columns (n, m): A of D, and ∂L/∂D of ∂L/∂A. float64."""
        wanted, keys = wanted.double(), self.keys
        if keys.shape[0] <= keys.shape[1]:
            return self.factor.solve(wanted)
        return (wanted - keys @ self.factor.solve(keys.T @ wanted)) / self.ridge

    def ridge_gradient(self, solved: Tensor, backward: Tensor) -> Tensor:
        """∂L/∂log λ, from A = `solve(D)` and `solve(∂L/∂A)`, both (n, o)."""
        return -self.ridge * torch.sum(solved * backward)
