"""Fine-tuning one matrix: FT-M, and FT-L with its box.

FT-L: Zhu, Rawat, Zaheer, Bhojanapalli, Li, Yu, Kumar 2020, 2012.00363. FT-M: Zhang et al. 2024,
2401.01286 (EasyEdit), the same with the loss corrected.

Both train the down-projection W (and bias b) of one block by Adam:

    FT-M   min_Δ  -(1/m) Σ_t log p(target_t | prompt, target_<t; W + Δ)
    FT-L   the same with  ‖Δ‖_∞ <= box, by projection after every step

FT-L as it was published and is often compared against gathers the log-probabilities of *all*
target tokens from the last position of the prompt, so a target of several tokens is a bag of
first tokens. `loss="prompt_last"` reproduces that; the default is the loss above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..delta import Delta, Dense
from ..edit import Rewrite
from ..editor import Solution
from ..experts import as_map
from ..models.text import TextModel
from ._finetune import FineTuneEditor, examples

__all__ = ["FTL", "FTM"]


@dataclass(frozen=True)
class FTM(FineTuneEditor):
    """Fine-tune one down-projection on the whole target. See `FineTuneEditor` for the fields.

    bias  whether the projection's bias is trained too, where it has one.
    """

    bias: bool = True

    name: ClassVar[str] = "ft-m"
    title: ClassVar[str] = "FT-M"
    paper: ClassVar[str] = "Zhang et al. 2024, 2401.01286"
    paper_values: ClassVar[dict[str, Any]] = {"steps": 25, "lr": 5e-4}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        return self.dense(model, examples(model, edits), bias=self.bias)


@dataclass(frozen=True)
class FTL(FineTuneEditor):
    """Fine-tuning in a box around the original weights. See `FineTuneEditor` for other fields.

    box   largest change of any single weight; it holds exactly for the weights as written.
    bias  whether the projection's bias is trained too, where it has one.
    loss  "target", or "prompt_last" to reproduce the published loss.
    """

    box: float | None = None
    bias: bool = True
    loss: Literal["target", "prompt_last"] = "target"

    name: ClassVar[str] = "ft-l"
    title: ClassVar[str] = "FT-L"
    paper: ClassVar[str] = "Zhu et al. 2020, 2012.00363"
    paper_values: ClassVar[dict[str, Any]] = {"steps": 25, "lr": 5e-4, "box": 5e-4}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        box = self.box or 0.0
        found = self.dense(model, examples(model, edits, loss=self.loss), bias=self.bias, box=box)
        changes = {
            name: Dense(_inside(model, name, found.transposed, change.matrix(), box))
            for name, change in found.changes.items()
            if isinstance(change, Dense)
        }
        return replace(found, changes=changes)


@torch.no_grad()
def _inside(
    model: TextModel, name: str, transposed: frozenset[str], d: Tensor, box: float
) -> Tensor:
    """`d`, drawn towards 0 where rounding W + d would carry the written weight out of the box."""
    live = model.live
    before = live.value(name, live.deltas).double()
    for _ in range(4):
        delta = Delta({name: Dense(d)}, transposed & {name})
        after = live.value(name, (*live.deltas, delta))
        outside = (after.double() - before).abs() > box
        spacing = torch.finfo(after.dtype).eps * after.abs().float()
        if name in transposed:
            outside, spacing = outside.T, spacing.T
        # One spacing of floats at the weight is enough, unless several deltas are summed; the
        # second term is for weights that are finer than the fp32 change.
        outside, spacing = as_map(outside), as_map(spacing)
        outside, spacing = outside.cpu(), spacing.cpu() + torch.finfo(d.dtype).eps * d.abs()
        if not bool(outside.any()):
            return d
        d = torch.where(outside, d.sign() * (d.abs() - spacing).clamp_min(0), d)
    return torch.where(outside, torch.zeros_like(d), d)
