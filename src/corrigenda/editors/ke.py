"""KE (KnowledgeEditor): a network that reads the edit says where its gradient should go.

De Cao, Aziz and Titov 2021, 2104.08164.

A bidirectional LSTM reads [prompt; old answer; new answer]. From what it read, a small network for
each matrix W (o, i) gives vectors a, b (o,), c, e (i,) and a number η, and with the edit's gradient

    Δ = s σ(η) (∇ ⊙ softmax(a) cᵀ + softmax(b) eᵀ)

(The sign of the step is in c.) The network is trained to answer the edit in other wordings while
what it does to unrelated prompts stays below a margin m, by Lagrange's method; m shrinks meanwhile:

    min NLL  subject to  KL ≤ m            multiplier ← max(0, multiplier + rate (KL - m))

The words are embedded as the language model embeds them; that table is not trained along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..edit import Rewrite
from ..model import Site
from ..models.text import TextModel
from ._gradients import Factors
from ._hypernetwork import HypernetworkEditor
from ._lessons import Changes

__all__ = ["KE"]


class Conditioner(nn.Module):
    """Reads an edit, (t, d) embedded tokens, and gives η, a, b, c, e for every matrix (o, i)."""

    multiplier: Tensor
    seen: Tensor

    def __init__(
        self,
        size: int,
        width: int,
        hidden: int,
        shapes: Sequence[tuple[int, int]],
        multiplier: float,
    ) -> None:
        super().__init__()
        self.shapes = list(shapes)
        self.reader = nn.LSTM(size, width, bidirectional=True)
        self.summary = nn.Linear(2 * width, width)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden), nn.Tanh(), weight_norm(nn.Linear(hidden, 1 + 2 * (o + i)))
            )
            for o, i in shapes
        )
        self.register_buffer("multiplier", torch.tensor(multiplier))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, embedded: Tensor) -> list[tuple[Tensor, ...]]:
        _, (last, _) = self.reader(embedded)
        condition = self.summary(last.flatten()).tanh()
        return [
            head(condition).split([1, o, o, i, i])
            for head, (o, i) in zip(self.heads, self.shapes, strict=True)
        ]


@dataclass(frozen=True)
class KE(HypernetworkEditor):
    """One edit at a time by a network that reads it. See `HypernetworkEditor` for other fields.

    scale   s, the largest size of a change.
    width   of the LSTM's states.
    hidden  width of the networks that make the changes.
    margin  m, first and last; it shrinks by the same factor in every step.
    ascent  learning rate of the multiplier; the multiplier begins at `locality`.
    """

    scale: float | None = None
    width: int | None = None
    hidden: int | None = None
    margin: tuple[float, float] | None = None
    ascent: float | None = None

    name: ClassVar[str] = "ke"
    title: ClassVar[str] = "KnowledgeEditor"
    paper: ClassVar[str] = "De Cao et al. 2021, 2104.08164"
    batches: ClassVar[bool] = False
    paper_values: ClassVar[dict[str, Any]] = {
        "scale": 1.0,
        "width": 768,
        "hidden": 128,
        "margin": (1e-1, 1e-3),
        "ascent": 1e-1,
        "rate": 1e-5,
        "steps": 100_000,
        "lessons": 10,
        "emphasis": 1.0,
        "locality": 1.0,
        "clip": 100.0,
    }

    def network(self, model: TextModel, sites: Sequence[Site]) -> Conditioner:
        shapes = [(w.shape[0], w.shape[1]) for w in map(model.weight, sites)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Conditioner(
                _embedding(model).weight.shape[1],
                self.width or 1,
                self.hidden or 1,
                shapes,
                self.locality or 0.0,
            )

    def made(
        self,
        model: TextModel,
        network: Conditioner,
        edits: Sequence[Rewrite],
        factors: Mapping[Site, Factors],
    ) -> Changes:
        found: dict[Site, tuple[list[Tensor], list[Tensor]]] = {site: ([], []) for site in factors}
        for j, read in enumerate(_read(model, edits)):
            for (site, f), (size, a, b, c, e) in zip(factors.items(), network(read), strict=True):
                mine = f.rows == j
                # ∇ ⊙ p cᵀ = Σ_t (p ⊙ δ_t)(c ⊙ x_t)ᵀ
                step = (self.scale or 0.0) * size.sigmoid()
                u = torch.cat([a.softmax(0) * f.gradients[mine], b.softmax(0)[None]])  # (n + 1, o)
                found[site][0].append(step * u)
                found[site][1].append(torch.cat([c * f.inputs[mine], e[None]]))  # (n + 1, i)
        return {site: (torch.cat(u).T, torch.cat(v)) for site, (u, v) in found.items()}

    def weighted(self, network: Conditioner, nll: Tensor, kl: Tensor) -> Tensor:
        first, last = self.margin or (0.0, 0.0)
        margin = first * (last / first) ** min(1.0, float(network.seen) / max(1, self.steps or 1))
        excess = kl - margin
        loss = (self.emphasis or 0.0) * nll + float(network.multiplier) * excess
        raised = network.multiplier + (self.ascent or 0.0) * excess.detach().to(network.multiplier)
        network.multiplier = raised.clamp_min(0.0)
        network.seen = network.seen + 1
        return loss


def _embedding(model: TextModel) -> Any:
    return model.module.get_input_embeddings()


@torch.no_grad()
def _read(model: TextModel, edits: Sequence[Rewrite]) -> list[Tensor]:
    """(t, d) embedded tokens of each edit: its prompt, the old answer and the new one."""
    unknown = [edit for edit in edits if edit.target_true is None]
    said = (
        {id(e): answer for e, (_, answer) in zip(unknown, model.says(unknown), strict=True)}
        if unknown
        else {}
    )
    found = []
    for edit in edits:
        old = edit.target_true if edit.target_true is not None else said[id(edit)]
        texts = (f"{edit.text} {edit.following}".strip(), old, edit.target)
        ids = [token for text in texts if text for token in model.ids(text)]
        embedded = _embedding(model)(torch.tensor(ids, device=model.device))
        found.append(embedded.float().cpu())
    return found
