"""A run whose δ has two parts, one added to the attention's output and one to the MLP's.

Both are added at the lookup token of block L, and neither acts on another token inside that
block: attention has been computed before δ_attention comes in. So their joint effect is a shift of
the block's output at that token,

    shift(δ) = block(x; a + δ_attention, m(·) + δ_mlp) - block(x; a, m(·))

with x the block's input there, a the attention's output and m the MLP, which sees δ_attention
where the block is sequential. The shift is computed on rows of one token, and a `SuffixRun` at the
block's output does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from ..models.hooks import captured, replaced_input, replaced_output, stopping
from ..models.suffix import Row, SuffixRun
from ..models.text import TextModel

__all__ = ["PartsRun"]


class PartsRun:
    """As `SuffixRun`, with δ = [δ_attention, δ_mlp] of width 2d.

    initial  (rows, 2d) fp32 outputs of attention and MLP at the lookup token before δ.
    """

    def __init__(self, model: TextModel, layer: int, rows: Sequence[Row]) -> None:
        self._model, self._block = model, model.block(layer)
        self._parts = (self._block.get_submodule(model.layout.attention), model.mlp(layer))
        self._run = SuffixRun(model, layer, rows, site="block")
        self._prefill(rows)
        keep = torch.arange(len(rows))
        with torch.no_grad():
            self._plain = self._output(torch.zeros_like(self.initial), keep)

    @torch.no_grad()
    def _prefill(self, rows: Sequence[Row]) -> None:
        """The block's input and the outputs of its parts at the lookup tokens."""
        padded = self._model.batch([row.ids[: row.lookup + 1] for row in rows])
        attention, mlp = self._parts
        reads = {"x": (self._block, "input"), "a": (attention, "output"), "m": (mlp, "output")}
        with captured(reads) as seen, stopping(self._block, before=False):
            self._model.forward(padded)
        x, a, m = (seen[k].reshape(*padded.ids.shape, -1)[:, -1:].clone() for k in "xam")
        self._input, self._attention = x, a  # (rows, 1, d)
        self.initial = torch.cat([a[:, 0], m[:, 0]], 1).float()

    def _output(self, delta: Tensor, keep: Tensor) -> Tensor:
        """(k, d) the block's output at the lookup token with delta (k, 2d) in its parts."""
        kept = keep.to(self._model.device)
        to_attention, to_mlp = delta.to(self._input.dtype)[:, None].chunk(2, dim=2)  # (k, 1, d)
        fixed = self._attention[kept] + to_attention
        attention, mlp = self._parts
        with ExitStack() as stack:
            # One token has no left context to attend to, so attention's output is put in place.
            stack.enter_context(replaced_input(self._block, lambda: self._input[kept]))
            stack.enter_context(replaced_output(attention, lambda out: fixed.view_as(out)))
            stack.enter_context(replaced_output(mlp, lambda out: out + to_mlp.view_as(out)))
            seen = stack.enter_context(captured({"h": (self._block, "output")}))
            stack.enter_context(stopping(self._block, before=False))
            self._model.forward(self._model.batch([[self._model.pad_id]] * len(keep)))
        return seen["h"][:, 0].float()

    def logits(self, delta: Tensor, keep: Tensor) -> Tensor:
        """(n, V) logits at the reads of the kept rows. delta: (k, 2d), differentiable."""
        plain = self._plain[keep.to(self._model.device)]
        return self._run.logits(self._output(delta, keep) - plain, keep)

    def reads(self, keep: Tensor) -> Tensor:
        return self._run.reads(keep)

    def base_at(self, keep: Tensor) -> Tensor:
        return self._run.base_at(keep)
