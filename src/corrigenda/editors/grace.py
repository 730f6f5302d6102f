"""GRACE: a codebook of hidden states, each with the output that gives the wanted answer.

Hartvigsen, Sankaranarayanan, Palangi, Kim, Ghassemi 2022, 2211.11031. At one linear map, with q
its input at the prompt's last token:

    y <- v_j   where j is the ball (c_j, ρ_j) with the nearest centre among those that hold q
    y          unchanged, bit for bit, where no ball does

    v = y + argmin_δ  mean_t -log p(target_t | prompt, target_<t; y <- y + δ)        Adam

Each edit is a key q with its first radius, a label and a value. The search for a value begins at
the model's own output and ends when the loss is small, where the paper starts from noise and takes
all steps. How balls grow, meet and share the space: `numerics.codebook`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..acting import Memory, Pass, Values, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import InputError
from ..model import Site
from ..models.asked import Asked, Forced
from ..models.text import TextModel
from ..models.upper import Upper
from ..numerics.optimize import Found, Losses, optimize_rows
from ._finetune import examples, rerouted
from ._memory import CodebookEditor, prompt_ends

__all__ = ["GRACE"]


@dataclass(frozen=True)
class GRACE(CodebookEditor):
    """Replace one layer's output inside stored balls. See `CodebookEditor` for the other fields.

    role       which linear map of the block: "down", "up".
    replace    at which tokens the value stands: the prompt's "last", or all of the "prompt".
    tolerance  a search ends when the mean NLL of the target is below this.
    """

    role: str | None = None
    replace: Literal["last", "prompt"] = "last"
    tolerance: float = 0.01

    name: ClassVar[str] = "grace"
    title: ClassVar[str] = "GRACE"
    paper: ClassVar[str] = "Hartvigsen et al. 2022, 2211.11031"
    paper_values: ClassVar[dict[str, Any]] = {
        "radius": 1.0,
        "steps": 100,
        "lr": 1.0,
        "role": "down",
    }

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        layers = self.layers or ()
        if len(layers) != 1:
            raise InputError(f"GRACE edits one layer, not {layers}. Give one layer.")
        site = self.reading(model, self.role or "", layers[0])
        rows = examples(model, edits)
        keys = self.keys(model, site, "input", rows)
        parts = [self.values(model, site, chunk) for chunk in self.chunks(rows)]
        values = torch.cat([v for v, _ in parts])
        fit = torch.cat([found.fit for _, found in parts]).tolist()
        scope = self.balls(site, "input", keys, edits, range(len(edits)), "first")
        return Solution(
            {place(site.module): Memory(scope, Values(values, self.replace))},
            diagnostics={
                "target_nll": [round(x, 4) for x in fit],
                "steps": [int(s) for _, found in parts for s in found.steps],
            },
            notes={
                j: f"The search for its value ended at target NLL {x:.2f}; try more steps, another "
                "lr, or another layer."
                for j, x in enumerate(fit)
                if not x < self.tolerance
            },
        )

    def values(self, model: TextModel, site: Site, rows: Sequence[Asked]) -> tuple[Tensor, Found]:
        """(n, o) outputs that give the wanted answers, and how the search for them went."""
        linear, device = model.linear(site), model.device
        own = prompt_ends(model, linear, "output", rows)  # (n, o)
        every = Upper(model, site.layer, rows)

        def losses(delta: Tensor, active: Tensor) -> Losses:
            asked = every.some(active.tolist())
            values = own[active].to(device) + delta
            with self.replaced(model, site, asked.questions, values):
                nll = asked.nll()
            return Losses(nll, nll.detach())

        found = optimize_rows(
            losses, tuple(own.shape), steps=self.steps or 0, lr=self.lr or 0.0,  # type: ignore
            radius=torch.full((len(own),), torch.inf), tolerance=self.tolerance, device=device,
        )  # fmt: skip
        return own + found.delta, found

    @contextmanager
    def replaced(
        self, model: TextModel, site: Site, questions: Forced, values: Tensor
    ) -> Iterator[None]:
        """The map returns row j of `values` (b, o) for question j, as the memory will."""
        now = Pass(questions.rows.mask, questions.ends)

        def output(_x: Tensor, own: Tensor) -> Tensor:
            y = now.rows(own)  # (b, t, o)
            columns = torch.arange(y.shape[1], device=y.device)
            last = columns == now.last(y)[:, None]
            where = last if self.replace == "last" else now.within(y)
            return torch.where(where[..., None], values[:, None].to(y.dtype), y).view_as(own)

        with rerouted(model.linear(site), output):
            yield
