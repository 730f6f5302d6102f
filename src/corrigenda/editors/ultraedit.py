"""UltraEdit: an edit in one backward pass and one linear solve, with nothing trained or stored.

Gu et al. 2025, 2505.14679.

At every position t that predicts a token of an answer, a linear map has an input x_t and, of the
answer's NLL, an output gradient g_t. Both are normalised, x̂ and ĝ, by the running mean and
standard deviation over all edits so far; the wanted change of the output is a step against the
gradient, the larger the more unusual the input:

    v_t = -step ‖x̂_t‖² ĝ_t        Δ = Vᵀ X (XᵀX + I)⁻¹ = argmin ‖Δ Xᵀ - Vᵀ‖² + ‖Δ‖²

The statistics are kept for each map and travel in the delta's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..delta import Delta, Dense, LowRank
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..model import Site
from ..models.asked import Asked
from ..models.moments import corpus_for
from ..models.text import TextModel
from ..numerics.running import Running
from ..numerics.solve import Factor, ridge
from . import presets
from ._finetune import examples, linear_sites, text_examples
from ._gradients import Factors, gradient_factors

__all__ = ["UltraEdit"]


@dataclass(frozen=True)
class UltraEdit(Editor):
    """Normalised gradients, solved for. None means: the preset for the model, or the paper's value.

    layers      blocks that are changed.
    roles       which linear maps of them: "down", "up", "gate", ...
    step        η, the size of the wanted change; it is multiplied by ‖x̂‖², about the input size.
    tokens      "reads": positions that predict the answer; "all": every position of the edit.
    warmup      texts whose statistics come before those of any edit: a single short answer is too
                little to normalise by.
    statistics  where these texts come from: auto, atlas, samples, or a file.
    batch_size  edits per backward pass.
    seed        of sampled text.
    """

    layers: tuple[int, ...] | None = None
    roles: tuple[str, ...] | None = None
    step: float | None = None
    tokens: Literal["reads", "all"] = "reads"
    warmup: int = 100
    statistics: str = "auto"
    batch_size: int = 10
    seed: int = 0

    name: ClassVar[str] = "ultraedit"
    title: ClassVar[str] = "UltraEdit"
    paper: ClassVar[str] = "Gu et al. 2025, 2505.14679"
    kinds: ClassVar[tuple[str, ...]] = ("causal",)
    family: ClassVar[str] = "gradient-based"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {"step": 1e-6, "roles": ("down",)}

    def resolved(self, model: TextModel) -> UltraEdit:
        return presets.resolved(self, model)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        sites = linear_sites(model, self.layers or (), self.roles)
        factors = self._factors(model, sites, examples(model, edits), self.tokens)
        known = self._known(model, sites, onto.state if onto is not None else {})
        changes: dict[str, LowRank | Dense] = {}
        state: dict[str, Tensor] = {}
        for site in sites:
            f = factors[site]
            features = torch.cat([f.inputs, f.gradients], 1).double()  # (n, i + o)
            new = Running.of(features)
            running = known[site].merged(new)
            inputs, gradients = running.normalized(features).split(
                [f.inputs.shape[1], f.gradients.shape[1]], 1
            )
            wanted = (
                -(self.step or 0.0) * inputs.square().sum(1, keepdim=True) * gradients
            )  # (n, o)
            changes[site.parameter] = _solved(f.inputs.double(), wanted)
            state[_state(site)] = new.tensor()
        return Solution(
            changes,
            frozenset(s.parameter for s in sites if s.transposed),
            state=state,
            statistics={"source": self.statistics, "texts": self.warmup} if self.warmup else {},
            diagnostics={"tokens": len(factors[sites[0]].inputs)},
        )

    def _known(
        self, model: TextModel, sites: Sequence[Site], past: Mapping[str, Tensor]
    ) -> dict[Site, Running]:
        """Statistics from before these edits: of the warm-up, then of earlier edits."""
        found = self._warm(model, sites)
        for site in sites:
            if (earlier := past.get(_state(site))) is not None:
                found[site] = found[site].merged(Running.of_tensor(earlier))
        return found

    def _warm(self, model: TextModel, sites: Sequence[Site]) -> dict[Site, Running]:
        """Statistics of ordinary text on the unedited model."""
        if not self.warmup:
            return {site: Running.zero(sum(model.weight(site).shape)) for site in sites}

        def make() -> dict[Site, Running]:
            with model.live.suspended():
                rows = text_examples(model, self.statistics, self.warmup, seed=self.seed)
                found = self._factors(model, sites, rows, "all")
            return {
                site: Running.of(torch.cat([f.inputs, f.gradients], 1)) for site, f in found.items()
            }

        corpus = corpus_for(model, self.statistics, seed=self.seed).digest
        names = [site.parameter for site in sites]
        key = f"running-{model.weights_hash()}-{corpus}-{self.warmup}-{names}"
        return dict(model.remembered(key, make))

    def _factors(
        self,
        model: TextModel,
        sites: Sequence[Site],
        rows: Sequence[Asked],
        tokens: Literal["reads", "all"],
    ) -> dict[Site, Factors]:
        parts = [
            gradient_factors(model, sites, rows[at : at + self.batch_size], tokens=tokens)
            for at in range(0, len(rows), self.batch_size)
        ]
        return {site: Factors.joined([part[site] for part in parts]) for site in sites}


def _solved(inputs: Tensor, wanted: Tensor) -> LowRank | Dense:
    """Δ for inputs (n, i) and wanted changes (n, o), in its smaller form."""
    (n, i), o = inputs.shape, wanted.shape[1]
    update = ridge(inputs.T, wanted.T, Factor(torch.eye(i, dtype=inputs.dtype)))
    return LowRank(update.u, update.v) if n * (o + i) < o * i else Dense(update.matrix)


def _state(site: Site) -> str:
    return f"{site.parameter}/running"
