"""MEMOIR: a residual memory in which every edit writes to its own few columns.

Wang, Ke, Boix-Adsera, Frossard et al. 2025, 2506.07899. Beside a down-projection W stands a memory
D (o, i), zero at first, that sees a sparse part of its input:

    y = W x + b + D (x ∘ m(prompt))

    m(prompt) = π(top-k of |x̄ - x̄₀|)     x̄   mean of x over the prompt's tokens
                                          x̄₀  the same over unrelated prompts
                                          π   a fixed random permutation (TopHash)

Similar prompts get overlapping masks, others nearly disjoint ones, so edits hardly overwrite each
other. An edit descends the NLL of its target; only columns in its mask receive gradient. A prompt
is given the *stored* mask that shares most features with its own, if it shares at least `least` of
them, and no memory otherwise. The decision is taken per row, once, when the prompt is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..acting import Columns, Memory, Overlaps, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..models.text import TextModel
from ..models.upper import Upper
from ._side import SideEditor, beside, descend, prompt_inputs, unrelated

__all__ = ["MEMOIR"]


@dataclass(frozen=True)
class MEMOIR(SideEditor):
    """Write edits into sparse columns of a residual memory. See `SideEditor` for other fields.

    share    how many of the i inputs a mask holds, as a share of them.
    least    smallest overlap of masks with which a prompt is in scope.
    clip     largest norm of a gradient.
    prompts  unrelated prompts whose mean input is the background.
    """

    share: float | None = None
    least: float | None = None
    clip: float = 1.0
    prompts: int = 100

    name: ClassVar[str] = "memoir"
    title: ClassVar[str] = "MEMOIR"
    paper: ClassVar[str] = "Wang et al. 2025, 2506.07899"
    paper_values: ClassVar[dict[str, Any]] = {
        "steps": 30,
        "lr": 1.0,
        "share": 4096 / 14336,
        "least": 0.4,
    }

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        site, device = self.site(model), model.device
        key, (o, i) = place(site.module), model.weight(site).shape
        memory = self.earlier(onto, key)
        start = torch.zeros(o, i, device=device)
        if memory is not None and isinstance(memory.scope, Overlaps):
            scope = memory.scope  # masks of one memory are made in one way
            start = memory.then.d.to(device)  # type: ignore[union-attr]
        else:
            scope = self._scope(model, edits, i)
        rows = self.rows(model, edits)
        plain = [prompt_inputs(model, site, contexts[:1]) for contexts in rows]
        means = torch.cat([_mean(*p) for p in plain]).cpu()  # (n, i)
        masks = scope.features(means)  # (n, i)
        runs = [Upper(model, site.layer, contexts) for contexts in rows]
        added = torch.zeros_like(start, requires_grad=True)

        def loss(j: int) -> Tensor:
            mask = masks[j].to(device)
            with beside(model, site, lambda x: (x * mask) @ (start + added).T):
                return runs[j].nll().mean()

        def clipped(gradient: Tensor) -> Tensor:
            return gradient * (self.clip / gradient.norm().clamp_min(self.clip))

        seen = descend(
            added,
            loss,
            len(rows),
            steps=self.steps or 0,
            lr=self.lr or 0.0,
            tolerance=self.tolerance,
            gradient=clipped,
        )
        stored = Overlaps(
            scope.at, masks.to(torch.uint8), scope.background, scope.order, scope.k, scope.least
        )
        return Solution({key: Memory(stored, Columns(added))}, diagnostics=seen)

    def _scope(self, model: TextModel, edits: Sequence[Rewrite], i: int) -> Overlaps:
        """How masks are made, with none stored: background, permutation, number of features."""
        site = self.site(model)
        prompts = unrelated(model, (), self.prompts, self.statistics, seed=self.seed)
        with model.live.suspended():
            background = _mean(*prompt_inputs(model, site, prompts)).mean(0).cpu()
        order = torch.randperm(i, generator=torch.Generator().manual_seed(self.seed))
        k = max(1, round((self.share or 0.0) * i))
        at = place(site.module, "input")
        return Overlaps(
            at, torch.zeros(0, i, dtype=torch.uint8), background, order, k, self.least or 0.0
        )


def _mean(x: Tensor, inside: Tensor) -> Tensor:
    """(b, i) mean of x over the prompts' tokens."""
    kept = inside.float()[..., None]
    return (x * kept).sum(1) / kept.sum(1).clamp_min(1)
