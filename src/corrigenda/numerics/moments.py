"""Uncentred second moments C = E[k kᵀ], streamed in float64 and mergeable.

A sum over tokens does not depend on how the tokens were batched beyond rounding, so partial sums
can be stored, resumed and merged. Keys of a mixture of experts are so wide that only the blocks on
the diagonal are kept, one per expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SecondMoment"]


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """Σ k kᵀ and the number of keys in it. total: (i, i) float64, or blocks (e, i, i) of (e·i)²."""

    total: Tensor
    count: int

    @classmethod
    def zero(
        cls, size: int, device: torch.device | str = "cpu", *, blocks: int = 0
    ) -> SecondMoment:
        """For keys (size,), of which `blocks` equal parts are seen apart if that is not 0."""
        shape = (blocks, size // blocks, size // blocks) if blocks else (size, size)
        return cls(torch.zeros(shape, dtype=torch.float64, device=device), 0)

    @classmethod
    def identity(cls, size: int, *, blocks: int = 0) -> SecondMoment:
        """C = I: no knowledge of which keys are common."""
        one = torch.eye(size // max(1, blocks), dtype=torch.float64)
        return cls(one.repeat(blocks, 1, 1) if blocks else one, 1)

    def plus(self, keys: Tensor) -> SecondMoment:
        """Add keys (n, i)."""
        keys = keys.to(self.total.device, torch.float64)
        if self.total.ndim == 2:
            return SecondMoment(self.total + keys.T @ keys, self.count + len(keys))
        parts = keys.view(len(keys), len(self.total), -1).transpose(0, 1)  # (e, n, i)
        return SecondMoment(self.total + parts.mT @ parts, self.count + len(keys))

    def merged(self, other: SecondMoment) -> SecondMoment:
        return SecondMoment(self.total + other.total, self.count + other.count)

    def within(self, chosen: Tensor) -> Tensor:
        """(m, m) the rows and columns of C for m entries of the keys."""
        if self.total.ndim == 2:
            return self.mean[chosen][:, chosen]
        size = self.total.shape[-1]
        block, at = chosen // size, chosen % size
        same = block[:, None] == block[None]
        return torch.where(same, self.mean[block[:, None], at[:, None], at[None]], 0.0)

    @property
    def mean(self) -> Tensor:
        """C = Σ k kᵀ / n, (i, i) or blocks (e, i, i). Raises `ValueError` when nothing was added."""
        if self.count == 0:
            raise ValueError("No keys were added to this second moment.")
        return self.total / self.count
