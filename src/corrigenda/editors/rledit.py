"""RLEdit: MALMEN's network, trained on whole sequences of edits.

Li et al. 2025, 2502.05759.

In training, batches of edits follow each other and the weights drift as they do in use. At step t
the change Δ_t of batch t is judged on the last batches b, the older the less:

    L_t = Σ_{b ≤ t} γ^(t-b) (c · NLL_b + k · KL_b)(W_t) + μ ‖Δ_t‖²      W_t = W_0 + Δ_1 + ... + Δ_t

The state W_{t-1} is taken as given: L_t teaches the network through Δ_t alone. It learns once per
sequence. With sequences of one batch and μ = 0 this is MALMEN.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..models.text import TextModel
from ._factor_network import FactorNetwork
from ._least_squares import LeastSquaresEditor
from ._lessons import Changes, Lesson

__all__ = ["RLEdit"]


@dataclass(frozen=True)
class RLEdit(LeastSquaresEditor):
    """Least-squares edits that are fit for sequences. See `LeastSquaresEditor` for other fields.

    length   batches of a training sequence; `lessons` edits are spread over them.
    window   so many last batches are judged.
    decay    γ, what a batch counts less for each step of age.
    penalty  μ, the weight of a change's squared norm.
    """

    length: int | None = None
    window: int | None = None
    decay: float | None = None
    penalty: float | None = None

    name: ClassVar[str] = "rledit"
    title: ClassVar[str] = "RLEdit"
    paper: ClassVar[str] = "Li et al. 2025, 2502.05759"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {
        "rank": 1024,
        "blocks": 4,
        "normalize": True,
        "step": 1e-6,
        "step_rate": 1e-5,
        "rate": 1e-5,
        "steps": 1000,
        "lessons": 400,
        "emphasis": 1.0,
        "locality": 0.6,
        "clip": 1.0,
        "length": 20,
        "window": 10,
        "decay": 0.95,
        "penalty": 1e-4,
    }

    def learn(
        self,
        model: TextModel,
        network: FactorNetwork,
        lessons: Sequence[Lesson],
        draw: random.Random,
    ) -> dict[str, float]:
        size = -(-len(lessons) // (self.length or 1))
        batches = [lessons[at : at + size] for at in range(0, len(lessons), size)]
        before: Changes = {}
        total: dict[str, float] = {}
        for t in range(len(batches)):
            ages = range(min(t + 1, self.window or 1))
            replay = [((self.decay or 1.0) ** age, batches[t - age]) for age in ages]
            seen, made = self.taught(
                model, network, batches[t], replay, draw, before, self.penalty or 0.0
            )
            before = _sum(before, made)
            total = {key: total.get(key, 0.0) + value for key, value in seen.items()}
        return {key: value / len(batches) for key, value in total.items()}


def _sum(a: Changes, b: Changes) -> Changes:
    """Both changes, their factors side by side."""
    if not a:
        return b
    return {
        site: (torch.cat([a[site][0], u], 1), torch.cat([a[site][1], v]))
        for site, (u, v) in b.items()
    }
