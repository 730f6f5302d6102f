"""LocFT-BF: localized fine-tuning, breadth first.

Yang et al. 2025, 2509.22072. Fine-tuning has a bad name as an editor because it was run sample by
sample, each fact to convergence before the next ("depth first"), which overwrites the facts
before. Here all edits are shuffled in every epoch and trained in mini-batches, on one well-chosen
down-projection W:

    min_Δ  mean_j -(1/m_j) Σ_t log p(t | prompt_j, target_j,<t; W + Δ)      target + EOS, Adam

It needs all edits at hand; edits that come later should be trained together with the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..models.text import TextModel
from ._finetune import FineTuneEditor, examples

__all__ = ["LocFTBF"]


@dataclass(frozen=True)
class LocFTBF(FineTuneEditor):
    """Breadth-first fine-tuning of one matrix. See `FineTuneEditor` for the other fields.

    eos  train the target to be followed by the end-of-text token, as in the paper. It stops the
         answer in time; probabilities of the target alone are not affected by it.
    """

    batch_size: int = 100
    eos: bool = True

    name: ClassVar[str] = "locft-bf"
    title: ClassVar[str] = "LocFT-BF"
    paper: ClassVar[str] = "Yang et al. 2025, 2509.22072"
    paper_values: ClassVar[dict[str, Any]] = {"steps": 25, "lr": 5e-4}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        return self.dense(model, examples(model, edits, eos=self.eos), bias=False, shuffle=True)
