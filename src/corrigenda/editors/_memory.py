"""What editors share that recognise a prompt by one hidden state: keys, balls, where they are read.

The key of an edit is what stands at one linear map at the last token of its prompt (of a masked
model: at its first mask). Around it is a ball; a prompt whose own state lies inside is answered
with the edit. See `numerics.codebook` for how balls grow and share the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..acting import Balls, Pass, place
from ..edit import Rewrite
from ..editor import Editor
from ..errors import InputError
from ..model import Site
from ..models.asked import Asked
from ..models.hooks import captured, stopping
from ..models.text import TextModel
from . import presets

__all__ = ["CodebookEditor", "prompt_ends"]


@dataclass(frozen=True)
class CodebookEditor(Editor):
    """Hyperparameters of editors with a codebook. None means: the preset for the model, or else
    the paper's value.

    layers  blocks that are changed; they must read the prompt.
    radius  of the ball around a new key. Distances between keys differ by model and layer.
    steps   of Adam, at most.
    lr      learning rate.
    batch_size  edits that are trained side by side; does not change the result.
    """

    layers: tuple[int, ...] | None = None
    radius: float | None = None
    steps: int | None = None
    lr: float | None = None
    batch_size: int = 64

    family: ClassVar[str] = "memory"
    change: ClassVar[str] = "Memory"
    streams: ClassVar[bool] = True

    def resolved(self, model: TextModel) -> CodebookEditor:
        return presets.resolved(self, model)

    def reading(self, model: TextModel, role: str, layer: int) -> Site:
        """A linear map of a layer that reads the prompt. Raises `InputError` for other layers."""
        reads = model.prompt_layers
        if layer not in reads:
            raise InputError(
                f"{self.title} recognises prompts by a hidden state, so it needs a layer that "
                f"reads them: {reads[0]} to {reads[-1]} of {model.id}, not {layer}."
            )
        return model.site(role, layer)

    def keys(
        self, model: TextModel, site: Site, which: Literal["input", "output"], rows: Sequence[Asked]
    ) -> Tensor:
        """(n, d) fp32 keys of prompts, read at a linear map."""
        module = model.linear(site)
        parts = [prompt_ends(model, module, which, chunk) for chunk in self.chunks(rows)]
        return torch.cat(parts)

    def chunks(self, rows: Sequence[Asked]) -> list[Sequence[Asked]]:
        """The rows, so many at a time."""
        return [rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)]

    def balls(
        self,
        site: Site,
        which: Literal["input", "output"],
        keys: Tensor,
        edits: Sequence[Rewrite],
        choice: Sequence[int],
        centre: Literal["first", "mean"],
    ) -> Balls:
        """The scope of some edits. Two targets are the same if their texts are.

        Raises `InputError` for a radius that is not positive.
        """
        if not (self.radius or 0.0) > 0:
            raise InputError(f"The radius of a ball must be positive, not {self.radius}.")
        radii = torch.full((len(edits),), float(self.radius or 0.0))
        labels = tuple(e.target for e in edits)
        return Balls(place(site.module, which), keys, radii, labels, tuple(choice), centre)


@torch.no_grad()
def prompt_ends(
    model: TextModel, module: nn.Module, which: Literal["input", "output"], rows: Sequence[Asked]
) -> Tensor:
    """(n, d) fp32 what enters or leaves a module at the last token of each prompt."""
    questions = model.force(rows)
    with captured({"x": (module, which)}) as found, stopping(module):
        model.target_logits(questions)
    now = Pass(questions.rows.mask, questions.ends)
    x = now.rows(found["x"])  # (b, t, d)
    return x[torch.arange(len(x), device=x.device), now.last(x)].float().cpu()
