"""Gradient factors: what enters a linear map at each token, and the gradient of what leaves it.

For y = W x the gradient of a loss in W is Σ_t g_t x_tᵀ, summed over tokens t, with g_t the
gradient in y_t. The factors say more than their product: which inputs want which change.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..model import Site
from ..models.asked import Asked
from ..models.text import TextModel
from ._finetune import losses, rerouted

__all__ = ["Factors", "gradient_factors"]

SCALE = 2.0**10
"""The loss is scaled while it is differentiated, so that half-precision gradients do not
underflow; a power of two changes no other bit."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Of n tokens at one linear map: inputs (n, i) and output gradients (n, o), fp32 on the CPU.

    rows  (n,) index of the question that each token belongs to, ascending.
    """

    inputs: Tensor
    gradients: Tensor
    rows: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Factors]) -> Factors:
        """Of several sets of questions, numbered through."""
        first = 0
        rows = []
        for part in parts:
            rows.append(part.rows + first)
            first += int(part.rows[-1]) + 1 if len(part.rows) else 0
        inputs, gradients = (
            torch.cat([getattr(p, n) for p in parts]) for n in ("inputs", "gradients")
        )
        return cls(inputs, gradients, torch.cat(rows))


def gradient_factors(
    model: TextModel,
    sites: Sequence[Site],
    rows: Sequence[Asked],
    *,
    tokens: Literal["reads", "all"],
) -> dict[Site, Factors]:
    """The factors of the sum of all NLLs of the wanted tokens, at every site.

    tokens  "reads": at the positions that predict a wanted token, and in an encoder, where none
            does, at every token; "all": at every token.
    """
    seen: dict[Site, tuple[Tensor, Tensor]] = {}
    with ExitStack() as stack:
        for site in sites:

            def output(x: Tensor, own: Tensor, site: Site = site) -> Tensor:
                added = torch.zeros_like(own).requires_grad_(True)  # its gradient is that of y
                seen[site] = (x.detach(), added)
                return own + added

            stack.enter_context(rerouted(model.linear(site), output))
        with torch.enable_grad():
            sizes = torch.tensor([len(row.wanted) for row in rows], device=model.device)
            total = (losses(model, rows) * sizes).sum() * SCALE
        gradients = torch.autograd.grad(total, [seen[site][1] for site in sites])
    apart = bool(rows[0].decoder)
    found: dict[Site, Factors] = {}
    for site, gradient in zip(sites, gradients, strict=True):
        encoder = apart and site.layer in model.prompt_layers
        places = [
            (j, at)
            for j, row in enumerate(rows)
            for at in _places(row, "all" if encoder else tokens, apart and not encoder)
        ]
        owner, column = torch.tensor(places).T

        def chosen(tensor: Tensor, owner: Tensor = owner, column: Tensor = column) -> Tensor:
            return tensor.reshape(len(rows), -1, tensor.shape[-1]).float().cpu()[owner, column]

        found[site] = Factors(chosen(seen[site][0]), chosen(gradient) / SCALE, owner)
    return found


def _places(row: Asked, tokens: Literal["reads", "all"], decoder: bool) -> Sequence[int]:
    """Positions of a question whose factors are wanted, in the stack that is looked at."""
    if tokens == "reads":
        return sorted(set(row.reads))
    return range(len(row.decoder if decoder else row.ids))
