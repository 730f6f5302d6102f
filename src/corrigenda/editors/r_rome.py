"""R-ROME: ROME with one key everywhere.

Gupta, Baskaran, Anumanchipalli 2024, 2403.07175.

ROME takes its direction from the mean key k̄ over contexts, but its divisor and residual from the
key k₀ of the bare prompt; where k₀ᵀC⁻¹k̄ is near zero the change explodes and disables the model.
With the same key in every place the divisor is positive by construction:

    Δ = (v* - W k - b) (C⁻¹k)ᵀ / (kᵀC⁻¹k),      k = k̄ (R-ROME)  or  k = k₀ (p-ROME)

What v* is for the mean key is not said by the equation: v̄ + δ moves every context by the δ that
was found; v₀ + δ, from the bare prompt's value, is what public code takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..numerics.solve import Factor, Update, equality
from ._rank_one import Keys, RankOneEditor

__all__ = ["RROME"]


@dataclass(frozen=True)
class RROME(RankOneEditor):
    """Rank-one change of one layer that cannot explode. See `KeyValueEditor` for the fields.

    keys   "mean" (R-ROME) or "plain" (p-ROME: slightly better efficacy, worse generalization).
    value  for the mean key, v* = v̄ + δ ("mean") or v₀ + δ ("plain").
    """

    keys: Literal["mean", "plain"] = "mean"
    value: Literal["mean", "plain"] = "mean"

    name: ClassVar[str] = "r-rome"
    title: ClassVar[str] = "R-ROME"
    paper: ClassVar[str] = "Gupta et al. 2024, 2403.07175"

    def update(self, keys: Keys, found: Tensor, factor: Factor, weight: Tensor) -> Update:
        if self.keys == "plain":
            return equality(keys.plain, found, factor)
        if self.value == "plain":
            # v₀ + δ - v̄ = δ - W (k̄ - k₀): the bias is in both values.
            found = found - weight.double().cpu() @ (keys.mean - keys.plain)
        return equality(keys.mean, found, factor)
