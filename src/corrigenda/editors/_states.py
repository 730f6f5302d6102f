"""The states that texts leave in a model: what concepts are erased from and steering reads.

A text is put to the model as a prompt, so that its last token is where an answer would be decided:
the last token of a causal model's prompt, the first mask of a masked model. In the decoder of an
encoder-decoder that is its first position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..models.asked import Asked
from ..models.hooks import captured
from ..models.text import TextModel

__all__ = ["States", "Tokens", "every", "last", "opened", "states", "writes"]

Tokens = Callable[[Asked, bool], Sequence[int]]
"""Which tokens of a question are read; the flag says whether those are the decoder's."""


@dataclass(frozen=True, slots=True)
class States:
    """x (m, d) fp32 on the CPU: states at single tokens; owner (m,): the text of each."""

    x: Tensor
    owner: Tensor


def last(row: Asked, writes: bool) -> Sequence[int]:
    """The token where the answer is decided."""
    return (0,) if writes else (len(row.ids) - 1 if row.end is None else row.end,)


def every(row: Asked, writes: bool) -> Sequence[int]:
    """All tokens, those that the tokenizer puts around a text included."""
    return range(len(row.decoder) if writes else len(row.ids))


def opened(model: TextModel, texts: Sequence[str]) -> list[Asked]:
    """Texts as prompts."""
    return [model.opening(text.rstrip(" ")) for text in texts]


def writes(model: TextModel, path: str) -> bool:
    """Whether a module is in a stack that writes the answer apart from the prompt."""
    stack = max((s for s in model.stacks if f"{path}.".startswith(s)), key=len)
    return not model.stacks[stack]


@torch.no_grad()
def states(
    model: TextModel,
    rows: Sequence[Asked],
    paths: Sequence[str],
    tokens: Tokens,
    which: Literal["input", "output"] = "output",
    during: Callable[[Sequence[Asked]], AbstractContextManager[None]] = lambda _: nullcontext(),
    batch_size: int = 32,
) -> dict[str, States]:
    """What stands at the modules, with everything that is live; path -> states.

    during  context in which a batch of rows, padded on the right, is run.
    """
    modules = {path: (model.module.get_submodule(path), which) for path in paths}
    found: dict[str, list[Tensor]] = {path: [] for path in paths}
    owner: dict[str, list[int]] = {path: [] for path in paths}
    apart = {path: writes(model, path) for path in paths}
    for at in range(0, len(rows), batch_size):
        chunk = rows[at : at + batch_size]
        with captured(modules) as seen, during(chunk):
            model.target_logits(model.force(chunk))
        for path in paths:
            x = seen[path].reshape(len(chunk), -1, seen[path].shape[-1])  # (b, t, d)
            for j, row in enumerate(chunk):
                places = list(tokens(row, apart[path]))
                found[path].append(x[j, places].float().cpu())
                owner[path] += [at + j] * len(places)
    return {p: States(torch.cat(found[p]), torch.tensor(owner[p])) for p in paths}
