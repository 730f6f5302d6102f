"""The layers at which an editor does best, found by editing.

Where causal tracing finds an answer does not tell where an edit of it succeeds (Hase, Bansal, Kim,
Ghandeharioun 2023, 2301.04213). So candidates are judged by what edits at them do: for each, the
editor runs on facts that are held out of any later evaluation, and is scored by free generation,

    score = harmonic mean of efficacy, generalization and locality

of which those count that the facts have probes for. The harmonic mean is 0 when one of them is 0:
a layer where nothing changes keeps everything else, and is no good place.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..edit import Case
from ..editor import Editor, EditWarning
from ..errors import InputError
from ..models.text import TextModel

if TYPE_CHECKING:
    from ..report import Report

__all__ = ["JUDGED", "Candidate", "choose", "windows"]

JUDGED = ("gen.efficacy", "gen.generalization", "gen.locality")
"""The scores that decide, as they are called in a report."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of layers, and what edits there did.

    score   harmonic mean of the headline scores in `JUDGED` that the facts allow.
    report  everything that was measured: intervals, failures, cost, every answer.
    """

    layers: tuple[int, ...]
    score: float
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """The scores with their intervals, ready for JSON."""
        scores = {
            name.removeprefix("gen."): {"value": s.value, "low": s.low, "high": s.high}
            for name in JUDGED
            if (s := self.report.scores.get(name)) is not None
        }
        return {
            "layers": list(self.layers),
            "score": self.score,
            **scores,
            "failures": dict(self.report.failures),
            "seconds_per_edit": self.report.cost.get("seconds_per_edit"),
        }


def choose(
    model: TextModel,
    editor: Editor,
    cases: Sequence[Case],
    evaluate: Callable[..., Report],
    *,
    candidates: Sequence[tuple[int, ...]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> tuple[Candidate, ...]:
    """Run the editor at every candidate, and rank them, the best first.

    cases       facts with probes, other ones than those that results are reported on.
    evaluate    the evaluation loop, `corrigenda.evaluate`. It is handed in because locating stands
                below measuring.
    candidates  choices of layers. None: every window of as many neighbouring layers as the editor
                changes on this model, one by one for most.
    progress    called with (candidates done, all candidates).
    options     of the evaluation, such as max_new_tokens.

    Edits that do not take or raise are part of the scores. Equal scores keep the order of layers.
    Raises `InputError` without cases, for an editor that has no layers, and for candidates that
    the model does not have.
    """
    if not cases:
        raise InputError("A choice of layers needs facts to try edits on. Give some cases.")
    tried = list(windows(model, editor) if candidates is None else candidates)
    for layer in (layer for layers in tried for layer in layers):
        model.block(layer)  # raises for a layer that does not exist
    found = []
    for done, layers in enumerate(tried):
        if progress is not None:
            progress(done, len(tried))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)  # failures are counted
            report = evaluate(model, replace(editor, layers=layers), cases, **options)
        parts = [max(0.0, report.scores[name].value) for name in JUDGED if name in report.scores]
        found.append(Candidate(layers, statistics.harmonic_mean(parts) if parts else 0.0, report))
    if progress is not None:
        progress(len(tried), len(tried))
    return tuple(sorted(found, key=lambda c: -c.score))


def windows(model: TextModel, editor: Editor) -> list[tuple[int, ...]]:
    """All windows of as many neighbouring layers as the editor changes on this model.

    Raises `InputError` for an editor that has no layers.
    """
    layers = getattr(editor.resolved(model), "layers", None)
    if not layers:
        raise InputError(f"{editor.title} has no layers to choose among. Take rome or memit.")
    width = len(layers)
    return [tuple(range(at, at + width)) for at in range(model.n_layers - width + 1)]
