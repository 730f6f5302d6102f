"""PRUNE: restrain the singular values of all edits together.

Ma, Wang, Xu, Ling, Gu 2024, 2405.16821 ("Perturbation-Restrained Sequential Model Editing").

The condition number of an edited matrix grows with the number of edits, and its largest new
singular values are what does the harm. With s = σ_max(W₀) and the sum of all edits U diag(σ) Vᵀ,

    σ' = σ                          for σ <= s
    σ' = log σ - log s + s          for σ > s,  never more than σ

The sum is always taken from W₀: the new change is restrained(onto + new) - onto. To restrain a
sequence once, at its end, edit without this wrapper and put the last edit through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..delta import Dense, LowRank
from ..errors import InputError
from ..models.text import TextModel
from ._wrapped import FilterEditor, Place

__all__ = ["PRUNE", "excess", "restrain"]


@dataclass(frozen=True)
class PRUNE(FilterEditor):
    """Another editor's changes, with the singular values of their sum restrained.

    base  of the logarithm: the larger, the stronger the restraint.
    """

    base: float = math.e

    name: ClassVar[str] = "prune"
    title: ClassVar[str] = "PRUNE"
    paper: ClassVar[str] = "Ma et al. 2024, 2405.16821"
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base > 1:
            raise InputError(f"PRUNE needs a logarithm's base above 1, not {self.base}.")

    def restrained(
        self, model: TextModel, change: LowRank | Dense, place: Place
    ) -> LowRank | Dense:
        limit = model.remembered(
            f"spectral-{place.name}-{model.live.pristine_hash(place.name)}",
            lambda: float(torch.linalg.matrix_norm(place.pristine.double(), 2)),
        )
        total = change if place.earlier is None else place.earlier.plus(change)
        u, v = excess(total, limit, self.base)
        return change.plus(LowRank(-u, v)) if u.shape[1] else change


def restrain(values: Tensor, limit: float, base: float = math.e) -> Tensor:
    """σ' of singular values σ: monotone, continuous at the limit, and never more than σ.

    The paper's logarithm alone is larger than σ near a limit below 1 / ln(base).
    """
    compressed = (values / limit).clamp_min(1).log() / math.log(base) + limit
    return torch.where(values > limit, torch.minimum(values, compressed), values)


def excess(total: LowRank | Dense, limit: float, base: float) -> tuple[Tensor, Tensor]:
    """u (o, r), v (r, i): U diag(σ - σ') Vᵀ of the r singular values above the limit."""
    left, values, right = _svd(total)
    over = values > limit
    surplus = (values - restrain(values, limit, base))[over]
    return left[:, over] * surplus, right[over]


def _svd(total: LowRank | Dense) -> tuple[Tensor, Tensor, Tensor]:
    """U (o, r), σ (r,), Vᵀ (r, i) in float64; for few columns through their QR factors."""
    if isinstance(total, Dense) or total.rank >= min(total.shape):
        return torch.linalg.svd(total.matrix().double(), full_matrices=False)
    q_u, r_u = torch.linalg.qr(total.u.double())  # (o, r), (r, r)
    q_v, r_v = torch.linalg.qr(total.v.double().T)  # (i, r), (r, r)
    left, values, right = torch.linalg.svd(r_u @ r_v.T)
    return q_u @ left, values, right @ q_v.T
