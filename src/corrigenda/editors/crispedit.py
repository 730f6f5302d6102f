"""CrispEdit: fine-tuning on edits along directions to which ordinary text is indifferent.

Ikram et al. 2026, 2602.15823.

The curvature of the language-modelling loss in a down-projection W is approximated by two second
moments over ordinary text (K-FAC), A of the inputs of W and B of its output gradients. With
eigenpairs (a_j, U_A), (b_i, U_B) the directions of largest b_i a_j that together hold the share
`energy` of the curvature are closed, and every step of Adam is projected onto the rest:

    step ← U_B [ (U_Bᵀ step U_A) ⊙ M ] U_Aᵀ        M_ij = 1 if b_i a_j < τ

The step, not the gradient: Adam's entrywise scaling would leave the subspace again. The factors
of earlier edits are averaged in by their number of tokens, and belong to the delta's state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..cache import cached_tensors
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import DataError
from ..model import Site
from ..models.asked import Asked
from ..models.moments import corpus_for
from ..models.text import TextModel
from ..numerics.kfac import FlatDirections, flat_directions
from ..numerics.lowrank import stack_gram
from ..numerics.moments import SecondMoment
from ._finetune import FineTuneEditor, every_token, examples, text_examples
from ._gradients import Factors, gradient_factors

__all__ = ["CrispEdit"]

Curvature = tuple[SecondMoment, SecondMoment]
"""Σ x xᵀ and Σ g gᵀ over the same tokens."""

KINDS = ("inputs", "gradients")


@dataclass(frozen=True)
class CrispEdit(FineTuneEditor):
    """Curvature-aware fine-tuning of down-projections. See `FineTuneEditor` for the other fields.

    energy      share of the curvature that is protected; 0 is plain fine-tuning.
    statistics  ordinary text: auto, atlas, samples, or a file.
    texts       how many texts of it are read.
    """

    batch_size: int = 32
    energy: float | None = None
    statistics: str = "auto"
    texts: int = 1000

    name: ClassVar[str] = "crispedit"
    title: ClassVar[str] = "CrispEdit"
    paper: ClassVar[str] = "Ikram et al. 2026, 2602.15823"
    kinds: ClassVar[tuple[str, ...]] = ("causal",)
    needs: ClassVar[tuple[str, ...]] = ("statistics",)
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {"steps": 25, "lr": 5e-4, "energy": 0.99}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        sites, rows = self.sites(model), examples(model, edits)
        past = onto.state if onto is not None else {}
        flat: dict[str, FlatDirections] = {}
        for site, pair in self.curvature(model, sites).items():
            a, b = (
                m.merged(_read(past, site, name, m)) for m, name in zip(pair, KINDS, strict=True)
            )
            directions = flat_directions(a.mean, b.mean, energy=self.energy)
            flat[site.parameter] = directions.to(model.device)

        def projection(name: str, change: Tensor) -> Tensor:
            return flat[name].project(change)

        found = self.dense(model, rows, bias=False, shuffle=True, projection=projection)
        with Delta(found.changes, found.transposed).applied(model):
            statements = [every_token((*row.ids, row.wanted[-1])) for row in rows]
            parts = list(self._factors(model, sites, statements))
        state: dict[str, Tensor] = {}
        for site in sites:
            state |= _written(site, Factors.joined([part[site] for part in parts]))
        return replace(
            found,
            state=state,
            statistics={"source": self.statistics, "texts": self.texts},
            diagnostics={
                **found.diagnostics,
                "free_share": {n: round(d.share, 4) for n, d in flat.items()},
            },
        )

    def curvature(self, model: TextModel, sites: Sequence[Site]) -> dict[Site, Curvature]:
        """K-FAC sums over ordinary text on the pristine weights, cached.

        Raises `DataError` when there is no text.
        """
        corpus = corpus_for(model, self.statistics, seed=self.seed)
        names = [site.parameter for site in sites]
        key = f"kfac-{model.weights_hash()}-{corpus.digest}-{self.texts}-{names}"

        def make() -> dict[str, Tensor]:
            sums: dict[str, SecondMoment] = {}
            with model.live.suspended():
                rows = text_examples(model, self.statistics, self.texts, seed=self.seed)
                if not rows:
                    raise DataError(f"The corpus {corpus.name} has no text of two tokens or more.")
                for part in self._factors(model, sites, rows):
                    for site, f in part.items():
                        for kind, more in zip(KINDS, (f.inputs, f.gradients), strict=True):
                            name = f"{site.parameter}/{kind}"
                            before = sums.get(name) or SecondMoment.zero(more.shape[1])
                            sums[name] = before.plus(more)
            totals = {name: moment.total for name, moment in sums.items()}
            return totals | {f"{n}/count": torch.tensor(m.count) for n, m in sums.items()}

        kept = model.remembered(key, lambda: cached_tensors(key, make))

        def moment(site: Site, kind: str) -> SecondMoment:
            name = f"{site.parameter}/{kind}"
            return SecondMoment(kept[name], int(kept[f"{name}/count"]))

        return {site: (moment(site, KINDS[0]), moment(site, KINDS[1])) for site in sites}

    def _factors(
        self, model: TextModel, sites: Sequence[Site], rows: Sequence[Asked]
    ) -> Iterator[dict[Site, Factors]]:
        for at in range(0, len(rows), self.batch_size):
            yield gradient_factors(model, sites, rows[at : at + self.batch_size], tokens="all")


def _written(site: Site, factors: Factors) -> dict[str, Tensor]:
    """The second moments of some tokens in the form in which states add up: as columns K, of
    which K Kᵀ is what counts. The number of tokens is one, the square of √n."""
    columns = (factors.inputs.T, factors.gradients.T, torch.ones(1, len(factors.inputs)))
    return {
        _name(site, kind): stack_gram(k[:, :0], k)
        for kind, k in zip((*KINDS, "count"), columns, strict=True)
    }


def _read(state: Mapping[str, Tensor], site: Site, kind: str, like: SecondMoment) -> SecondMoment:
    """The second moment of the tokens of earlier edits."""
    columns, count = (state.get(_name(site, name)) for name in (kind, "count"))
    if columns is None or count is None:
        return SecondMoment.zero(len(like.total))
    columns = columns.double()
    return SecondMoment(columns @ columns.T, round(float(count.double().square().sum())))


def _name(site: Site, kind: str) -> str:
    return f"{site.parameter}/{kind}/keys"
