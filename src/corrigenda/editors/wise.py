"""WISE: side matrices for edits, and a routing margin that tells when to use them.

Wang, Li, Zhang, Xu, Yao, Jiang, Xie, Huang, Chen 2024, 2405.14768. Beside one down-projection W
stand side matrices D_1, D_2, ..., each for a shard of the edits, each trained on its own random
share of the weights. How much a matrix would move a prompt decides which one is used:

    Δ(x) = mean over the prompt's tokens of ‖D_j x_t‖

    min_D  NLL(target | prompt, context; W + D)
           + max(0, Δ(x') - α) + max(0, β - Δ(x)) + max(0, γ - (Δ(x) - Δ(x')))
    with   D = D₀ + M ∘ E,   |D| <= box

    x    the edit's prompt            x'  unrelated prompts           M  the shard's random mask
    α    largest Δ of others          β   smallest Δ of edits         γ  gap between them

A prompt whose Δ is below `act_ratio` times the smallest that an edit of the shard had goes through
W alone. When so many shards are full, they are merged into one by TIES. The decision is taken per
row, once, when the prompt is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..acting import Margins, Memory, Sides, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import InputError
from ..models.asked import Asked
from ..models.text import TextModel
from ..models.upper import Upper
from ._side import SideEditor, beside, descend, prompt_inputs, unrelated

__all__ = ["WISE"]

COUNT = "wise/edits"
"""State: how many edits the shards hold."""


@dataclass(frozen=True)
class WISE(SideEditor):
    """Route edited prompts through a side matrix. See `SideEditor` for the other fields.

    alpha, beta, gamma  margins α, β, γ of the routing loss.
    act_ratio           share of an edit's own Δ from which on a prompt is in scope.
    mask_ratio          share of the weights that a shard may change.
    box                 largest entry of D.
    shard_size          edits per shard.
    merge_every         this many full shards become one; 0: never.
    density             share of entries that TIES keeps.
    prompts             unrelated prompts in the routing loss.
    """

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    act_ratio: float | None = None
    mask_ratio: float = 0.2
    box: float = 1.0
    shard_size: int = 500
    merge_every: int = 2
    density: float = 0.53
    prompts: int = 20

    name: ClassVar[str] = "wise"
    title: ClassVar[str] = "WISE"
    paper: ClassVar[str] = "Wang et al. 2024, 2405.14768"
    paper_values: ClassVar[dict[str, Any]] = {
        "steps": 70,
        "lr": 1.0,
        "alpha": 5.0,
        "beta": 20.0,
        "gamma": 10.0,
        "act_ratio": 0.88,
    }

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        if self.shard_size < 1 or not 0 <= self.mask_ratio <= 1:
            raise InputError(
                "WISE needs shard_size >= 1 and a mask_ratio between 0 and 1; got "
                f"{self.shard_size} and {self.mask_ratio}."
            )
        site = self.site(model)
        key = place(site.module)
        shape = tuple(model.weight(site).shape)
        before, count = torch.zeros(0, *shape), 0
        if (memory := self.earlier(onto, key)) is not None and isinstance(memory.then, Sides):
            assert onto is not None
            before, count = memory.then.d, int(onto.state.get(COUNT, torch.zeros(())))
        rows = self.rows(model, edits)
        others = prompt_inputs(
            model, site, unrelated(model, edits, self.prompts, self.statistics, seed=self.seed)
        )
        shards: dict[int, list[list[Asked]]] = {}
        for number, contexts in enumerate(rows, start=count):
            shards.setdefault(number // self.shard_size, []).append(contexts)
        sides = torch.zeros(max(shards) + 1, *shape)
        least = torch.full((len(sides),), float("inf"))
        seen = {}
        for j, mine in shards.items():
            start = before[j] if j < len(before) else torch.zeros(shape)
            sides[j], least[j], seen[j] = self._shard(model, j, start, mine, others)
        scope = Margins(place(site.module, "input"), least, self.act_ratio or 0.0)
        return Solution(
            {key: Memory(scope, Sides(sides, self.merge_every, self.density))},
            state={COUNT: torch.tensor(float(count + len(edits)))},
            diagnostics={"shards": seen, "least": [round(float(x), 4) for x in least]},
        )

    def mask(self, shape: tuple[int, ...], shard: int) -> Tensor:
        """(o, i) the weights that a shard may change: the same for a seed and shard."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + shard)
        return (torch.rand(shape, generator=generator) < self.mask_ratio).float()

    def _shard(
        self,
        model: TextModel,
        shard: int,
        start: Tensor,
        rows: Sequence[Sequence[Asked]],
        others: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, float, dict[str, Any]]:
        """Train one shard from `start` (o, i): what is added to it, the smallest Δ of its edits'
        own prompts, diagnostics."""
        site, device = self.site(model), model.device
        start, mask = start.to(device), self.mask(tuple(start.shape), shard).to(device)
        added = torch.zeros_like(start, requires_grad=True)
        inputs = [prompt_inputs(model, site, contexts) for contexts in rows]
        runs = [Upper(model, site.layer, contexts) for contexts in rows]

        def loss(j: int) -> Tensor:
            side = start + added
            with beside(model, site, lambda x: x @ side.T):
                nll = runs[j].nll().mean()
            ours, theirs = _moved(*inputs[j], side), _moved(*others, side)
            gap = ours[:, None] - theirs  # (contexts, prompts)
            return (
                nll
                + (theirs - (self.alpha or 0.0)).relu().mean()
                + ((self.beta or 0.0) - ours).relu().mean()
                + ((self.gamma or 0.0) - gap).relu().mean()
            )

        def within_box() -> None:
            added.copy_((start + added).clamp(-self.box, self.box) - start)

        seen = descend(
            added,
            loss,
            len(rows),
            steps=self.steps or 0,
            lr=self.lr or 0.0,
            tolerance=self.tolerance,
            gradient=lambda g: g * mask,
            after_step=within_box,
        )
        with torch.no_grad():
            side = start + added
            own = [float(_moved(x[:1], inside[:1], side)) for x, inside in inputs]
            away = _moved(*others, side)
        seen |= {"own": [round(x, 4) for x in own], "others": round(float(away.max()), 4)}
        return added.detach().cpu(), min(own), seen


def _moved(x: Tensor, inside: Tensor, side: Tensor) -> Tensor:
    """(b,) Δ: how far the matrix moves each prompt, on average over its tokens."""
    moved = (x @ side.T).norm(dim=-1) * inside  # (b, t)
    return moved.sum(1) / inside.sum(1).clamp_min(1)
