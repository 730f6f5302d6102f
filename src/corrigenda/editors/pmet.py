"""PMET: precise model editing in a transformer.

Li, Li, Song, Yang, Ma, Yu 2023, 2308.08742.

MEMIT's wanted hidden state is the sum of what attention, the MLP and the residual stream should
give, yet only the MLP is written. PMET searches δ_attention and δ_mlp together, each clamped and
decayed by itself, and keeps the MLP's part alone: attention takes up what belongs to it. At the
MLP's output v of the last edited layer

    R_l = (v + δ_mlp - V_L) / √(layers left)          Δ_l = R_l K_lᵀ (λ C_l + K_l K_lᵀ)⁻¹

The roots do not sum to one: more is written than is missing, because little of what lower layers
write reaches the MLP's output at the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from ..edit import Rewrite
from ..models.moments import Statistics
from ..models.text import TextModel
from ._keyvalue import Values
from ._spread import (
    MEMIT_VALUES,
    Past,
    Spread,
    SpreadEditor,
    Writer,
    ridge_writer,
    spread,
)

__all__ = ["PMET"]


@dataclass(frozen=True)
class PMET(SpreadEditor):
    """Many facts at once, with attention's share left out. See `KeyValueEditor` for the fields.

    weight  λ: how much ordinary keys are preserved against how well the facts are fitted.
    """

    weight: float | None = None

    name: ClassVar[str] = "pmet"
    title: ClassVar[str] = "PMET"
    paper: ClassVar[str] = "Li et al. 2023, 2308.08742"
    paper_values: ClassVar[dict[str, Any]] = {
        **MEMIT_VALUES,
        "weight": 15000.0,
        "steps": 30,
        "lr": 0.2,
        "kl_factor": 1.0,
        "stop": "divergence",
    }

    def wanted(self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str]) -> Values:
        self.place(model)  # raises where several layers cannot be written
        found = self.values(model, edits, contexts, "parts")
        return replace(found, initial=_mlp(found.initial), delta=_mlp(found.delta))

    def spread(
        self,
        model: TextModel,
        edits: Sequence[Rewrite],
        contexts: Sequence[str],
        values: Values,
        write: Writer,
    ) -> Spread:
        return spread(
            model,
            edits,
            contexts,
            self.sites(model),
            values.target,
            write,
            at="mlp",
            share=lambda left: left**-0.5,
        )

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        assert self.weight is not None
        return ridge_writer(model, statistics, self.weight)


def _mlp(parts: Tensor) -> Tensor:
    """The second half of (n, 2d)."""
    return parts.chunk(2, dim=1)[1]
