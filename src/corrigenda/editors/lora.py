"""LoRA as an editor: low-rank adaptation of the attention projections on the edits.

Hu et al. 2021, 2106.09685. Every chosen linear map gets two factors, B zero at the start:

    y = W x + b + (alpha / rank) · B A x          A: (rank, i), B: (o, rank)

They are trained on the targets' NLL with everything else fixed. Dropout on x is off by default:
there is one example per fact, and noise on it only slows the fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..delta import Delta, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..model import Site
from ..models.linear import shape
from ..models.text import TextModel
from ._finetune import FineTuneEditor, examples, rerouted

__all__ = ["LoRA"]


@dataclass(frozen=True)
class LoRA(FineTuneEditor):
    """Low-rank factors beside linear maps. See `FineTuneEditor` for the other fields.

    layers   None: all blocks.
    roles    which maps of a block: "q", "v", "qkv", "o", "up", "down", ... None: query and value,
             or the map that holds them.
    rank     of each change.
    alpha    the change is scaled by alpha / rank.
    dropout  share of entries of x that are dropped on the way into A while training.
    """

    roles: tuple[str, ...] | None = None
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.0

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    paper: ClassVar[str] = "Hu et al. 2021, 2106.09685"
    change: ClassVar[str] = "LowRank"
    paper_values: ClassVar[dict[str, Any]] = {"steps": 30, "lr": 5e-3}

    def resolved(self, model: TextModel) -> FineTuneEditor:
        editor = super().resolved(model)
        assert isinstance(editor, LoRA)
        if editor.roles is None:
            separate = {"q", "v"} <= model.layout.linears.keys()
            editor = replace(editor, roles=("q", "v") if separate else ("qkv",))
        return editor

    def sites(self, model: TextModel) -> list[Site]:
        return [model.site(role, layer) for layer in self.layers or () for role in self.roles or ()]

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        sites = self.sites(model)
        with self.factors(model, sites) as factors:
            free = [t for pair in factors.values() for t in pair]
            found = self.trained(model, examples(model, edits), free, shuffle=True)
        scale = self.alpha / self.rank
        return Solution(
            {name: LowRank(scale * b, a) for name, (b, a) in factors.items()},
            frozenset(s.parameter for s in sites if s.transposed),
            diagnostics=found.diagnostics(),
            notes=found.notes(self.tolerance),
        )

    @contextmanager
    def factors(
        self, model: TextModel, sites: Sequence[Site]
    ) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """Trainable (B (o, r), A (r, i)) by parameter name; the model computes with them inside."""
        start = torch.Generator().manual_seed(self.seed)
        noise = torch.Generator(model.device).manual_seed(self.seed)
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        with ExitStack() as stack:
            for site in sites:
                linear = model.linear(site)
                o, i = shape(linear)
                a = (2 * torch.rand(self.rank, i, generator=start) - 1) / math.sqrt(i)
                a = a.to(model.device).requires_grad_(True)
                b = torch.zeros(o, self.rank, device=model.device, requires_grad=True)
                factors[site.parameter] = (b, a)

                def output(x: Tensor, own: Tensor, b: Tensor = b, a: Tensor = a) -> Tensor:
                    x = x.to(a.dtype)
                    if self.dropout:
                        keep = torch.rand(x.shape, generator=noise, device=x.device) >= self.dropout
                        x = x * keep / (1 - self.dropout)
                    side = (x @ a.T) @ b.T * (self.alpha / self.rank)
                    return (own.to(side.dtype) + side).to(own.dtype)

                stack.enter_context(rerouted(linear, output))
            yield factors
