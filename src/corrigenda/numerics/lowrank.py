"""Products of few columns: their rank, and the smallest factors that give the same product.

A change `D` of shape (o, i) is called numerically of rank r when r is the smallest rank that
leaves at most `tol` of its Frobenius norm:

    ‖D - D_r‖_F <= tol ‖D‖_F,      D_r the best rank-r approximation (Eckart and Young, 1936).

Everything is decided in float64 and returned in the dtype of what was given.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compress", "factorize", "inner", "numerical_rank", "settled", "stack_gram"]


SPARE = 8
"""Keys are folded into i columns once they are wider than that by one in so many."""


def stack_gram(a: Tensor, b: Tensor) -> Tensor:
    """Columns `K` with `K Kᵀ = a aᵀ + b bᵀ`, at most i and an eighth for i rows.

    a: (i, n), b: (i, m) hold keys as columns. They are put side by side; when that makes too many
    columns, they are replaced by at most i columns with the same second moment, from the
    eigenvectors: `K Kᵀ = Q Λ Qᵀ` gives `K' = Q Λ^½`. The eighth is there so that this costly step
    is not taken at every key of a long sequence.

    Raises `ValueError` when the rows differ.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]:
        raise ValueError(
            f"Keys are columns of equal length; got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    keys = torch.cat([a, b.to(a)], 1)  # (i, n + m)
    i, n = keys.shape
    if n <= i + i // SPARE:
        return keys
    wide = keys.double()
    values, vectors = torch.linalg.eigh(wide @ wide.T)  # ascending
    kept = values > values.max() * i * torch.finfo(torch.float64).eps
    return (vectors[:, kept] * values[kept].sqrt()).to(keys.dtype).contiguous()


def settled(keys: Tensor, block: int = 64) -> tuple[Tensor, Tensor]:
    """Keys (i, n) as those that have settled and the latest few: (i, q) and (i, n - q).

    q is the largest multiple of an eighth of i, or of `block` if that is more. While keys are only
    stacked, the first part stays as it is for that many keys: what is made of it can be kept.
    """
    i, n = keys.shape
    at = n - n % max(block, i // SPARE)
    return keys[:, :at], keys[:, at:]


def compress(u: Tensor, v: Tensor, tol: float = 1e-7) -> tuple[Tensor, Tensor]:
    """Factors of the same product with orthogonal columns and rows, and no more than needed.

    u: (o, r), v: (r, i). With `u = Q_u R_u` and `vᵀ = Q_v R_v`, the small matrix `R_u R_vᵀ`
    has the singular values of `u v`; what is below `tol` of the norm is dropped, and the rest is
    split evenly between the factors. Rank 0 when the product is 0.
    """
    if u.ndim != 2 or v.ndim != 2 or u.shape[1] != v.shape[0]:
        raise ValueError(
            f"Factors are u (o, r) and v (r, i); got {tuple(u.shape)} and {tuple(v.shape)}."
        )
    if u.shape[1] == 0:
        return u, v
    q_u, r_u = torch.linalg.qr(u.double())  # (o, k), (k, r)
    q_v, r_v = torch.linalg.qr(v.double().T)  # (i, l), (l, r)
    left, values, right = torch.linalg.svd(r_u @ r_v.T, full_matrices=False)
    rank = _rank(values, tol)
    root = values[:rank].sqrt()
    new_u = (q_u @ left[:, :rank]) * root  # (o, rank)
    new_v = root[:, None] * (right[:rank] @ q_v.T)  # (rank, i)
    return new_u.to(u.dtype).contiguous(), new_v.to(v.dtype).contiguous()


def numerical_rank(matrix: Tensor, tol: float = 1e-6) -> int:
    """Smallest rank that leaves at most `tol` of the Frobenius norm of `matrix` (o, i)."""
    return _rank(torch.linalg.svdvals(matrix.double()), tol)


def factorize(
    matrix: Tensor, tol: float = 1e-6, limit: int | None = None
) -> tuple[Tensor, Tensor] | None:
    """u (o, r) and v (r, i) with `‖matrix - u v‖ <= tol ‖matrix‖`, or None if r exceeds `limit`."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = _rank(values, tol)
    if limit is not None and rank > limit:
        return None
    root = values[:rank].sqrt()
    u, v = left[:, :rank] * root, root[:, None] * right[:rank]
    return u.to(matrix.dtype).contiguous(), v.to(matrix.dtype).contiguous()


def inner(u: Tensor, v: Tensor, other_u: Tensor, other_v: Tensor) -> float:
    """Frobenius inner product of two products, `<u v, u' v'> = tr(uᵀu' (v v'ᵀ)ᵀ)`, in float64."""
    left = u.double().T @ other_u.double()  # (r, r')
    right = v.double() @ other_v.double().T  # (r, r')
    return float((left * right).sum())


def _rank(values: Tensor, tol: float) -> int:
    """Smallest r with ‖values[r:]‖ <= tol ‖values‖, for values in descending order."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()  # tails[r] = ‖values[r:]‖
    return int((tails > tol * tails[0]).sum()) if len(tails) else 0
