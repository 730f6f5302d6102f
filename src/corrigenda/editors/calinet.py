"""CaliNET: a small MLP beside the last one, trained to calibrate facts that are known wrong.

Dong, Dai, Song, Xu, Sui, Li 2022, 2210.03329. With a few slots beside an MLP:

    y = MLP(x) + V act(K x)                         K: (slots, i), V: (o, slots), zero at first
    y = MLP(x) + V (act(K x) * G x)                 where the MLP itself is gated; G: (slots, i)

    min_{K, V, G}  mean over facts and wordings of mean_t -log p(target_t | wording, target_<t)

The wordings of a fact are its prompt after nothing and after sampled contexts. Which facts are
wrong, the contrastive score tells (`cka`): p(object | subject, relation) against its mean over
relations that do not hold,

    CKA = (p(o | s, r) + α) / (mean_r' p(o | s, r') + α)                            false below 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..acting import Neurons, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import InputError
from ..models.linear import shape
from ..models.prefixes import joined, sample_prefixes
from ..models.text import TextModel
from ._finetune import FineTuneEditor
from ._neurons import with_units

__all__ = ["CaliNET", "cka"]


@dataclass(frozen=True)
class CaliNET(FineTuneEditor):
    """Calibration slots beside MLPs. See `FineTuneEditor` for the other fields.

    layers      None: the last block.
    slots       units beside each MLP.
    activation  of the units: gelu, relu, silu.
    prefixes    pairs (how many, of how many tokens) of sampled contexts, for models that write
                from left to right.
    """

    slots: int = 64
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    prefixes: tuple[tuple[int, int], ...] | None = None

    name: ClassVar[str] = "calinet"
    title: ClassVar[str] = "CaliNET"
    paper: ClassVar[str] = "Dong et al. 2022, 2210.03329"
    family: ClassVar[str] = "memory"
    change: ClassVar[str] = "Neurons"
    paper_values: ClassVar[dict[str, Any]] = {
        "steps": 50,
        "lr": 1e-3,
        "prefixes": ((5, 5), (5, 10)),
    }

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        contexts = [""]
        if model.kind == "causal" and self.prefixes:
            with model.live.suspended():
                contexts += sample_prefixes(model, self.prefixes, seed=self.seed)
        rows = [
            model.asked(joined(c, e.text), e.target, e.following) for e in edits for c in contexts
        ]
        mlps = {layer: model.mlp(layer) for layer in self.layers or ()}
        units = {layer: self.started(model, layer) for layer in mlps}
        with ExitStack() as stack:
            for layer, mlp in mlps.items():
                stack.enter_context(with_units(mlp, *units[layer], self.activation))
            free = [p for parts in units.values() for p in parts if p.requires_grad]
            found = self.trained(model, rows, free, shuffle=True)
        found = replace(found, each=found.each.view(len(edits), -1).mean(1))
        return Solution(
            {
                place(model.path_of(mlp)): Neurons(*units[layer], self.activation)
                for layer, mlp in mlps.items()
            },
            diagnostics={**found.diagnostics(), "wordings": len(contexts)},
            notes=found.notes(self.tolerance),
        )

    def started(self, model: TextModel, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """K, a bias that stays 0, V and G (empty without a gate) of untrained slots."""
        row, _ = model.row(layer)
        mlp = model.mlp(layer)
        at_down = mlp is model.linear(model.site("down", layer))  # no module around both maps
        o, inner = shape(model.linear(model.site("down", layer)))
        i = inner if at_down else o
        generator = torch.Generator().manual_seed(self.seed + layer)

        def drawn() -> Tensor:
            noise = torch.randn(self.slots, i, generator=generator) / math.sqrt(i)
            return noise.to(model.device).requires_grad_(True)

        k = drawn()
        v = torch.zeros(o, self.slots, device=model.device, requires_grad=True)
        gate = drawn() if row.gated else torch.empty(0, 0, device=model.device)
        return k, torch.zeros(self.slots, device=model.device), v, gate


def cka(
    model: TextModel, facts: Sequence[Rewrite], contrasts: Sequence[str], *, alpha: float = 1e-3
) -> list[float]:
    """The contrastive score of facts: below 1, the model does not hold them true.

    facts      whose targets are asked about.
    contrasts  prompts with one {} for the subject, of relations that do not hold.
    alpha      smooths small probabilities. p is that of the whole target.

    Raises `InputError` without contrasts, or for one without {}.
    """
    if not contrasts or any(c.count("{}") != 1 for c in contrasts):
        raise InputError(
            'The score needs contrasting prompts with one {} each: ["{} was painted by", ...].'
        )
    asked = [
        (prompt.replace("{}", fact.subject), fact.target)
        for fact in facts
        for prompt in (fact.prompt, *contrasts)
    ]
    p = torch.tensor([math.exp(s.total) for s in model.score(asked)], dtype=torch.float64)
    p = p.view(len(facts), 1 + len(contrasts))
    return ((p[:, 0] + alpha) / (p[:, 1:].mean(1) + alpha)).tolist()
