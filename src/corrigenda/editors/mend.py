"""MEND: a small network edits the gradient of an edit before it is used.

Mitchell, Lin, Bosselut, Finn and Manning 2021, 2110.11309.

The gradient of -log p(target | prompt) in a linear map is Σ_t δ_t x_tᵀ. The network maps each pair
of factors to another one, and the weights take one step, of a learned size for each map:

    (x̃_t, δ̃_t) = g(x_t, δ_t)        W ← W - α Σ_t δ̃_t x̃_tᵀ

g is the identity before it is trained, and the change then is a step of gradient descent. (Public
code adds the step where the paper subtracts it, so that training begins with an ascent.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..edit import Rewrite
from ..model import Site
from ..models.text import TextModel
from ._factor_network import FactorEditor, FactorNetwork, lively
from ._gradients import Factors
from ._lessons import Changes

__all__ = ["MEND"]


@dataclass(frozen=True)
class MEND(FactorEditor):
    """A gradient step through a trained network. See `FactorEditor` for the fields."""

    name: ClassVar[str] = "mend"
    title: ClassVar[str] = "MEND"
    paper: ClassVar[str] = "Mitchell et al. 2021, 2110.11309"
    paper_values: ClassVar[dict[str, Any]] = {
        "rank": 1920,
        "blocks": 2,
        "normalize": True,
        "step": 1e-4,
        "step_rate": 1e-4,
        "rate": 1e-6,
        "steps": 10_000,
        "lessons": 10,
        "emphasis": 0.1,
        "locality": 1.0,
        "clip": 100.0,
    }

    def made(
        self,
        model: TextModel,
        network: FactorNetwork,
        edits: Sequence[Rewrite],
        factors: Mapping[Site, Factors],
    ) -> Changes:
        found = {}
        for j, (site, f) in enumerate(factors.items()):
            x, d = network(j, *lively(f))
            found[site] = (-network.steps[j] * d.T, x)
        return found
