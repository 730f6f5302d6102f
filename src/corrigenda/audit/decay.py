"""Does an edit survive what is later done to the model?

    tuned      fine-tuning on other facts, which are told as they are
    rounded    a round trip of the edited tensors through a coarser grid: bfloat16, float16, 8 and 4 bit
    merged     the edit is scaled by half, as a merge with the unedited model does

The integer grids are symmetric, with one scale per row of the map and the largest entry at the end of
the grid (absmax): w -> s round(w / s), s = max|w| / (2^(b-1) - 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..delta import Delta, Dense, LowRank
from ..edit import Rewrite
from ..editor import EditWarning
from ..editors import make
from ..errors import InputError
from ..experts import as_map
from ..models.text import TextModel
from .check import Check, holds, share

__all__ = ["merged", "quantised", "rounded", "tuned"]

GRIDS = ("bfloat16", "float16", "int8", "int4")


def quantised(weight: Tensor, grid: str) -> Tensor:
    """A matrix (o, i) or a vector after a round trip through a grid, in its own dtype.

    Raises `InputError` for a grid that is none of bfloat16, float16, int8, int4.
    """
    if grid in ("bfloat16", "float16"):
        return weight.to(getattr(torch, grid)).to(weight.dtype)
    bits = {"int8": 8, "int4": 4}.get(grid)
    if bits is None:
        raise InputError(f"There is no grid {grid!r}; take one of {', '.join(GRIDS)}.")
    w = weight.float()
    top = 2 ** (bits - 1) - 1
    scale = (w.abs().amax(-1, keepdim=True) / top).clamp_min(torch.finfo(torch.float32).tiny)
    return ((w / scale).round().clamp(-top, top) * scale).to(weight.dtype)


def rounded(
    model: TextModel, delta: Delta, edits: Sequence[Rewrite], grids: Sequence[str] = GRIDS
) -> tuple[Check, ...]:
    """On the unedited model: edits that hold when the edited matrices are rounded."""
    found = []
    prompts = [edit.text for edit in edits]
    for grid in grids:
        change = _rounded(model, delta, grid)
        if change is None:
            continue
        with change.applied(model):
            outcomes = holds(model, prompts, edits)
        about = f"holds after rounding edited matrices to {grid}"
        found.append(share(f"gen.rounded.{grid}", about, outcomes, edits=edits))
    return tuple(found)


def _rounded(model: TextModel, delta: Delta, grid: str) -> Delta | None:
    """What leads from the unedited weights to the edited ones as the grid has them."""
    changes: dict[str, LowRank | Dense] = {}
    for name in delta.weights:
        before = model.live.pristine(name)
        after = as_map(model.live.value(name, [delta], merged=True))
        flip = name in delta.transposed
        now = quantised(after.T if flip else after, grid)
        was = as_map(before)
        changes[name] = Dense(now.float() - (was.T if flip else was).float())
    if not changes:
        return None
    return Delta(changes, delta.transposed, delta.base)


def merged(
    model: TextModel, delta: Delta, edits: Sequence[Rewrite], weight: float = 0.5
) -> Check | None:
    """On the unedited model: edits that hold at half strength; None where the delta has no scale."""
    if not delta.weights or len(delta.weights) < len(delta.changes):
        return None
    with (delta * weight).applied(model):
        outcomes = holds(model, [edit.text for edit in edits], edits)
    about = f"holds when merged with the unedited model ({weight:g})"
    return share("gen.merged", about, outcomes, edits=edits, weight=weight)


def tuned(
    model: TextModel,
    delta: Delta,
    edits: Sequence[Rewrite],
    others: Sequence[Rewrite],
    editor: str = "lora",
) -> Check:
    """On the unedited model: edits that hold after training on other facts, on top of the edit.

    others  facts that are no part of the edit; with none nothing is asked.
    """
    name, about = "gen.tuned", f"holds after training ({editor}) on {len(others)} other facts"
    if not others:
        return share(name, about, [])
    with delta.applied(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)
            later = make(editor)(model, others)
        with later.applied(model):
            outcomes = holds(model, [edit.text for edit in edits], edits)
    return share(name, about, outcomes, edits=edits, editor=editor, others=len(others))
