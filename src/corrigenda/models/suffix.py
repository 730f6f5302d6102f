"""The part of a model that depends on one hidden vector, and nothing else of it.

While a vector δ is searched for at one token (the lookup token) of one layer, everything to the
left of that token and everything below that layer is constant. `SuffixRun` computes the constant
part once: the keys and values of the left context in the upper layers, and the hidden states of
the suffix (lookup token to end) where they enter the upper layers. After that, each forward pass
covers only suffix tokens in upper layers, many rows at a time.

    row:      p p p p [s x x]          p: left context (cached), s: lookup token, x: what follows
    layers:   0 .. L | L+1 .. n-1      only the right-hand part of both is ever run again
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from .hooks import captured, replaced_input, replaced_output, selected_input
from .text import TextModel
from .tokens import Batch
from .upper import skipping

__all__ = ["Row", "SuffixRun"]


@dataclass(frozen=True, slots=True)
class Row:
    """One token sequence in which δ is added at `lookup`, and logits are read at `reads`."""

    ids: tuple[int, ...]
    lookup: int
    reads: tuple[int, ...]


class _FrozenLayer(DynamicLayer):
    """Keys and values of a left context that a forward pass sees but does not extend."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return (
            torch.cat([self.keys, key_states], dim=-2),
            torch.cat([self.values, value_states], dim=-2),
        )


class SuffixRun:
    """Logits of rows as a function of δ, with the constant part computed once.

    model  its weights as they are now; they must not change during the run.
    layer  L: δ is added to the output of the MLP of this block, or to the block's output, which
           is the same thing unless a norm stands between them (then block L is run again too).
    rows   see `Row`. They are kept in the order given.
    site   "mlp" or "block": which value `initial` holds, and where δ goes in post-norm blocks.

    initial  (rows, d) fp32 value at the site and lookup token before δ.
    base     (reads, V) fp32 log-probabilities at all reads with δ = 0.
    """

    def __init__(
        self,
        model: TextModel,
        layer: int,
        rows: Sequence[Row],
        *,
        site: str = "mlp",
        batch_size: int = 256,
    ) -> None:
        self.model, self.layer, self.rows = model, layer, tuple(rows)
        # A norm after the MLP makes the block's output non-linear in the MLP's.
        self._inside = site == "mlp" and model.layout.post_norm is not None
        self._first = layer if self._inside else layer + 1
        self._site = site
        self._length = torch.tensor([len(r.ids) - r.lookup for r in self.rows])
        self._prefill(batch_size)

    # -- once ---------------------------------------------------------------------------------

    @property
    def _entry(self) -> nn.Module:
        """What receives the hidden states that enter the upper layers."""
        if self._first < self.model.n_layers:
            return self.model.blocks[self._first]
        return self.model.final_norm or self.model.head

    @torch.no_grad()
    def _prefill(self, batch_size: int) -> None:
        model = self.model
        parts = [
            self._prefill_batch(self.rows[at : at + batch_size])
            for at in range(0, len(self.rows), batch_size)
        ]
        left = max(p["left"] for p in parts)
        right = max(p["hidden"].shape[1] for p in parts)
        n_upper = model.n_layers - self._first
        self._keys = [
            torch.cat([_pad_left(p["keys"][j], left) for p in parts]) for j in range(n_upper)
        ]
        self._values = [
            torch.cat([_pad_left(p["values"][j], left) for p in parts]) for j in range(n_upper)
        ]
        self._hidden = torch.cat([_pad_right(p["hidden"], right) for p in parts])
        self.initial = torch.cat([p["initial"] for p in parts])
        ids, mask, positions = [], [], []
        for row in self.rows:
            suffix = len(row.ids) - row.lookup
            ids.append([*row.ids[row.lookup :], *[model.pad_id] * (right - suffix)])
            mask.append([0] * (left - row.lookup) + [1] * len(row.ids) + [0] * (right - suffix))
            positions.append([min(row.lookup + j, len(row.ids) - 1) for j in range(right)])
        device = model.device
        self._ids = torch.tensor(ids, device=device)
        self._mask = torch.tensor(mask, device=device)
        self._positions = torch.tensor(positions, device=device)
        self._left = left
        base = []
        for at in range(0, len(self.rows), batch_size):
            keep = torch.arange(at, min(at + batch_size, len(self.rows)))
            zero = torch.zeros(len(keep), model.width, device=device)
            base.append(self.logits(zero, keep).log_softmax(-1))
        self.base = torch.cat(base)

    def _prefill_batch(self, rows: Sequence[Row]) -> dict[str, Any]:
        """One full forward pass. Lookup tokens are aligned in one column: left context padded on
        the left, suffix padded on the right."""
        model, device = self.model, self.model.device
        left = max(r.lookup for r in rows)
        right = max(len(r.ids) - r.lookup for r in rows)
        ids = torch.full((len(rows), left + right), model.pad_id)
        mask = torch.zeros_like(ids)
        for j, row in enumerate(rows):
            start = left - row.lookup
            ids[j, start : start + len(row.ids)] = torch.tensor(row.ids)
            mask[j, start : start + len(row.ids)] = 1
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        batch = Batch(ids.to(device), mask.to(device), positions.to(device), torch.zeros(len(rows)))
        cache = DynamicCache()
        entry = (self._entry, "input")
        value = (
            model.mlp(self.layer) if self._site == "mlp" else model.block(self.layer),
            "output",
        )
        nowhere = torch.zeros(1, dtype=torch.long, device=device)
        raw: dict[str, Any] = {}
        with ExitStack() as stack:
            seen = stack.enter_context(captured({"entry": entry, "value": value}))
            stack.enter_context(selected_input(model.head, nowhere, nowhere))
            handle = model.blocks[0].register_forward_hook(
                lambda _m, _args, output: raw.__setitem__("output", output)
            )
            stack.callback(handle.remove)
            model.forward(batch, use_cache=True, past_key_values=cache)
        self._tuples = not isinstance(raw["output"], Tensor)
        layers: Any = cache.layers[self._first : model.n_layers]
        initial = seen["value"].reshape(len(rows), left + right, -1)[:, left]
        return {
            "left": left,
            "keys": [layer.keys[..., :left, :].clone() for layer in layers],
            "values": [layer.values[..., :left, :].clone() for layer in layers],
            "hidden": seen["entry"][:, left:].clone(),
            "initial": initial.float(),
        }

    # -- every step ---------------------------------------------------------------------------

    def reads(self, keep: Tensor) -> Tensor:
        """(n,) for each logit row of `logits(..., keep)`: which entry of `keep` it belongs to."""
        sizes = torch.tensor([len(self.rows[j].reads) for j in keep.tolist()])
        return torch.repeat_interleave(torch.arange(len(keep)), sizes)

    def logits(self, delta: Tensor, keep: Tensor) -> Tensor:
        """(n, V) fp32 logits at the reads of the kept rows, in order.

        delta  (len(keep), d) vector added at the lookup token of each kept row; differentiable.
        keep   (k,) indices of rows.
        """
        model = self.model
        right = int(self._length[keep].max())
        kept = keep.to(model.device)
        hidden = self._hidden[kept.to(self._hidden.device), :right]
        delta = delta.to(hidden.device, hidden.dtype)
        row, column = self._places(keep)
        with ExitStack() as stack:
            enter = stack.enter_context
            if self._inside:
                enter(replaced_output(model.mlp(self.layer), lambda out: _added(out, delta)))
            else:
                hidden = _added(hidden, delta)
            enter(skipping(model.blocks[: self._first], self._tuples))
            enter(replaced_input(self._entry, lambda: hidden))
            enter(selected_input(model.head, row.to(model.device), column.to(model.device)))
            mask = self._mask[kept, : self._left + right]
            batch = Batch(self._ids[kept, :right], mask, self._positions[kept, :right], kept)
            out = model.forward(batch, use_cache=True, past_key_values=self._cache(kept))
        return out.logits[0].float()

    def base_at(self, keep: Tensor) -> Tensor:
        """(n, V) the rows of `base` that `logits(..., keep)` corresponds to."""
        ends = list(accumulate((len(r.reads) for r in self.rows), initial=0))
        spans = [torch.arange(ends[j], ends[j + 1]) for j in keep.tolist()]
        return self.base[torch.cat(spans).to(self.base.device)]

    def _places(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        rows = [self.rows[j] for j in keep.tolist()]
        row = torch.cat([torch.full((len(r.reads),), j) for j, r in enumerate(rows)])
        column = torch.tensor([p - r.lookup for r in rows for p in r.reads])
        return row, column

    def _cache(self, kept: Tensor) -> Cache:
        # Skipped layers get the first upper layer's tensors: they are never attended to, but the
        # model asks layer 0 for the length of the past when it builds positions and masks.
        upper = [
            _FrozenLayer(k[kept.to(k.device)], v[kept.to(v.device)])
            for k, v in zip(self._keys, self._values, strict=False)
        ]
        if not upper:
            blank = torch.zeros(len(kept), 1, self._left, 1, device=kept.device)
            upper = [_FrozenLayer(blank, blank)]
        return Cache(layers=[*[upper[0]] * self._first, *upper])


def _added(hidden: Tensor, delta: Tensor) -> Tensor:
    """`hidden` with delta (b, d) added at column 0, which is the lookup token. hidden: (b, t, d),
    or (b·t, d) where an architecture flattens its MLP input."""
    flat = hidden.dim() == 2
    if flat:
        hidden = hidden.view(delta.shape[0], -1, delta.shape[1])
    added = delta[:, None].to(hidden.device)  # the MLP may be on another one than the block's input
    changed = torch.cat([hidden[:, :1] + added, hidden[:, 1:]], 1)
    return changed.flatten(0, 1) if flat else changed


def _pad_left(past: Tensor, length: int) -> Tensor:
    """(b, h, t, d) with zeros in front, up to `length`; the mask hides them."""
    return torch.nn.functional.pad(past, (0, 0, length - past.shape[-2], 0))


def _pad_right(hidden: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(hidden, (0, 0, 0, length - hidden.shape[1]))
