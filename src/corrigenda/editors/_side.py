"""What editors share that keep edits in a side memory beside one down-projection.

The projection W stays; for prompts in the scope of an edit it computes

    y = W x + b + D f(x)

with a matrix D (o, i) that is trained by plain gradient descent, one edit at a time, pass after
pass, in the edit's own wording and after sampled contexts. What lies below W does not change, so
which prompts are in scope is read from x itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..acting import Memory, Pass
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Editor
from ..errors import InputError, UnstableEditError
from ..model import Site
from ..models.asked import Asked
from ..models.hooks import captured, stopping
from ..models.linear import image
from ..models.moments import corpus_for
from ..models.prefixes import joined, pristine_prefixes
from ..models.text import TextModel
from . import presets
from ._finetune import rerouted

__all__ = ["SideEditor", "beside", "descend", "prompt_inputs", "unrelated"]

DEPTH = 0.84
"""Where the memory sits without a preset, as a share of the layers that read the prompt."""


@dataclass(frozen=True)
class SideEditor(Editor):
    """Hyperparameters of editors with a side memory. None means: the preset for the model, or else
    the paper's value.

    layers      the one block beside whose down-projection the memory stands.
    steps, lr   gradient steps per edit and their length.
    tolerance   an edit whose loss is below this takes no step; training ends when all are.
    prefixes    pairs (how many, of how many tokens) of sampled contexts.
    statistics  text that unrelated prompts are from: auto, atlas, samples, or a file.
    seed        of contexts, unrelated prompts, and what is random in the memory.
    """

    layers: tuple[int, ...] | None = None
    steps: int | None = None
    lr: float | None = None
    tolerance: float = 0.01
    prefixes: tuple[tuple[int, int], ...] = ((5, 5), (5, 10))
    statistics: str = "auto"
    seed: int = 0

    needs: ClassVar[tuple[str, ...]] = ("corpus",)
    family: ClassVar[str] = "memory"
    change: ClassVar[str] = "Memory"
    streams: ClassVar[bool] = True

    def resolved(self, model: TextModel) -> Self:
        found = presets.resolved(self, model)
        reads = model.prompt_layers
        if self.layers is None and not set(found.layers or ()) <= set(reads):
            found = replace(found, layers=(reads[int(DEPTH * len(reads))],))
        return found

    def site(self, model: TextModel) -> Site:
        """The projection beside which the memory stands.

        Raises `InputError` for several layers, or one that does not read the prompt.
        """
        layers = self.layers or ()
        if len(layers) != 1 or layers[0] not in model.prompt_layers:
            raise InputError(
                f"{self.title} keeps its memory at one layer that reads the prompt (of "
                f"{model.id}: {model.prompt_layers[0]} to {model.prompt_layers[-1]}); got {layers}."
            )
        return model.site("down", layers[0])

    def rows(self, model: TextModel, edits: Sequence[Rewrite]) -> list[list[Asked]]:
        """For every edit its prompt and target alone, and then after each sampled context."""
        sampled = pristine_prefixes(model, self.prefixes, seed=self.seed, corpus=self.statistics)
        contexts = ("", *sampled)
        return [
            [model.asked(joined(c, e.text), e.target, e.following) for c in contexts] for e in edits
        ]

    def earlier(self, onto: Delta | None, place: str) -> Memory | None:
        """The memory of earlier edits at this place."""
        found = onto.acting.get(place) if onto is not None else None
        return found if isinstance(found, Memory) else None


@torch.no_grad()
def unrelated(
    model: TextModel, edits: Sequence[Rewrite], count: int, source: str, *, seed: int
) -> list[Asked]:
    """Beginnings of sentences, 4 to 16 tokens long, that mention no subject of the edits.

    source  see `corpus_for`. Raises `InputError` when it has none.
    """
    subjects = [e.subject for e in edits]
    generator = torch.Generator().manual_seed(seed)
    found: list[Asked] = []
    with model.live.suspended():
        for text in islice(corpus_for(model, source, seed=seed).texts(), 20 * count):
            for sentence in re.split(r"[.!?\n]+", text):
                length = int(torch.randint(4, 17, (), generator=generator))
                ids = list(model.tokenizer(sentence.strip(), add_special_tokens=False)["input_ids"])
                begun = str(model.tokenizer.decode(ids[:length])).strip()
                if begun and not any(subject in begun for subject in subjects):
                    found.append(model.opening(begun))
            if len(found) >= count:
                return found[:count]
    if not found:
        raise InputError(
            f"The corpus {source!r} has no sentence that does not mention the subjects of the "
            "edits. Give another text file as `statistics`."
        )
    return found


@torch.no_grad()
def prompt_inputs(model: TextModel, site: Site, rows: Sequence[Asked]) -> tuple[Tensor, Tensor]:
    """x (b, t, i) fp32 that enters the map, and (b, t) which columns are tokens of the prompts."""
    questions, linear = model.force(rows), model.linear(site)
    with captured({"x": (linear, "input")}) as found, stopping(linear):
        model.target_logits(questions)
    now = Pass(questions.rows.mask, questions.ends)
    x = now.rows(found["x"]).float()
    return x, now.within(x)


@contextmanager
def beside(model: TextModel, site: Site, extra: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The map computes `W x + b + extra(x)`, whatever memory is live there."""
    linear = model.linear(site)

    def output(x: Tensor, _own: Tensor) -> Tensor:
        own = image(linear, x.detach())
        return (own.float() + extra(x.detach().float())).to(own.dtype)

    with rerouted(linear, output):
        yield


def descend(
    parameter: Tensor,
    loss: Callable[[int], Tensor],
    count: int,
    *,
    steps: int,
    lr: float,
    tolerance: float,
    gradient: Callable[[Tensor], Tensor] = lambda g: g,
    after_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Gradient descent on the loss of one edit after the other, `steps` passes over all.

    loss      of edit j, a scalar; differentiable in the parameter.
    gradient  what becomes of a gradient before the step: masks it, clips it.

    Returns diagnostics. Raises `UnstableEditError` when a loss is not finite.
    """
    last = [float("nan")] * count
    passes = 0
    for _ in range(steps):
        for j in range(count):
            with torch.enable_grad():
                value = loss(j)
            last[j] = float(value.detach())
            if not last[j] < float("inf"):
                raise UnstableEditError(
                    f"The loss of edit {j} became {last[j]} in pass {passes + 1}. Lower the "
                    f"learning rate ({lr}), or choose another layer."
                )
            if last[j] < tolerance:
                continue
            (found,) = torch.autograd.grad(value, [parameter])
            with torch.no_grad():
                parameter -= lr * gradient(found)
                after_step()
        passes += 1
        if max(last) < tolerance:
            break
    return {"passes": passes, "loss": [round(x, 4) for x in last]}
