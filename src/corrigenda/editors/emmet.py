"""EMMET: ROME's equality constraint for many facts at once.

Gupta, Sajnani, Anumanchipalli 2024, 2403.14236.

    Δ = R (Kᵀ(λC)⁻¹K + εI)⁻¹ Kᵀ(λC)⁻¹

ε = 0 meets ΔK = R exactly and one fact gives ROME's update. With ε > 0, as in the authors' code for
more than one fact, the result is exactly MEMIT's with weight ελ on the one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..delta import Delta, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..errors import EditError
from ..models.text import TextModel
from ..numerics.solve import Factor, equality
from ._keyvalue import ROME_VALUES, KeyValueEditor, mean_keys

__all__ = ["EMMET"]


@dataclass(frozen=True)
class EMMET(KeyValueEditor):
    """Many facts in one layer. See `KeyValueEditor` for the other fields.

    damping  ε, used for more than one fact; 0 asks for exact equality.
    weight   λ, the scale of C.
    """

    damping: float = 0.1
    weight: float | None = None

    name: ClassVar[str] = "emmet"
    title: ClassVar[str] = "EMMET"
    paper: ClassVar[str] = "Gupta et al. 2024, 2403.14236"
    paper_values: ClassVar[dict[str, Any]] = {**ROME_VALUES, "weight": 1000.0}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        (site,) = self.sites(model)[-1:]
        assert self.weight is not None
        statistics = self.moments(model)
        factor = Factor.of(statistics.moments[site].mean)
        contexts = self.contexts(model)
        values = self.values(model, edits, contexts, "mlp")
        keys = mean_keys(model, edits, contexts, site, equal=True)
        damping = self.damping if len(edits) > 1 else 0.0
        try:
            update = equality(
                keys, values.delta.double().T, factor, weight=self.weight, damping=damping
            )
        except ValueError as error:
            raise EditError(str(error)) from None
        return Solution(
            {site.parameter: LowRank(update.u, update.v)},
            self.transposed(model),
            statistics=statistics.provenance(),
            diagnostics={
                "contexts": list(contexts),
                "condition": update.condition,
                **values.diagnostics(),
            },
            notes=values.notes(),
            warnings=statistics.warnings,
            precompute_seconds=statistics.seconds,
        )
