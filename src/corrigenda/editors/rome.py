"""ROME: rank-one model editing, with R-ROME's keys by default.

ROME: Meng, Bau, Andonian, Belinkov 2022, 2202.05262. R-ROME: Gupta, Baskaran, Anumanchipalli
2024, 2403.07175.

One down-projection W stores k -> v. With C = E[k kᵀ] over ordinary text, the smallest change (in
tr(Δ C Δᵀ)) that sends the key k to v* is

    Δ = (v* - W k) (C⁻¹k)ᵀ / (kᵀC⁻¹k)

    keys="mean"   R-ROME: k = k̄, the mean key over sampled contexts, in numerator and divisor.
                  The wanted value is v̄ + δ, so every context is moved by the δ that was found.
    keys="plain"  p-ROME: the key of the bare prompt everywhere.
    keys="rome"   the original: direction from k̄, divisor and residual from the bare prompt. When
                  those nearly disagree the change explodes ("disabling edits"), so it is an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..errors import UnstableEditError
from ..numerics.solve import Factor, Update, equality
from ._rank_one import Keys, RankOneEditor

__all__ = ["ROME"]


@dataclass(frozen=True)
class ROME(RankOneEditor):
    """Rank-one change of one layer, one edit after another. See `KeyValueEditor` for the fields.

    keys  "mean" (R-ROME), "plain" (p-ROME) or "rome" (the original).
    """

    keys: Literal["mean", "plain", "rome"] = "mean"

    name: ClassVar[str] = "rome"
    title: ClassVar[str] = "ROME"
    paper: ClassVar[str] = "Meng et al. 2022, 2202.05262; R-ROME: Gupta et al. 2024, 2403.07175"

    def update(self, keys: Keys, found: Tensor, factor: Factor, weight: Tensor) -> Update:
        if self.keys != "rome":
            return equality(keys.mean if self.keys == "mean" else keys.plain, found, factor)
        direction = factor.solve(keys.mean)
        divisor = float(keys.plain.T @ direction)
        alignment = divisor / float(keys.mean.T @ direction)
        if abs(alignment) < 0.05:
            raise UnstableEditError(
                "ROME's divisor k₀ᵀC⁻¹k̄ is close to zero, so the edit would explode. Use "
                'keys="mean" (R-ROME), which cannot have this fault.'
            )
        return Update(found, direction.T / divisor, 1.0)
