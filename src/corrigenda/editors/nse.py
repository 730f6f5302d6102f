"""NSE: neuron-level sequential editing.

Jiang, Fang, Zhang, Ma, Wan, Wang, He, Chua 2024, 2410.04045.

Three changes of MEMIT against the decay of a model over many edits. Wanted values are searched on
the original weights, not on those that earlier edits have bent. Of each layer only the neurons
that the facts activate most are written: sorted by Σ|k| over the facts, the longest run that holds
at most the share τ of the sum. And facts that still miss their value after a pass over the layers
are written again. On the chosen inputs, with K_p the keys of earlier edits,

    Δ = R Kᵀ (λ C + K_p K_pᵀ + K Kᵀ)⁻¹
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..delta import Delta
from ..edit import Rewrite
from ..model import Site
from ..models.moments import Statistics
from ..models.text import TextModel
from ..numerics.solve import Update, preserving, ridge
from ._keyvalue import Values
from ._spread import (
    MEMIT_VALUES,
    Past,
    Spread,
    SpreadEditor,
    Writer,
    preserved,
    residual,
    spread,
)

__all__ = ["NSE", "most_active"]


@dataclass(frozen=True)
class NSE(SpreadEditor):
    """Sequences of edits to few neurons each. See `KeyValueEditor` for the other fields.

    weight  λ: how much ordinary keys are preserved.
    share   τ: of the facts' activation that the written neurons hold; 1: all neurons.
    passes  over the layers, at most.
    lower   a fact whose residual norm is at most this is done.
    upper   a fact whose residual norm is at least this is given up, and reported.
    """

    weight: float | None = None
    share: float | None = None
    passes: int = 3
    lower: float | None = None
    upper: float | None = None

    name: ClassVar[str] = "nse"
    title: ClassVar[str] = "NSE"
    paper: ClassVar[str] = "Jiang et al. 2024, 2410.04045"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {
        **MEMIT_VALUES,
        "weight": 15000.0,
        "share": 1.0,
        "lower": 0.0,
        "upper": float("inf"),
    }

    def wanted(self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str]) -> Values:
        with model.live.suspended():
            return super().wanted(model, edits, contexts)

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        weight, share = self.weight, self.share
        assert weight is not None and share is not None

        def write(site: Site, keys: Tensor, residuals: Tensor) -> Update:
            chosen = most_active(keys, share)
            moment, behind = statistics.moments[site], past.get(site)
            if len(chosen) == len(keys):
                factor = preserved(model, site, moment.mean, weight, past=behind)
            else:
                some = None if behind is None else behind[chosen]
                factor = preserving(moment.within(chosen), weight, past=some)
            found = ridge(keys[chosen], residuals, factor, weight)
            v = found.v.new_zeros(len(found.v), len(keys))
            v[:, chosen] = found.v
            return Update(found.u, v, found.condition)

        return write

    def spread(
        self,
        model: TextModel,
        edits: Sequence[Rewrite],
        contexts: Sequence[str],
        values: Values,
        write: Writer,
    ) -> Spread:
        assert self.lower is not None and self.upper is not None
        sites, at = self.sites(model), self.place(model)
        delta, residuals = Delta(), []
        notes: dict[int, str] = {}
        for _ in range(self.passes):
            with delta.applied(model):
                missing = residual(model, edits, sites[-1].layer, values.target, at).norm(dim=0)
                for j in (missing >= self.upper).nonzero()[:, 0].tolist():
                    notes[j] = (
                        f"Given up at residual norm {float(missing[j]):.3g}: the limit `upper` is "
                        f"{self.upper:g}."
                    )
                open_facts = ((missing > self.lower) & (missing < self.upper)).nonzero()[:, 0]
                if len(open_facts) == 0:
                    break
                some = [edits[j] for j in open_facts.tolist()]
                target = values.target[open_facts]
                found = spread(model, some, contexts, sites, target, write, at=at)
            delta = delta + found.delta
            residuals += found.residuals
        return Spread(delta, residuals, notes)


def most_active(keys: Tensor, share: float) -> Tensor:
    """Indices of the inputs that facts activate most, in order of index.

    keys (i, n). The longest run by falling Σ|k| that holds at most `share` of the sum of all, and
    at least one; all for share = 1.
    """
    mass, order = keys.abs().sum(1).sort(descending=True)
    held = mass.cumsum(0)
    count = int((held <= share * held[-1]).sum()) if share < 1 else len(mass)
    return order[: max(1, count)].sort().values
