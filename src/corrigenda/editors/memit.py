"""MEMIT: mass-editing memory in a transformer.

Meng, Sen Sharma, Andonian, Belinkov, Bau 2022, 2210.07229.

For each fact a wanted hidden state z is found at the output of block L, the last edited one. Then
the down-projections of the edited blocks are changed in order, each taking its share of what is
left, with keys and hidden states read again after every write:

    R_l = (Z - H_L) / (layers left)          Δ_l = R_l K_lᵀ (λ C_l + K_l K_lᵀ)⁻¹

C = E[k kᵀ], so λ is in units of tokens of ordinary text. Where a norm stands between the MLP and
the residual stream (Gemma, OLMo 2), a residual measured after the norm does not match what is
written before it; there z is the MLP's own output and one layer is edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..model import Site
from ..models.text import TextModel
from ..numerics.solve import Factor, Update, ridge
from ._keyvalue import MEMIT_OPENINGS, MEMIT_VALUES, KeyValueEditor, spread

__all__ = ["MEMIT"]


@dataclass(frozen=True)
class MEMIT(KeyValueEditor):
    """Many facts at once, spread over several layers. See `KeyValueEditor` for the other fields.

    weight  λ: how much ordinary keys are preserved against how well the facts are fitted.
    """

    weight: float | None = None

    name: ClassVar[str] = "memit"
    title: ClassVar[str] = "MEMIT"
    paper: ClassVar[str] = "Meng et al. 2022, 2210.07229"
    openings: ClassVar[tuple[str, ...]] = MEMIT_OPENINGS
    paper_values: ClassVar[dict[str, Any]] = {**MEMIT_VALUES, "weight": 15000.0}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        assert self.weight is not None
        statistics, weight = self.moments(model), self.weight
        factors = {site: Factor.of(m.mean) for site, m in statistics.moments.items()}
        contexts = self.contexts(model)
        values = self.values(model, edits, contexts, self.spread_site(model))

        def update(site: Site, keys: Tensor, residuals: Tensor) -> Update:
            return ridge(keys, residuals, factors[site], weight)

        found = spread(model, edits, contexts, self.sites(model), values.target, update)
        return Solution(
            found.delta.changes,
            self.transposed(model),
            statistics=statistics.provenance(),
            diagnostics={
                "contexts": list(contexts),
                "residuals": found.residuals,
                **values.diagnostics(),
            },
            notes=values.notes(),
            warnings=statistics.warnings,
            precompute_seconds=statistics.seconds,
        )
