"""ActAdd: activation addition. What sets two short texts apart is added where a prompt begins.

Turner, Thiergart, Leech, Udell, Vazquez, Mini, MacDiarmid 2023, 2308.10248.

    b_j = h_j(positive) - h_j(negative)          j: token, the shorter text padded with spaces
    h_j ← h_j + c b_j                            at the first tokens of every prompt

h_j (d,) is the output of an early block. The two texts stand for themselves; the contrast's prompt is
where their effect is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..acting import place
from ..delta import Delta
from ..edit import Contrast
from ..editor import Solution
from ..errors import InputError
from ..models.asked import Asked
from ..models.text import TextModel
from ._states import every, states
from ._steering import SteeringEditor, added

__all__ = ["ActAdd"]


@dataclass(frozen=True)
class ActAdd(SteeringEditor):
    """Activation addition. See `SteeringEditor`; `coefficient` is c. Several contrasts add up.

    layers  None: the block at an eighth of the depth (the sixth of 48 in the paper, before whose
            successor the difference is added).
    """

    coefficient: float = 5.0

    name: ClassVar[str] = "actadd"
    title: ClassVar[str] = "ActAdd"
    paper: ClassVar[str] = "Turner et al. 2023, 2308.10248"

    def by_depth(self, model: TextModel) -> tuple[int, ...]:
        layers = model.prompt_layers
        return (layers[max(0, round(len(layers) / 8) - 1)],)

    def solve(self, model: TextModel, edits: Sequence[Contrast], onto: Delta | None) -> Solution:
        changes, typical = {}, {}
        rows = [row for edit in edits for row in _pair(model, edit)]
        for layer in self.layers or ():
            if layer not in model.prompt_layers:
                raise InputError(
                    f"ActAdd acts where the prompt is read, and layer {layer} of {model.id} does "
                    f"not read it. Choose among 0 to {model.prompt_layers[-1]}."
                )
            path = model.path_of(model.block(layer))
            found = states(model, rows, [path], every)[path]
            texts = [found.x[found.owner == j] for j in range(len(rows))]  # (t_j, d)
            # In many models the first token's state is the same in all texts, and far longer.
            own = torch.cat([t[1:] if len(t) > 1 else t for t in texts])
            typical[layer] = float(own.norm(dim=1).mean())
            total = torch.zeros(max(len(t) for t in texts), model.width)
            for positive, negative in zip(texts[::2], texts[1::2], strict=True):
                total[: len(positive)] += self.scaled(positive - negative, typical[layer])
            changes[place(path)] = added(total, "start")
        return Solution(changes, diagnostics={"typical length of states": typical})


def _pair(model: TextModel, edit: Contrast) -> list[Asked]:
    """Both texts in tokens, of equal length."""
    space = model.tokenizer(" ", add_special_tokens=False)["input_ids"]
    pad = space[0] if len(space) == 1 else model.pad_id
    texts = [model.ids(text) for text in (edit.positive, edit.negative)]
    length = max(len(ids) for ids in texts)
    decoder = model.opening("A text").decoder
    rows = [tuple(ids + [pad] * (length - len(ids))) for ids in texts]
    return [Asked(ids, (0,), (), length - 1, decoder) for ids in rows]
