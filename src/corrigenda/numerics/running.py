"""Running mean and variance of vectors, in float64, mergeable.

Welford 1962; the rule for merging two parts is that of Chan, Golub and LeVeque 1979:

    n = n_a + n_b      d = mean_b - mean_a
    mean = mean_a + d n_b / n            squares = squares_a + squares_b + d² n_a n_b / n
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Running"]


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of some vectors. mean: (d,). squares: (d,) sum of squared deviations from it.

    count  how many vectors there were. One has the variance 0, and so have none.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def zero(cls, size: int) -> Running:
        return cls(0, *torch.zeros(2, size, dtype=torch.float64))

    @classmethod
    def of(cls, rows: Tensor) -> Running:
        """Of vectors (n, d)."""
        if len(rows) == 0:
            return cls.zero(rows.shape[1])
        rows = rows.double()
        mean = rows.mean(0)
        return cls(len(rows), mean, (rows - mean).square().sum(0))

    def tensor(self) -> Tensor:
        """(3, d): count, mean and squares as they are kept in a delta's state."""
        return torch.stack([torch.full_like(self.mean, self.count), self.mean, self.squares])

    @classmethod
    def of_tensor(cls, kept: Tensor) -> Running:
        """What `tensor` wrote."""
        count, mean, squares = kept.double()
        return cls(round(float(count[0])), mean, squares)

    def merged(self, other: Running) -> Running:
        """Of both, as if their vectors had come at once."""
        n = self.count + other.count
        if n == 0:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / n)
        squares = self.squares + other.squares + apart.square() * (self.count * other.count / n)
        return Running(n, mean, squares)

    @property
    def variance(self) -> Tensor:
        """(d,) the unbiased one."""
        return self.squares / max(1, self.count - 1)

    def normalized(self, rows: Tensor, eps: float = 1e-8) -> Tensor:
        """(n, d) float64: (rows - mean) / (std + eps)."""
        return (rows.double() - self.mean) / (self.variance.sqrt() + eps)
