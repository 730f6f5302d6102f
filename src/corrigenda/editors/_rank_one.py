"""What ROME and R-ROME share: rank-one changes of one layer, one edit after another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..delta import Delta, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..models.text import TextModel
from ..numerics.solve import Factor, Update, equality
from ._keyvalue import ROME_VALUES, KeyValueEditor, mean_keys

__all__ = ["Keys", "RankOneEditor"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one fact, each (i, 1): averaged over the contexts, and of the bare prompt."""

    mean: Tensor
    plain: Tensor


@dataclass(frozen=True)
class RankOneEditor(KeyValueEditor):
    """Rank-one change of one layer, one edit after another. See `KeyValueEditor` for the fields."""

    batches: ClassVar[bool] = False
    paper_values: ClassVar[dict[str, Any]] = ROME_VALUES

    def update(self, keys: Keys, found: Tensor, factor: Factor, weight: Tensor) -> Update:
        """(o, 1), (1, i) factors of the change.

        found   (o, 1) the δ of the value search.
        factor  of C; weight: (o, i) as it is now.
        """
        return equality(keys.mean, found, factor)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        (site,) = self.sites(model)[-1:]
        statistics = self.moments(model)
        factor = Factor.of(statistics.moments[site].mean)
        contexts = self.contexts(model)
        total: Delta | None = None
        transposed = self.transposed(model)
        diagnostics: list[dict[str, Any]] = []
        notes: dict[int, str] = {}
        with ExitStack() as stack:
            for j, edit in enumerate(edits):
                values = self.values(model, [edit], contexts, "mlp")
                keys = Keys(
                    mean_keys(model, [edit], contexts, site, equal=True),
                    mean_keys(model, [edit], contexts[:1], site, equal=True),
                )
                update = self.update(keys, values.delta.double().T, factor, model.weight(site))
                step = Delta({site.parameter: LowRank(update.u, update.v)}, transposed)
                total = step if total is None else total + step
                diagnostics.append(values.diagnostics())
                if note := values.notes().get(0):
                    notes[j] = note
                if j < len(edits) - 1:  # the next edit is solved on top of this one
                    stack.enter_context(step.applied(model))
        assert total is not None
        return Solution(
            total.changes,
            transposed,
            statistics=statistics.provenance(),
            diagnostics={
                "contexts": list(contexts),
                "edits": diagnostics,
                **self.routed(model, edits, total.changes),
            },
            notes=notes,
            warnings=statistics.warnings,
            precompute_seconds=statistics.seconds,
        )
