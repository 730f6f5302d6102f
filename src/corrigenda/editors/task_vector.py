"""Task vectors: what fine-tuning on some texts does to the weights, as a thing to add and subtract.

Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi 2022, 2212.04089.

    τ = θ_fine-tuned - θ_0          θ = θ_0 + Σ_k λ_k τ_k

Here θ are the linear maps of the blocks with their biases, and τ is a delta. λ < 0 makes the model
forget what it was tuned on. Vectors of several tasks are put together by `corrigenda.merging`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..delta import Delta
from ..edit import Rewrite
from ..editor import Outcome, Solution
from ..model import Site
from ..models.text import TextModel
from ._finetune import FineTuneEditor, examples, linear_sites

__all__ = ["TaskVector"]


@dataclass(frozen=True)
class TaskVector(FineTuneEditor):
    """Fine-tune all linear maps on the edits and return scale · τ. See `FineTuneEditor`.

    layers  None: all blocks.
    roles   which linear maps of a block; None: all.
    scale   λ: 1 is the fine-tuned model, a negative one forgets the edits' targets; an edit then
            counts as taken when the model does not answer with its target.
    """

    roles: tuple[str, ...] | None = None
    scale: float = 1.0

    name: ClassVar[str] = "task-vector"
    title: ClassVar[str] = "Task vector"
    paper: ClassVar[str] = "Ilharco et al. 2022, 2212.04089"
    paper_values: ClassVar[dict[str, Any]] = {"steps": 25, "lr": 1e-5}

    def sites(self, model: TextModel) -> list[Site]:
        return linear_sites(model, self.layers or (), self.roles)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        found = self.dense(model, examples(model, edits), bias=True, shuffle=True)
        vector = Delta(found.changes, found.transposed) * self.scale
        return replace(found, changes=vector.changes)

    def outcomes(
        self, model: TextModel, delta: Delta, edits: Sequence[Any], notes: Mapping[int, str]
    ) -> list[Outcome]:
        found = super().outcomes(model, delta, edits, notes)
        if self.scale >= 0:
            return found
        return [o.model_copy(update={"took": not o.took, "note": "to be forgotten"}) for o in found]
