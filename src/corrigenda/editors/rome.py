"""ROME: rank-one model editing, with R-ROME's keys by default.

ROME: Meng, Bau, Andonian, Belinkov 2022, 2202.05262. R-ROME: Gupta, Baskaran, Anumanchipalli
2024, 2403.07175.

One down-projection W stores k -> v. With C = E[k kᵀ] over ordinary text, the smallest change (in
tr(Δ C Δᵀ)) that sends the key k to v* is

    Δ = (v* - W k) (C⁻¹k)ᵀ / (kᵀC⁻¹k)

    keys="mean"   R-ROME: k = k̄, the mean key over sampled contexts, in numerator and divisor.
                  The wanted value is v̄ + δ, so every context is moved by the δ that was found.
    keys="plain"  p-ROME: the key of the bare prompt everywhere.
    keys="rome"   the original: direction from k̄, divisor and residual from the bare prompt. When
                  those nearly disagree the change explodes ("disabling edits"), so it is an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..delta import Delta, LowRank
from ..edit import Rewrite
from ..editor import Solution
from ..errors import UnstableEditError
from ..models.text import TextModel
from ..numerics.solve import Factor, Update, equality
from ._keyvalue import ROME_VALUES, KeyValueEditor, mean_keys

__all__ = ["ROME"]


@dataclass(frozen=True)
class ROME(KeyValueEditor):
    """Rank-one change of one layer, one edit after another. See `KeyValueEditor` for the fields.

    keys  "mean" (R-ROME), "plain" (p-ROME) or "rome" (the original).
    """

    keys: Literal["mean", "plain", "rome"] = "mean"

    name: ClassVar[str] = "rome"
    title: ClassVar[str] = "ROME"
    paper: ClassVar[str] = "Meng et al. 2022, 2202.05262; R-ROME: Gupta et al. 2024, 2403.07175"
    batches: ClassVar[bool] = False
    paper_values: ClassVar[dict[str, Any]] = ROME_VALUES

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
                averaged = mean_keys(model, [edit], contexts, site, equal=True)
                plain = mean_keys(model, [edit], contexts[:1], site, equal=True)
                update = self._update(averaged, plain, values.delta.double().T, factor)
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
            diagnostics={"contexts": list(contexts), "edits": diagnostics},
            notes=notes,
            warnings=statistics.warnings,
            precompute_seconds=statistics.seconds,
        )

    def _update(self, averaged: Any, plain: Any, residual: Any, factor: Factor) -> Update:
        """(o, 1), (1, i) factors. averaged, plain: (i, 1) keys; residual: (o, 1) the found δ."""
        if self.keys != "rome":
            return equality(averaged if self.keys == "mean" else plain, residual, factor)
        direction = factor.solve(averaged)
        divisor = float(plain.T @ direction)
        alignment = divisor / float(averaged.T @ direction)
        if abs(alignment) < 0.05:
            raise UnstableEditError(
                "ROME's divisor k₀ᵀC⁻¹k̄ is close to zero, so the edit would explode. Use "
                'keys="mean" (R-ROME), which cannot have this fault.'
            )
        return Update(residual, direction.T / divisor, 1.0)
