"""Erasing a concept from vectors, and directions that stand for one.

LEACE (Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman 2023, 2306.03819): of all
affine maps after which no linear classifier of z from r(x) beats a constant, the one that moves x
least in mean square,

    r(x) = μ + P (x - μ),    P = I - W⁺ U Uᵀ W,    W = Σ^-½,    U: left singular vectors of W Σ_xz

with μ, Σ the mean and covariance of x, and Σ_xz its cross-covariance with z. P projects along
S = span(Σ_xz); it is kept as P = I - u v with u an orthonormal basis of S and v u = I, so that
every projection along S has the same u:

    leace    v = (uᵀ Σ⁺ u)⁻¹ uᵀ Σ⁺    the part in S becomes what the rest of x predicts of it
    orth     v = uᵀ                    the part in S is gone

Neither raises the total variance, and leace raises it in no direction: Σ - P Σ Pᵀ = W⁺ U Uᵀ W⁺.
The oracle form knows z when it erases:  r(x, z) = x - Σ_xz Σ_zz⁺ (z - μ_z).

Directions: the difference of class means (CAA, Rimsky et al. 2023, 2312.06681), the principal
direction of paired differences (RepE, Zou et al. 2023, 2310.01405), random ones as a control.
Fitted in float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "ConceptMoments",
    "Eraser",
    "OracleEraser",
    "difference_of_means",
    "fold",
    "leace",
    "oracle",
    "principal_direction",
    "random_directions",
]


@dataclass(frozen=True, slots=True)
class ConceptMoments:
    """What an eraser is fitted to: counts, means and centred sums of products, in float64.

    mean_x (d,), mean_z (k,); xx (d, d) = Σ (x - μ)(x - μ)ᵀ, and so xz (d, k) and zz (k, k).
    Batches are merged by their means (Chan et al. 1979), so a large common mean costs no digits.
    """

    count: int
    mean_x: Tensor
    mean_z: Tensor
    xx: Tensor
    xz: Tensor
    zz: Tensor

    @classmethod
    def of(cls, x: Tensor, z: Tensor) -> ConceptMoments:
        """The moments of rows x (n, d) and their concepts z (n, k): one-hot, real, or (n,).

        Raises `ValueError` when x and z do not go together or are not finite.
        """
        z = z[:, None] if z.ndim == 1 else z
        if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or len(x) == 0:
            raise ValueError(
                f"Rows x (n, d) and z (n, k) go together; got {tuple(x.shape)}, {tuple(z.shape)}."
            )
        x, z = x.double(), z.to(x.device, torch.float64)
        if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(z).all())):
            raise ValueError("Rows to fit an eraser to are not finite.")
        mean_x, mean_z = x.mean(0), z.mean(0)
        x, z = x - mean_x, z - mean_z
        return cls(len(x), mean_x, mean_z, x.T @ x, x.T @ z, z.T @ z)

    def plus(self, x: Tensor, z: Tensor) -> ConceptMoments:
        """With more rows; see `of`."""
        return self.merged(ConceptMoments.of(x, z))

    def merged(self, other: ConceptMoments) -> ConceptMoments:
        """The moments of both sets of rows together."""
        n = self.count + other.count
        dx, dz = other.mean_x - self.mean_x, other.mean_z - self.mean_z
        share, weight = other.count / n, self.count * other.count / n
        return ConceptMoments(
            n,
            self.mean_x + share * dx,
            self.mean_z + share * dz,
            self.xx + other.xx + weight * torch.outer(dx, dx),
            self.xz + other.xz + weight * torch.outer(dx, dz),
            self.zz + other.zz + weight * torch.outer(dz, dz),
        )

    def covariance(self, shrink: bool = False) -> Tensor:
        """Σ (d, d), unbiased; or shrunk to a multiple of I by as much as lowers its expected
        error (Bodnar, Gupta, Parolya 2014, 1308.2608): for few rows of many dimensions."""
        sigma = self.xx / max(self.count - 1, 1)
        if not shrink:
            return sigma
        trace, identity = sigma.trace(), torch.eye(len(sigma)).to(sigma)
        target = trace / len(sigma) * identity
        spread = (sigma - target).square().sum()
        share = (trace.square() / self.count / spread.clamp_min(1e-300)).clamp_max(1.0)
        return torch.lerp(sigma, target, share)


@dataclass(frozen=True, slots=True)
class Eraser:
    """r(x) = x - u v (x - μ). u: (d, r) orthonormal columns, v: (r, d) with v u = I, mean: (d,)."""

    u: Tensor
    v: Tensor
    mean: Tensor

    @classmethod
    def along(cls, directions: Tensor, mean: Tensor | None = None) -> Eraser:
        """Orthogonal projection away from the columns of directions (d, r), about `mean` or 0."""
        u = torch.linalg.qr(directions.double()).Q
        return cls(u, u.T, u.new_zeros(len(u)) if mean is None else mean.to(u))

    def __call__(self, x: Tensor) -> Tensor:
        """Erase from x (..., d). Computed in fp32 at least, returned in the dtype of x."""
        exact = torch.promote_types(x.dtype, torch.float32)
        u, v, mean = (t.to(x.device, exact) for t in (self.u, self.v, self.mean))
        return (x - (x.to(exact) - mean) @ v.T @ u.T).to(x.dtype)

    @property
    def rank(self) -> int:
        """How many dimensions are erased."""
        return self.u.shape[1]

    @property
    def matrix(self) -> Tensor:
        """P = I - u v, (d, d)."""
        return torch.eye(len(self.u)).to(self.u) - self.u @ self.v


@dataclass(frozen=True, slots=True)
class OracleEraser:
    """r(x, z) = x - A (z - μ_z). weight: A (d, k), mean: μ_z (k,)."""

    weight: Tensor
    mean: Tensor

    def __call__(self, x: Tensor, z: Tensor) -> Tensor:
        """Erase from x (n, d), whose concepts z are (n, k) or (n,)."""
        z = z[:, None] if z.ndim == 1 else z
        exact = torch.promote_types(x.dtype, torch.float32)
        weight, mean, z = (t.to(x.device, exact) for t in (self.weight, self.mean, z))
        return (x - (z - mean) @ weight.T).to(x.dtype)


def leace(
    moments: ConceptMoments,
    *,
    method: Literal["leace", "orth"] = "leace",
    affine: bool = True,
    shrink: bool = False,
    tolerance: float = 1e-8,
) -> Eraser:
    """The eraser of a concept.

    method     "leace", or "orth" for the orthogonal projection along the same subspace.
    affine     keep the mean of x; otherwise r(x) = P x.
    shrink     use the shrunk covariance. The erasure is as complete, its cost estimated better.
    tolerance  directions in which x correlates with z by no more than this are left alone (for
               "orth": by this share of the largest deviation of x).

    z is whitened too. That leaves the span as it is and turns singular values into canonical
    correlations, so the tolerance means the same for rare and for frequent classes.
    """
    sigma = moments.covariance(shrink and method == "leace")
    whiten = _inverse_root(sigma)  # W, (d, d)
    if method == "orth":
        # A multiple of I: the projection does not see it, the tolerance does.
        deviation = torch.linalg.matrix_norm(sigma, 2).clamp_min(1e-300).sqrt()
        whiten = torch.eye(len(sigma)).to(sigma) / deviation
    degrees = max(moments.count - 1, 1)
    cross = (moments.xz / degrees) @ _inverse_root(moments.zz / degrees)  # (d, k)
    _, correlation, right = torch.linalg.svd(whiten @ cross, full_matrices=False)
    u = torch.linalg.qr(cross @ right[correlation > tolerance].T).Q  # of span(Σ_xz), (d, r)
    v = torch.linalg.pinv(whiten @ u) @ whiten
    return Eraser(u, v, moments.mean_x if affine else torch.zeros_like(moments.mean_x))


def oracle(moments: ConceptMoments) -> OracleEraser:
    """The eraser that is told z: what remains is what a linear regression on z leaves."""
    root = _inverse_root(moments.zz)
    return OracleEraser(moments.xz @ root @ root, moments.mean_z)


def fold(eraser: Eraser, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """W' (o, d) and b' (o,) with W' x + b' = W r(x) + b: the eraser inside a linear map.

    weight (o, d), bias (o,) or None for 0. Computed in float64, returned in the weight's dtype.
    W' - W = -(W u) v has the rank of the eraser. Not possible through a norm.
    """
    wide = weight.double()
    image = wide @ eraser.u.to(wide)  # W u, (o, r)
    v, mean = eraser.v.to(wide), eraser.mean.to(wide)
    shift = image @ (v @ mean)
    folded = shift if bias is None else bias.to(wide) + shift
    return (wide - image @ v).to(weight.dtype), folded.to(weight.dtype)


def difference_of_means(positive: Tensor, negative: Tensor) -> Tensor:
    """(d,) mean of the rows positive (n, d) minus that of negative (m, d), in float64."""
    return positive.double().mean(0) - negative.double().mean(0)


def principal_direction(positive: Tensor, negative: Tensor) -> Tensor:
    """(d,) unit vector along which the pairs positive - negative, each (n, d), differ most.

    The first right singular vector of the differences, uncentred: centring would take away what
    all pairs have in common. An SVD knows no sign, the labels do: most pairs have the positive
    one ahead, or, where they are even, the pairs together.

    Raises `ValueError` when the rows are not in pairs.
    """
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise ValueError(
            f"Rows in pairs have equal shapes (n, d); got {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}. Without pairs use `difference_of_means`."
        )
    pairs = positive.double() - negative.double()
    direction = torch.linalg.svd(pairs, full_matrices=False).Vh[0]
    ahead = pairs @ direction  # (n,)
    votes = ahead.sign().sum()
    return -direction if float(votes if votes != 0 else ahead.sum()) < 0 else direction


def random_directions(size: int, count: int = 1, *, seed: int = 0) -> Tensor:
    """(size, count) random orthonormal columns: the control for any direction or eraser."""
    if not 0 <= count <= size:
        raise ValueError(f"There are at most {size} orthonormal directions, not {count}.")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise).Q


def _inverse_root(matrix: Tensor) -> Tensor:
    """M^-½ of a symmetric positive semi-definite M (m, m), 0 where M is 0 but for rounding: the
    columns of a one-hot z add up to a constant, and few rows leave Σ singular."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > values[-1].clamp_min(0) * max(1e-12, len(values) * 1e-15)
    return (vectors[:, kept] * values[kept].rsqrt()) @ vectors[:, kept].T
