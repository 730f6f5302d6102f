"""MELO: low-rank blocks beside some linear maps, chosen by a codebook of prompts.

Yu, Chen, Zhou, He 2023, 2312.11795. LoRA is split into blocks of a few ranks; every block belongs
to a few edits. With q the output of an earlier layer at the prompt's last token:

    y = W x + b + u_j v_j x     j: the block of the ball that holds q       u: (o, r), v: (r, i)
    y = W x + b                 bit for bit, where no ball does

    min_{u_j, v_j}  mean over the block's edits of mean_t -log p(target_t | prompt, target_<t)

A ball that takes keys in stands at their mean (`numerics.codebook`, `centre="mean"`). A block is
trained without those of earlier edits, just as it will be used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..acting import Blocks, Memory, Pass, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import InputError, UnstableEditError
from ..model import Site
from ..models.asked import Asked, Forced
from ..models.linear import image, shape
from ..models.text import TextModel
from ._finetune import examples, rerouted
from ._memory import CodebookEditor

__all__ = ["MELO"]

Factors = dict[Site, tuple[Tensor, Tensor]]
"""At every site u (n, o, r) and v (n, r, i) of n blocks."""


@dataclass(frozen=True)
class MELO(CodebookEditor):
    """Route prompts through low-rank blocks. See `CodebookEditor` for the other fields.

    roles      which linear maps of the blocks are changed: "down", "up", "q", ...
    key_layer  whose output is the key; it must come before all layers that are changed. None: the
               one right before.
    key_role   the map of that layer whose output is read.
    rank       of a block.
    share      edits that share a block; those of one call, in order.
    halve      the learning rate is halved after so many steps.
    seed       of the factors v.
    """

    roles: tuple[str, ...] | None = None
    key_layer: int | None = None
    key_role: str | None = None
    rank: int = 2
    share: int = 1
    halve: int = 20
    seed: int = 0

    name: ClassVar[str] = "melo"
    title: ClassVar[str] = "MELO"
    paper: ClassVar[str] = "Yu et al. 2023, 2312.11795"
    paper_values: ClassVar[dict[str, Any]] = {
        "radius": 0.5,
        "steps": 50,
        "lr": 1e-3,
        "roles": ("down",),
        "key_role": "down",
    }

    def resolved(self, model: TextModel) -> MELO:
        found = super().resolved(model)
        assert isinstance(found, MELO)
        if found.key_layer is None:
            found = replace(found, key_layer=min(found.layers or (0,)) - 1)
        return found

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        key_layer, share = self.key_layer or 0, self.share
        if not self.layers or min(self.layers) <= key_layer or key_layer < 0 or share < 1:
            raise InputError(
                f"MELO reads its key at layer {self.key_layer} and changes layers {self.layers}: "
                "give layers that come after the key's, and a share of at least 1 edit per block."
            )
        key_site = self.reading(model, self.key_role or "", key_layer)
        sites = [self.reading(model, r, n) for n in self.layers for r in self.roles or ()]
        rows = examples(model, edits)
        block = [j // share for j in range(len(rows))]
        keys = self.keys(model, key_site, "output", rows)
        factors = self.started(model, sites, block[-1] + 1)
        together = max(1, self.batch_size // share) * share  # whole blocks at a time
        fit = [
            x
            for at in range(0, len(rows), together)
            for x in self.train(model, factors, rows[at : at + together], block[at : at + together])
        ]
        scope = self.balls(key_site, "output", keys, edits, block, "mean")
        return Solution(
            {place(s.module): Memory(scope, Blocks(u, v)) for s, (u, v) in factors.items()},
            diagnostics={"target_nll": [round(x, 4) for x in fit]},
            notes={
                j: f"The training of its block ended at target NLL {x:.2f}; try more steps, a "
                "larger lr or rank, or other layers."
                for j, x in enumerate(fit)
                if not x < 0.5
            },
        )

    def started(self, model: TextModel, sites: Sequence[Site], blocks: int) -> Factors:
        """Factors of so many blocks: u zero, v the same for every block."""
        generator = torch.Generator().manual_seed(self.seed)
        found: Factors = {}
        for site in sites:
            o, i = shape(model.linear(site))
            v = (2 * torch.rand(self.rank, i, generator=generator) - 1) / math.sqrt(i)
            found[site] = (
                torch.zeros(blocks, o, self.rank, device=model.device),
                v.expand(blocks, -1, -1).clone().to(model.device),
            )
        return found

    def train(
        self, model: TextModel, factors: Factors, rows: Sequence[Asked], block: Sequence[int]
    ) -> list[float]:
        """Train the blocks of these examples in place; the NLL of each before the last step.

        Blocks share no parameter, and Adam treats each number by itself: what a block becomes does
        not depend on those beside it.
        """
        questions = model.force(rows)
        span, device = slice(block[0], block[-1] + 1), model.device
        own = torch.tensor(block, device=device) - block[0]  # (b,) of each row
        size = own.bincount().to(device)
        free = {s: tuple(f[span].clone().requires_grad_(True) for f in uv)
                for s, uv in factors.items()}  # fmt: skip
        parameters = [f for uv in free.values() for f in uv]
        optimizer = torch.optim.Adam(parameters, lr=self.lr or 0.0)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.halve, 0.5)
        nll = torch.full((len(rows),), torch.nan)
        for _ in range(self.steps or 0):
            with torch.enable_grad(), _beside(model, free, questions, own):  # type: ignore
                nll = model.nll(rows)
                total = (nll / size[own].to(nll.device)).sum()
            if not float(total.detach()) < math.inf:
                raise UnstableEditError(
                    f"The loss became {float(total.detach())}. Lower the learning rate ({self.lr})."
                )
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(total, parameters), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            for site, uv in free.items():
                for whole, part in zip(factors[site], uv, strict=True):
                    whole[span] = part
        return nll.detach().tolist()


@contextmanager
def _beside(model: TextModel, free: Factors, questions: Forced, own: Tensor) -> Iterator[None]:
    """Row j passes through the block own[j] of every site, and through none of a live memory."""
    now = Pass(questions.rows.mask, questions.ends)
    with ExitStack() as stack:
        for site, (u, v) in free.items():
            linear = model.linear(site)

            def output(
                x: Tensor, y: Tensor, linear: Any = linear, u: Tensor = u, v: Tensor = v
            ) -> Tensor:
                moved = torch.einsum("bor,bri,bti->bto", u[own], v[own], now.rows(x).float())
                plain = now.rows(image(linear, x))
                return (plain.float() + moved).to(y.dtype).view_as(y)

            stack.enter_context(rerouted(linear, output))
        yield
