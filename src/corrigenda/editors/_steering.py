"""What the methods share that add directions to the residual stream.

A contrast has two sides, each a text that answers the same prompt. `sides` reads the states that
they leave; a method makes a direction of them, and an `Affine` change adds it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..acting import Affine, place
from ..delta import Delta
from ..edit import Contrast
from ..editor import Editor, Solution
from ..models.asked import Asked
from ..models.text import TextModel
from ..models.tokens import pieces, separator
from ._states import states, writes

__all__ = ["DirectionEditor", "SteeringEditor", "added", "answering", "sides"]


@dataclass(frozen=True)
class SteeringEditor(Editor):
    """Hyperparameters of the steering editors.

    layers       blocks to whose output a direction is added. None: chosen by depth.
    coefficient  how much of it. A negative one steers to the negative side.
    relative     in multiples of the typical length of the states there, the direction having
                 length 1; otherwise of the direction as it is.

    An edit took if log p(positive) - log p(negative) after its prompt moved as asked.
    """

    layers: tuple[int, ...] | None = None
    coefficient: float = 1.0
    relative: bool = False

    family: ClassVar[str] = "steering"
    takes: ClassVar[type] = Contrast
    change: ClassVar[str] = "Affine"
    streams: ClassVar[bool] = True

    @abstractmethod
    def by_depth(self, model: TextModel) -> tuple[int, ...]:
        """The layers where none are given."""

    def resolved(self, model: TextModel) -> SteeringEditor:
        layers = self.by_depth(model) if self.layers is None else self.layers
        for layer in layers:
            model.block(layer)  # raises for a layer that does not exist
        return replace(self, layers=tuple(layers))

    def scaled(self, direction: Tensor, typical: float) -> Tensor:
        """What is added: the direction (..., d) times the coefficient."""
        if self.relative:
            length = direction.norm(dim=-1).max().clamp_min(1e-30)
            return self.coefficient * typical / length * direction
        return self.coefficient * direction

    def leaned(self, before: float, after: float) -> bool:
        return (after - before) * self.coefficient > 0


@dataclass(frozen=True)
class DirectionEditor(SteeringEditor):
    """One direction per layer, from the states that the two sides of all contrasts leave."""

    def solve(self, model: TextModel, edits: Sequence[Contrast], onto: Delta | None) -> Solution:
        found = sides(model, edits, self.layers or ())
        typical = {layer: _typical(*pair) for layer, pair in found.items()}
        return Solution(
            {
                place(model.path_of(model.block(layer))): self.acting(*pair, typical[layer])
                for layer, pair in found.items()
            },
            diagnostics={"typical length of states": typical},
        )

    @abstractmethod
    def acting(self, positive: Tensor, negative: Tensor, typical: float) -> Affine:
        """The change of one layer, from the states of both sides, each (n, d)."""


def answering(model: TextModel) -> range:
    """The layers that write the answer: the decoder's, or all."""
    read = len(model.prompt_layers)
    return range(read if read < model.n_layers else 0, model.n_layers)


def added(b: Tensor, where: Any) -> Affine:
    """The change that adds b (d,) or (t, d) and does nothing else."""
    return Affine(torch.zeros(b.shape[-1], 0), torch.zeros(0, b.shape[-1]), b, where)


def sides(
    model: TextModel, edits: Sequence[Contrast], layers: Sequence[int]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Layer -> states (n, d) of the positive sides and of the negative ones, at the last token of
    each: the answer letter, where answers are letters."""
    n, found = len(edits), {}
    for apart in (False, True):
        paths = {j: model.path_of(model.block(j)) for j in layers}
        mine = {j: path for j, path in paths.items() if writes(model, path) == apart}
        if not mine:
            continue
        asked = _written if apart else _told
        pairs = [asked(model, e.prompt, e.positive) for e in edits]
        pairs += [asked(model, e.prompt, e.negative) for e in edits]
        ends = dict(pairs)
        rows = [row for row, _ in pairs]
        read = states(model, rows, list(mine.values()), lambda row, _, at=ends: (at[row],))
        found |= {j: (read[path].x[:n], read[path].x[n:]) for j, path in mine.items()}
    return {j: found[j] for j in layers}


def _told(model: TextModel, prompt: str, text: str) -> tuple[Asked, int]:
    """A prompt with its answer as one text, and the answer's last token in it."""
    prompt = prompt.rstrip(" ")
    cut = pieces(model.tokenizer, prompt, text)
    joined = prompt + (separator(prompt, text) if prompt else "") + text.strip()
    decoder = model.opening(joined).decoder
    row = Asked(tuple(model.ids(joined)), (0,), (), max(cut.start - 1, 0), decoder)
    return row, len(cut.ids) - 1


def _written(model: TextModel, prompt: str, text: str) -> tuple[Asked, int]:
    """A prompt that the encoder reads and an answer that the decoder has written out, and the
    answer's last token in the decoder."""
    row = model.asked(prompt, text)
    whole = (*row.decoder, row.wanted[-1])
    return replace(row, decoder=whole), len(whole) - 1


def _typical(positive: Tensor, negative: Tensor) -> float:
    """Mean length of the states of both sides."""
    return float(torch.cat([positive, negative]).norm(dim=1).mean())
