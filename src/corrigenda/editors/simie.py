"""SimIE: any editor of weights, made fit for sequences.

"SimIE", 2025, OpenReview VdEG08ZJCH.

In each step the inner editor gives W + Δ from the current weights W. What it does to the inputs K
of the edited sentences (all tokens) is kept, with as little change elsewhere as the inputs of all
earlier edits, K_p, allow:

    Δ' = Δ K Kᵀ (λ I + K_p K_pᵀ + K Kᵀ)⁻¹

If every inner edit fits its inputs exactly, the sequence gives the ridge solution for all edits at
once. K_p is kept in the delta's state, so undoing an edit also removes its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..delta import Delta, Dense, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..models.hooks import captured
from ..models.linear import is_linear
from ..models.text import TextModel
from ..models.tokens import pieces
from ..numerics.lowrank import compress
from ..numerics.solve import Update, preserving, ridge
from ._wrapped import WrappedEditor

__all__ = ["SimIE", "lifelong", "sentence_inputs"]


@dataclass(frozen=True)
class SimIE(WrappedEditor):
    """Another editor in sequence, with the inputs of its earlier edits held in place.

    weight  λ: how much every direction is held in place.
    """

    weight: float | None = None

    name: ClassVar[str] = "simie"
    title: ClassVar[str] = "SimIE"
    paper: ClassVar[str] = "2025, OpenReview VdEG08ZJCH"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, float]] = {"weight": 1e4}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        assert self.weight is not None
        found = self.inner.solve(model, edits, onto)
        kept = onto.state if onto is not None else {}
        changes, state = dict(found.changes), dict(found.state)
        for name, keys in sentence_inputs(model, edits, list(changes)).items():
            change = changes[name]
            assert isinstance(change, LowRank | Dense)
            update = lifelong(change.matrix(), keys, self.weight, kept.get(_state(name)))
            changes[name] = LowRank(*compress(update.u, update.v))
            state[_state(name)] = keys
        return replace(found, changes=changes, state=state)


def _state(name: str) -> str:
    return f"{name}/sentences/keys"


def lifelong(change: Tensor, keys: Tensor, weight: float, past: Tensor | None) -> Update:
    """Δ' of an inner change (o, i), with keys (i, n) of the edits and (i, p) of earlier ones."""
    keys = keys.double()
    nothing = keys.new_zeros(len(keys), len(keys))
    held = preserving(nothing, 1.0, shift=weight, past=past)
    return ridge(keys, change.double() @ keys, held)


@torch.no_grad()
def sentence_inputs(
    model: TextModel, edits: Sequence[Rewrite], names: Sequence[str], *, batch_size: int = 64
) -> dict[str, Tensor]:
    """(i, tokens) inputs of linear maps, by the name of their weight, at all tokens of the edits'
    prompts with their targets. Parameters of other modules are left out."""
    modules = {n: model.module.get_submodule(n.rpartition(".")[0]) for n in names}
    linears = {
        n: (m, "input") for n, m in modules.items() if n.endswith(".weight") and is_linear(m)
    }
    found: dict[str, list[Tensor]] = {name: [] for name in linears}
    rows = [pieces(model.tokenizer, e.text, e.target).ids for e in edits]
    for at in range(0, len(rows), batch_size):
        padded = model.batch(rows[at : at + batch_size], side="right")
        mask = padded.mask.bool()
        with captured(linears) as seen:
            model.forward(padded)
        for name, x in seen.items():
            found[name].append(x.reshape(*mask.shape, -1)[mask].float().cpu())
    return {name: torch.cat(parts).T for name, parts in found.items()}
