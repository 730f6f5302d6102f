"""ENCORE: MEMIT for long sequences of edits.

Gupta, Lu, Hartvigsen, Anumanchipalli 2025, 2502.01636.

Two things degrade a model over thousands of edits: values that are fitted further than they need
to be, and the growing norm of the edited weights. So the value search ends once the target is the
most probable answer in every context some times in a row, and what a layer preserves is

    M = λ C + λ_n I + K_p K_pᵀ          Δ = R Kᵀ (M + K Kᵀ)⁻¹

with K_p the keys of all earlier edits, kept in the delta's state. λ_n = 0 is MEMIT in sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..models.moments import Statistics
from ..models.text import TextModel
from ._spread import MEMIT_VALUES, Past, SpreadEditor, Writer, ridge_writer

__all__ = ["ENCORE"]


@dataclass(frozen=True)
class ENCORE(SpreadEditor):
    """Long sequences of edits with a bound on the norm. See `KeyValueEditor` for the other fields.

    weight       λ: how much ordinary keys are preserved.
    norm_weight  λ_n: how much the change is kept small in every direction.
    """

    weight: float | None = None
    norm_weight: float | None = None

    name: ClassVar[str] = "encore"
    title: ClassVar[str] = "ENCORE"
    paper: ClassVar[str] = "Gupta et al. 2025, 2502.01636"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {
        **MEMIT_VALUES,
        "weight": 15000.0,
        "norm_weight": 20.0,
        "stop": "answer",
        "patience": 2,
    }

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        assert self.weight is not None
        shift = self.norm_weight or 0.0
        return ridge_writer(model, statistics, self.weight, shift=shift, past=past)
