"""Questions that are run again and again while only a block and what follows it may change.

What enters that block is computed once; each further pass skips the blocks below. Half of every
forward pass goes into them when a method trains beside a block in the middle.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..numerics.gradients import nll_at
from .asked import Asked
from .hooks import captured, replaced_forward, replaced_input
from .text import TextModel

__all__ = ["Upper", "skipping"]


class Upper:
    """Some questions, from block `layer` on. Nothing below may change while this is in use.

    Where an answer may depend on what a live change reads further down, and in models that are not
    causal, whole passes are run: the numbers are the same.
    """

    def __init__(self, model: TextModel, layer: int, rows: Sequence[Asked]) -> None:
        self.model, self.layer, self.rows = model, layer, rows
        self.questions = model.force(rows)
        self._hidden: Tensor | None = None
        self._tuples = False
        if layer > 0 and model.kind == "causal" and not _reads_below(model, layer):
            self._enter()

    @torch.no_grad()
    def _enter(self) -> None:
        block, raw = self.model.block(self.layer), {}
        handle = self.model.block(0).register_forward_hook(
            lambda _m, _args, output: raw.__setitem__("output", output)
        )
        try:
            with captured({"hidden": (block, "input")}) as seen:
                self.model.target_logits(self.questions)
        finally:
            handle.remove()
        self._hidden, self._tuples = seen["hidden"], not isinstance(raw["output"], Tensor)

    def nll(self) -> Tensor:
        """(b,) mean negative log-likelihood per target token of each question; differentiable."""
        with ExitStack() as stack:
            if self._hidden is not None:
                hidden, blocks = self._hidden, self.model.blocks
                stack.enter_context(skipping(blocks[: self.layer], self._tuples))
                stack.enter_context(replaced_input(blocks[self.layer], lambda: hidden))
            logits = self.model.target_logits(self.questions)
        wanted, row = (t.to(logits.device) for t in (self.questions.wanted, self.questions.row))
        return nll_at(logits, wanted, row, len(self.rows))

    def some(self, chosen: Sequence[int]) -> Upper:
        """The same for some of the questions, by their numbers."""
        if list(chosen) == list(range(len(self.rows))):
            return self
        few = copy.copy(self)
        few.rows = [self.rows[j] for j in chosen]
        few.questions = self.model.force(few.rows)
        if self._hidden is not None:
            # Padding is on the right, and may be less.
            few._hidden = self._hidden[list(chosen), : few.questions.rows.ids.shape[1]]
        return few


@contextmanager
def skipping(blocks: Sequence[nn.Module], tuples: bool) -> Iterator[None]:
    """These blocks hand their hidden states on as they are.

    tuples  this architecture's blocks return tuples.
    """

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states, None, None) if tuples else hidden_states

    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(replaced_forward(block, skip))
        yield


def _reads_below(model: TextModel, layer: int) -> bool:
    """Whether a live change of activations acts, or decides, below a block or outside of all."""
    blocks = model.path_of(model.block(layer)).rpartition(".")[0]
    above = tuple(f"{blocks}.{n}." for n in range(layer, model.n_layers))
    return any(
        not place.startswith(above)
        for delta in model.live.deltas
        for key, change in delta.acting.items()
        for place in (key, getattr(getattr(change, "scope", None), "at", key))
    )
