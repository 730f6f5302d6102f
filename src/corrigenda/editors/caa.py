"""CAA: contrastive activation addition. The mean difference between two kinds of answers is added.

Rimsky, Gabrieli, Schulz, Tong, Hubinger, Turner 2023, 2312.06681.

    v = mean over pairs of  h(prompt + positive) - h(prompt + negative)      at the answer's last token
    h ← h + α v                                                              after the prompt

h (d,) is the output of a block. The prompt's last token counts as after it: the answer is decided
there. In the decoder of an encoder-decoder every token comes after the prompt; the prompt itself is
in its encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..acting import Affine
from ..models.text import TextModel
from ..numerics.erase import difference_of_means
from ._steering import DirectionEditor, added, answering

__all__ = ["CAA"]


@dataclass(frozen=True)
class CAA(DirectionEditor):
    """Contrastive activation addition. See `SteeringEditor`; `coefficient` is α.

    layers  None: the block at two fifths of the depth (the 13th of 32 in the paper).
    """

    name: ClassVar[str] = "caa"
    title: ClassVar[str] = "CAA"
    paper: ClassVar[str] = "Rimsky et al. 2023, 2312.06681"

    def by_depth(self, model: TextModel) -> tuple[int, ...]:
        layers = answering(model)
        return (layers[round(0.4 * len(layers))],)

    def acting(self, positive: Tensor, negative: Tensor, typical: float) -> Affine:
        direction = difference_of_means(positive, negative)
        return added(self.scaled(direction, typical), "answer")
