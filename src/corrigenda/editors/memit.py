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

from dataclasses import dataclass
from typing import Any, ClassVar

from ..models.moments import Statistics
from ..models.text import TextModel
from ._spread import MEMIT_VALUES, Past, SpreadEditor, Writer, ridge_writer

__all__ = ["MEMIT"]


@dataclass(frozen=True)
class MEMIT(SpreadEditor):
    """Many facts at once, spread over several layers. See `KeyValueEditor` for the other fields.

    weight  λ: how much ordinary keys are preserved against how well the facts are fitted.
    """

    weight: float | None = None

    name: ClassVar[str] = "memit"
    title: ClassVar[str] = "MEMIT"
    paper: ClassVar[str] = "Meng et al. 2022, 2210.07229"
    paper_values: ClassVar[dict[str, Any]] = {**MEMIT_VALUES, "weight": 15000.0}

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        assert self.weight is not None
        return ridge_writer(model, statistics, self.weight)
