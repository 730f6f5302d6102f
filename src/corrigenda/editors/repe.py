"""RepE: representation engineering. The direction in which paired texts differ most is read and set.

Zou, Phan, Chen et al. 2023, 2310.01405.

    w = first principal direction of h(positive) - h(negative), its sign given by the labels
    reading    wᵀ h                                  how much of the concept a text shows
    control    add:      h ← h + α w                 at all tokens
               project:  h ← h - w wᵀ h

h (d,) is the output of a block, read at the last token. Of the paper's controls these two are
affine; a contrast vector, which takes a second forward pass for every prompt, is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..acting import Affine
from ..edit import Contrast
from ..models.text import TextModel
from ..numerics.erase import principal_direction
from ._states import last, opened, states
from ._steering import DirectionEditor, added, answering, sides

__all__ = ["RepE", "reading"]


@dataclass(frozen=True)
class RepE(DirectionEditor):
    """Representation control. See `SteeringEditor`; `coefficient` is α, for which the paper gives
    no value that fits all models: the default is a fifth of the typical length of a state.

    control  "add" the direction, or "project" it out. Projected out it favours neither side, and an
             edit took if the two came nearer to each other.
    layers   None: the blocks from half to four fifths of the depth.
    """

    coefficient: float = 0.2
    relative: bool = True
    control: Literal["add", "project"] = "add"

    name: ClassVar[str] = "repe"
    title: ClassVar[str] = "RepE"
    paper: ClassVar[str] = "Zou et al. 2023, 2310.01405"

    def by_depth(self, model: TextModel) -> tuple[int, ...]:
        layers = answering(model)
        n = len(layers)
        return tuple(layers[n // 2 : max(n // 2 + 1, round(0.8 * n))])

    def directions(self, model: TextModel, edits: Sequence[Contrast]) -> dict[int, Tensor]:
        """Layer -> w (d,), of length 1, pointing to the positive side."""
        layers = self.resolved(model).layers or ()
        return {
            layer: principal_direction(*pair) for layer, pair in sides(model, edits, layers).items()
        }

    def acting(self, positive: Tensor, negative: Tensor, typical: float) -> Affine:
        w = principal_direction(positive, negative)
        if self.control == "add":
            return added(self.scaled(w, typical), "all")
        return Affine(-w[:, None], w[None], torch.zeros_like(w), "all")

    def leaned(self, before: float, after: float) -> bool:
        if self.control == "project":
            return abs(after) < abs(before)
        return super().leaned(before, after)


def reading(
    model: TextModel, texts: Sequence[str], directions: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """Layer -> scores (n,) wᵀ h of texts at their last token; `directions` as `RepE` finds them."""
    paths = {layer: model.path_of(model.block(layer)) for layer in directions}
    found = states(model, opened(model, texts), list(paths.values()), last)
    return {layer: found[path].x.double() @ directions[layer] for layer, path in paths.items()}
