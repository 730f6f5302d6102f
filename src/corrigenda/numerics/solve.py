"""One solver behind most closed-form editors.

With keys K (i, n), wanted output changes R (o, n) and a preservation matrix M (i, i) > 0, the
minimiser of  ‖Δ K - R‖² + tr(Δ M Δᵀ)  is

    Δ = R Kᵀ (M + K Kᵀ)⁻¹ = R (I + Kᵀ M⁻¹ K)⁻¹ Kᵀ M⁻¹                      (Woodbury)

The second form costs one solve with a factorisation of M, which is computed once per layer, and
an n x n system. Its limit for M -> 0 in scale meets ΔK = R exactly:

    Δ = R (Kᵀ M⁻¹ K)⁻¹ Kᵀ M⁻¹

M may be given as its blocks on the diagonal, (e, i, i), for keys of size e·i.

Everything is float64; deltas come out as factors u (o, n), v (n, i).

Sources: ROME (Meng et al. 2022, 2202.05262), MEMIT (Meng et al. 2022, 2210.07229), EMMET (Gupta et
al. 2024, 2403.14236), AlphaEdit (Fang et al. 2024, 2410.02355).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Factor",
    "Update",
    "equality",
    "inside",
    "null_space",
    "preserving",
    "ridge",
    "ridge_in",
]


@dataclass(frozen=True, slots=True)
class Update:
    """A solved change Δ = u v. u: (o, n), v: (n, i), float64. condition: of the n x n system."""

    u: Tensor
    v: Tensor
    condition: float

    @property
    def matrix(self) -> Tensor:
        return self.u @ self.v


@dataclass(frozen=True, slots=True)
class Factor:
    """Cholesky factor of a symmetric positive (semi-)definite matrix, with the jitter it took.

    lower   (i, i) float64, M + jitter·I = lower lowerᵀ; or blocks (e, i, i).
    jitter  0 unless M was singular to working precision.
    keys    (i, r) columns K whose K Kᵀ is added to the matrix: see `holding`. None: no such.
    """

    lower: Tensor
    jitter: float = 0.0
    keys: Tensor | None = None

    @classmethod
    def of(cls, matrix: Tensor) -> Factor:
        """Factor M (i, i); adds the smallest of a few multiples of its mean diagonal if needed.

        Raises `ValueError` if M is not finite or indefinite beyond repair.
        """
        matrix = matrix.double()
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("The matrix to factor is not finite.")
        scale = float(_diagonal(matrix).mean().clamp_min(1e-300))
        for share in (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4):
            shifted = (
                matrix
                if share == 0
                else matrix
                + share
                * scale
                * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            )
            lower, info = torch.linalg.cholesky_ex(shifted)
            if not bool(info.any()):
                return cls(lower, share * scale)
        raise ValueError("The matrix to factor is not positive definite.")

    def holding(self, keys: Tensor) -> Factor:
        """The factor of M + K Kᵀ, keys K (i, r), without factoring anew: a solve costs i² r more.

        M is one matrix here, not blocks.
        """
        keys = keys.double()
        both = keys if self.keys is None else torch.cat([self.keys, keys], 1)
        return Factor(self.lower, self.jitter, both if both.shape[1] else None)

    def solve(self, right: Tensor) -> Tensor:
        """M⁻¹ right, (i, n)."""
        if self.keys is None:
            return self._solve(right)
        # Woodbury: (M + K Kᵀ)⁻¹ = M⁻¹ - M⁻¹K (I + KᵀM⁻¹K)⁻¹ KᵀM⁻¹
        r = self.keys.shape[1]
        held, found = self._solve(torch.cat([self.keys, right.double()], 1)).tensor_split([r], 1)
        small = self.keys.T @ held
        small.diagonal().add_(1.0)
        return found - held @ torch.linalg.solve(small, self.keys.T @ found)

    def _solve(self, right: Tensor) -> Tensor:
        """The same without `keys`."""
        right = right.double()
        if self.lower.ndim == 2:
            return torch.cholesky_solve(right, self.lower)
        parts = right.reshape(*self.lower.shape[:2], -1)
        return torch.cholesky_solve(parts, self.lower).reshape(right.shape)


def preserving(
    moment: Tensor, weight: float, *, shift: float = 0.0, past: Tensor | None = None
) -> Factor:
    """Factor of M / λ for `ridge(..., weight=λ)`, where M = λC + shift·I + K_pK_pᵀ.

    moment  C (i, i).
    weight  λ > 0.
    shift   how much every direction is held alike (ENCORE's λ_n, 2502.01636).
    past    (i, p) keys of earlier edits. With residuals against the current weights, a sequence of
            updates is then the update of all edits at once.
    """
    matrix = moment.double().clone()
    if past is not None:
        past = past.double()
        if matrix.ndim == 3:
            past = past.reshape(*matrix.shape[:2], -1)
        matrix += (past @ past.mT) / weight
    _diagonal(matrix).add_(shift / weight)
    return Factor.of(matrix)


def ridge(keys: Tensor, residuals: Tensor, preserve: Factor, weight: float = 1.0) -> Update:
    """argmin ‖ΔK - R‖² + weight · tr(Δ M Δᵀ).

    keys (i, n), residuals (o, n), preserve: factor of M (i, i). With weight λ and M = C this is
    MEMIT's update  Δ = R Kᵀ (λC + KKᵀ)⁻¹.
    """
    keys, residuals = keys.double(), residuals.double()
    solved = preserve.solve(keys) / weight  # M⁻¹K / λ, (i, n)
    small = keys.T @ solved
    small.diagonal().add_(1.0)
    v = torch.linalg.solve(small, solved.T)
    return Update(residuals, v, _condition(small))


def equality(
    keys: Tensor, residuals: Tensor, preserve: Factor, *, weight: float = 1.0, damping: float = 0.0
) -> Update:
    """argmin tr(Δ M Δᵀ) subject to ΔK = R.

    keys (i, n), residuals (o, n). One key gives ROME's Δ = r (M⁻¹k)ᵀ / (kᵀM⁻¹k); several give
    EMMET. damping ε adds εI to the n x n system of weight · M, which trades exactness for
    stability and makes the result that of `ridge` with weight ε · weight.

    Raises `ValueError` when keys are linearly dependent and damping is 0.
    """
    keys, residuals = keys.double(), residuals.double()
    solved = preserve.solve(keys) / weight
    small = keys.T @ solved
    condition = _condition(small)
    if damping == 0 and not condition < 1e12:
        raise ValueError(
            f"The {keys.shape[1]} keys are linearly dependent (condition {condition:.1e}): two "
            "edits share a subject and a prompt. Remove one, or use damping > 0."
        )
    small.diagonal().add_(damping)
    return Update(residuals, torch.linalg.solve(small, solved.T), condition)


def inside(basis: Tensor, weight: float, past: Tensor | None = None) -> Factor:
    """Factor of UᵀK_pK_pᵀU + weight·I for orthonormal columns U (i, m) and past keys (i, p)."""
    basis = basis.double()
    matrix = torch.zeros(basis.shape[1], basis.shape[1], dtype=basis.dtype, device=basis.device)
    if past is not None:
        behind = basis.T @ past.double()  # (m, p)
        matrix = behind @ behind.T
    _diagonal(matrix).add_(weight)
    return Factor.of(matrix)


def ridge_in(
    basis: Tensor,
    keys: Tensor,
    residuals: Tensor,
    weight: float,
    past: Tensor | None = None,
    held: Factor | None = None,
) -> Update:
    """Ridge regression inside the span of orthonormal columns U (i, m): Δ = Δ U Uᵀ.

    Δ = R K̂ᵀ (K̂K̂ᵀ + K̂_pK̂_pᵀ + weight·I)⁻¹ Uᵀ   with K̂ = UᵀK. past: (i, p) keys of earlier edits,
    which the update should not move. weight > 0. This is AlphaEdit with P = UUᵀ.

    held  `inside(basis, weight, past)`, where that was made before.
    """
    basis = basis.double()
    if basis.shape[1] == 0:
        nothing = basis.new_zeros(keys.shape[1], len(basis))
        return Update(residuals.double(), nothing, 1.0)
    found = ridge(basis.T @ keys.double(), residuals, held or inside(basis, weight, past))
    return Update(found.u, found.v @ basis.T, found.condition)


def null_space(
    moment: Tensor, *, threshold: float | None = None, energy: float | None = None
) -> tuple[Tensor, Tensor]:
    """Eigenvectors of C (i, i) with small eigenvalues: directions that ordinary keys rarely take.

    threshold  keep eigenvalues below this absolute value (AlphaEdit's rule).
    energy     drop the leading directions that hold at least this share of the trace.
    Exactly one of the two. Returns U₀ (i, m) with orthonormal columns, and all eigenvalues (i,).
    """
    if (threshold is None) == (energy is None):
        raise ValueError("Give either threshold or energy.")
    values, vectors = torch.linalg.eigh(moment.double())
    values = values.clamp_min(0)
    if moment.ndim == 3:
        values, order = values.flatten().sort()
        vectors = torch.block_diag(*vectors)[:, order]
    if threshold is not None:
        keep = values < threshold
    else:
        larger = values.flip(0).cumsum(0).flip(0) - values  # what the leading ones hold together
        keep = larger >= energy * values.sum()
    return vectors[:, keep], values


def _diagonal(matrix: Tensor) -> Tensor:
    """A view of the diagonal of M, or of those of its blocks."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def _condition(matrix: Tensor) -> float:
    if matrix.numel() == 0:
        return 1.0
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    low, high = float(values[0]), float(values[-1])
    return high / low if low > 0 else float("inf")
