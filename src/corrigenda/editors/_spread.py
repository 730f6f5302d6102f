"""What the editors share that spread a change over several layers (MEMIT, 2210.07229, alg. 1).

For each fact a wanted vector is found at the last edited layer. Then the down-projections of the
edited layers are changed in order, each taking a share of what is left, with keys and hidden
states read again after every write. Methods differ in how one layer is solved (`writer`), where
the vector is wanted, and what counts as ordinary. With the keys of earlier edits in what a layer
must preserve,

    M = λ C + shift · I + K_p K_pᵀ          Δ = R Kᵀ (M + K Kᵀ)⁻¹

a sequence of edits gives the weights of one batch (fixed keys). Those keys are kept in the state
of the deltas that made them, so undoing an edit also removes its keys.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..delta import Delta, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..errors import InputError
from ..live import tensor_hash
from ..model import Site
from ..models.forced import read
from ..models.moments import Statistics
from ..models.text import TextModel
from ..numerics.lowrank import settled
from ..numerics.solve import Factor, Update, preserving, ridge
from ._keyvalue import KeyValueEditor, Values, lookup_rows, mean_keys

__all__ = [
    "MEMIT_OPENINGS",
    "MEMIT_VALUES",
    "Past",
    "Spread",
    "SpreadEditor",
    "Writer",
    "held",
    "preserved",
    "residual",
    "ridge_writer",
    "spread",
]

MEMIT_VALUES: dict[str, Any] = {
    "steps": 25,
    "lr": 0.5,
    "clamp": 0.75,
    "weight_decay": 0.5,
    "kl_factor": 0.0625,
    "kl_at": "lookup",
    "max_norm": 0.5,
    "prefixes": ((5, 10),),
}
"""Published values of the search at a block's output."""

MEMIT_OPENINGS = ("The", "Therefore", "Because", "I", "You")

Writer = Callable[[Site, Tensor, Tensor], Update]
"""(site, keys (i, n), residuals (o, n)) -> the change of that site."""

Past = Mapping[Site, Tensor]
"""Keys (i, p) of earlier edits at the sites that have any."""


@dataclass(frozen=True)
class SpreadEditor(KeyValueEditor):
    """Many facts at once, spread over several layers. See `KeyValueEditor` for the fields.

    With `streams`, the keys of the edits are kept in the delta and given to later ones.
    """

    openings: ClassVar[tuple[str, ...]] = MEMIT_OPENINGS
    paper_values: ClassVar[dict[str, Any]] = MEMIT_VALUES

    @abstractmethod
    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        """How one layer is solved."""

    def wanted(self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str]) -> Values:
        """The values that are wanted at the last layer."""
        return self.values(model, edits, contexts, self.place(model))

    def spread(
        self,
        model: TextModel,
        edits: Sequence[Rewrite],
        contexts: Sequence[str],
        values: Values,
        write: Writer,
    ) -> Spread:
        sites = self.sites(model)
        return spread(model, edits, contexts, sites, values.target, write, at=self.place(model))

    def place(self, model: TextModel) -> Literal["mlp", "block"]:
        """Where the value is set: at the block's output, or before a norm that follows the MLP.

        Raises `InputError` for several layers where there is such a norm.
        """
        if model.layout.post_norm is None:
            return "block"
        if len(self.layers or ()) > 1:
            raise InputError(
                f"{model.id} has a norm after each MLP, so {self.title} cannot spread a change "
                f"over {len(self.layers or ())} layers of it. Give one layer."
            )
        return "mlp"

    def remarks(self, model: TextModel, statistics: Statistics) -> dict[str, Any]:
        """What the method has to say beside residuals and the search, for the diagnostics."""
        return {}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        sites, statistics = self.sites(model), self.moments(model)
        kept = onto.state if onto is not None and self.streams else {}
        past = {site: kept[_state(site)] for site in sites if _state(site) in kept}
        write = self.writer(model, statistics, past)
        contexts = self.contexts(model)
        values = self.wanted(model, edits, contexts)
        found = self.spread(model, edits, contexts, values, write)
        state = {}
        if self.streams:
            with found.delta.applied(model):
                for site in sites:
                    state[_state(site)] = mean_keys(model, edits, contexts, site, equal=False)
        return Solution(
            found.delta.changes,
            self.transposed(model),
            state=state,
            statistics=statistics.provenance(),
            diagnostics={
                "contexts": list(contexts),
                "residuals": found.residuals,
                **self.remarks(model, statistics),
                **self.routed(model, edits, found.delta.changes),
                **values.diagnostics(),
            },
            notes=values.notes() | {**found.notes},
            warnings=statistics.warnings,
            precompute_seconds=statistics.seconds,
        )


def _state(site: Site) -> str:
    return f"{site.parameter}/keys"


def held(
    model: TextModel,
    site: Site,
    past: Tensor | None,
    make: Callable[[Tensor | None], Factor],
    seen: Callable[[Tensor], Tensor],
    *about: Any,
) -> Factor:
    """The factor of what a layer must preserve, with keys (i, p) of earlier edits: most of it is
    kept from the last edit, so that its cost does not grow with p.

    make   that factor, given keys or none.
    seen   the columns that a key adds to it: K with K Kᵀ.
    about  what else the factor depends on.
    """
    old, recent = (None, None) if past is None else settled(past)
    if old is not None and old.shape[1] == 0:
        old = None
    key = repr((about, None if old is None else tensor_hash(old)))
    factor = model.latest(f"held/{site.parameter}", key, lambda: make(old))
    return factor if recent is None else factor.holding(seen(recent))


def ridge_writer(
    model: TextModel,
    statistics: Statistics,
    weight: float,
    *,
    shift: float = 0.0,
    past: Past | None = None,
) -> Writer:
    """Each layer by Δ = R Kᵀ (λC + shift·I + K_pK_pᵀ + KKᵀ)⁻¹, with λ = weight."""
    factors = {
        site: preserved(model, site, moment.mean, weight, shift, (past or {}).get(site))
        for site, moment in statistics.moments.items()
    }
    return lambda site, keys, residuals: ridge(keys, residuals, factors[site], weight)


def preserved(
    model: TextModel,
    site: Site,
    moment: Tensor,
    weight: float,
    shift: float = 0.0,
    past: Tensor | None = None,
) -> Factor:
    """The factor of C + (shift·I + K_pK_pᵀ) / weight, C being one matrix or blocks."""

    def make(keys: Tensor | None) -> Factor:
        return preserving(moment, weight, shift=shift, past=keys)

    if moment.ndim == 3:
        return make(past)
    about = tensor_hash(moment), weight, shift
    return held(model, site, past, make, lambda keys: keys / weight**0.5, *about)


@dataclass(frozen=True, slots=True)
class Spread:
    """A residual spread over layers: the changes, and what was left before each write and after.

    residuals  mean ‖Z - H_L‖ per fact, one more entry than there were writes.
    notes      remarks by index of the edit.
    """

    delta: Delta
    residuals: list[float]
    notes: Mapping[int, str] = field(default_factory=dict)


def spread(
    model: TextModel,
    edits: Sequence[Rewrite],
    contexts: Sequence[str],
    sites: Sequence[Site],
    target: Tensor,
    write: Writer,
    *,
    at: Literal["mlp", "block"] = "block",
    share: Callable[[int], float] = lambda left: 1 / left,
) -> Spread:
    """Write towards `target` at the last site's layer, layer by layer in order.

    target  (n, d) wanted output of that layer's MLP or block, whichever `at` says.
    share   of what is missing that a layer takes, from the number of layers left.
    """
    delta, residuals = Delta(), []
    for step, site in enumerate([*sites, None]):
        with delta.applied(model):
            missing = residual(model, edits, sites[-1].layer, target, at)
            residuals.append(float(missing.norm(dim=0).mean()))
            if site is None:
                break
            keys = mean_keys(model, edits, contexts, site, equal=False)
        update = write(site, keys, missing * share(len(sites) - step))
        change = {site.parameter: LowRank(update.u, update.v)}
        delta = delta + Delta(change, frozenset({site.parameter} if site.transposed else ()))
    return Spread(delta, residuals)


def residual(
    model: TextModel,
    edits: Sequence[Rewrite],
    layer: int,
    target: Tensor,
    at: Literal["mlp", "block"],
) -> Tensor:
    """(d, n) float64: what is missing of the wanted output at the lookup token of plain prompts."""
    module = model.mlp(layer) if at == "mlp" else model.block(layer)
    rows = lookup_rows(model, edits, ("",), layer)
    return (target.double() - read(model, rows, module, "output").double()).T
