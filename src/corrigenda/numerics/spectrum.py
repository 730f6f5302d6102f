"""The singular values of a matrix, and what they say about it.

With singular values σ_1 >= σ_2 >= ... and p_j = σ_j / Σσ:

    stable rank      ‖A‖_F² / σ_1²                        (Rudelson and Vershynin 2007)
    entropy          H = -Σ p_j log p_j, in nats
    effective rank   exp(H)                               (Roy and Vetterli 2007)
    leading share    σ_1² / ‖A‖_F²

All are unchanged by the sign of the matrix, its transposition, and its scale. Rounding adds noise
to every entry of a stored matrix; `rounding` says how large the singular values of that noise are,
so that a change of rank one is still seen to be one in bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Spectrum", "rounding", "spectrum"]

EXACT = 1e-12  # singular values below this share of the first are rounding of the SVD itself


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """A = Σ_j σ_j u_j v_jᵀ, with values (r,) descending, left (o, r) and right (r, i), float64."""

    values: Tensor
    left: Tensor
    right: Tensor

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return float(self.values.norm())

    def rank(self, noise: float = 0.0) -> int:
        """How many singular values stand out of noise whose own are at most `noise`."""
        if not len(self.values):
            return 0
        floor = max(noise, EXACT * float(self.values[0]))
        return int((self.values > floor).sum())

    @property
    def leading(self) -> float:
        """Share of the squared norm in the first component; 0 for the zero matrix."""
        whole = float(self.values.square().sum())
        return float(self.values[0]) ** 2 / whole if whole else 0.0

    @property
    def stable_rank(self) -> float:
        """0 for the zero matrix."""
        return 1 / self.leading if self.leading else 0.0

    @property
    def entropy(self) -> float:
        """In nats, between 0 and log(min(o, i)); 0 for the zero matrix."""
        total = self.values.sum()
        return float(torch.special.entr(self.values / total).sum()) if total else 0.0

    @property
    def effective_rank(self) -> float:
        """0 for the zero matrix."""
        return math.exp(self.entropy) if float(self.values.sum()) else 0.0

    def component(self, j: int = 0) -> Tensor:
        """(o, i) σ_j u_j v_jᵀ."""
        return self.values[j] * torch.outer(self.left[:, j], self.right[j])

    def cut(self, rank: int) -> Tensor:
        """(o, i) the best approximation of that rank (Eckart and Young 1936)."""
        return (self.left[:, :rank] * self.values[:rank]) @ self.right[:rank]


def spectrum(matrix: Tensor) -> Spectrum:
    """The singular value decomposition of a matrix (o, i), in float64 on the CPU."""
    left, values, right = torch.linalg.svd(matrix.cpu().double(), full_matrices=False)
    return Spectrum(values, left, right)


def rounding(matrix: Tensor) -> float:
    """About the largest singular value of the noise that storing `matrix` (o, i) in its dtype adds.

    An entry w is off by at most ½ ε |w|, evenly spread, so by s = ε |w| / √12 in the mean square. A
    matrix of independent entries of such deviations has singular values up to about the norm of its
    largest row of s plus that of its largest column (Bandeira and van Handel 2016); twice that is
    returned. 0 for an integer dtype.
    """
    if not matrix.is_floating_point() or matrix.ndim != 2 or not matrix.numel():
        return 0.0
    squares = matrix.double().square()
    widest = float(squares.sum(1).max().sqrt() + squares.sum(0).max().sqrt())
    return 2 * widest * torch.finfo(matrix.dtype).eps / math.sqrt(12)
