"""Uncentred second moments C = E[k kᵀ], streamed in float64 and mergeable.

A sum over tokens does not depend on how the tokens were batched beyond rounding, so partial sums
can be stored, resumed and merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SecondMoment"]


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """Σ k kᵀ and the number of keys in it. total: (i, i) float64."""

    total: Tensor
    count: int

    @classmethod
    def zero(cls, size: int, device: torch.device | str = "cpu") -> SecondMoment:
        return cls(torch.zeros(size, size, dtype=torch.float64, device=device), 0)

    @classmethod
    def identity(cls, size: int) -> SecondMoment:
        """C = I: no knowledge of which keys are common."""
        return cls(torch.eye(size, dtype=torch.float64), 1)

    def plus(self, keys: Tensor) -> SecondMoment:
        """Add keys (n, i)."""
        keys = keys.to(self.total.device, torch.float64)
        return SecondMoment(self.total + keys.T @ keys, self.count + len(keys))

    def merged(self, other: SecondMoment) -> SecondMoment:
        return SecondMoment(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """C = Σ k kᵀ / n, (i, i). Raises `ValueError` when nothing was added."""
        if self.count == 0:
            raise ValueError("No keys were added to this second moment.")
        return self.total / self.count
