"""One call of an editor: its delta, what it cost, and why it failed if it did.

What the editor raises is kept as the reason why these edits failed; an interrupt is not caught.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .delta import Delta, Outcome
from .edit import Case, Edit
from .editor import EditWarning
from .metrics.cost import Cost, measured

__all__ = ["Attempt", "attempt", "described", "size_of"]

_SHARED = ("seconds", "processor_seconds", "precompute_seconds", "bytes")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one call of an editor.

    outcomes  of each case, those of its edits.
    cost      of the whole call, in seconds and bytes; None where it cannot be measured.
    cases     how many cases the call was for.
    """

    delta: Delta | None = None
    error: str | None = None
    outcomes: tuple[tuple[Outcome, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    cost: dict[str, float | None] = field(default_factory=dict)
    cases: int = 1

    def facts(self, j: int = 0) -> dict[str, Any]:
        """What a row says of the j-th case of the call. What the cases share is divided."""
        own = self.outcomes[j] if j < len(self.outcomes) else ()
        took = [outcome.took for outcome in own]
        return {
            "error": self.error,
            "took": False if False in took else None if None in took or not took else True,
            "answer": " · ".join(outcome.answer for outcome in own),
            "remark": " ".join(outcome.note for outcome in own if outcome.note),
            "warnings": list(self.warnings) if self.cases == 1 or j == 0 else [],
            "cost": {
                name: value / self.cases if name in _SHARED and value is not None else value
                for name, value in self.cost.items()
            },
        }


def attempt(model: Any, editor: Any, cases: Sequence[Case], onto: Delta | None = None) -> Attempt:
    """Ask the editor for a delta of all edits of some cases."""
    made, error = None, None
    outcomes: list[list[Outcome]] = [[] for _ in cases]
    with _edit_warnings() as messages, measured() as cost:
        try:
            for step in _steps(cases, getattr(editor, "batches", True)):
                before = onto if made is None else made if onto is None else onto + made
                delta = editor(model, [edit for _, edit in step], onto=before)
                made = delta if made is None else made + delta
                for (j, _), outcome in zip(step, delta.provenance.outcomes, strict=False):
                    outcomes[j].append(outcome)
        except Exception as caught:
            made, error = None, described(caught)
    return Attempt(
        made,
        error,
        tuple(tuple(own) for own in outcomes) if made is not None else (),
        tuple(messages),
        _cost(cost, made),
        len(cases),
    )


def _steps(cases: Sequence[Case], batches: bool) -> list[list[tuple[int, Edit]]]:
    """The edits of some cases, call by call: (number of the case, edit).

    Cases in turn give their first edits to the first call, their second to the second. A single
    case of several edits is made edit by edit where the editor takes no more at once.
    """
    if any(case.in_turn for case in cases) or (not batches and len(cases) == 1):
        last = max(len(case.edits) for case in cases)
        return [
            [(j, case.edits[n]) for j, case in enumerate(cases) if n < len(case.edits)]
            for n in range(last)
        ]
    return [[(j, edit) for j, case in enumerate(cases) for edit in case.edits]]


def described(error: BaseException) -> str:
    """An error as one line of text."""
    return f"{type(error).__name__}: {error}"


def size_of(delta: Delta) -> int:
    """Bytes of the changes: their tensors, and the text of those that act on the prompt."""
    tensors = sum(t.nbytes for c in delta.changes.values() for t in c.tensors().values())
    context = delta.context
    return tensors + (len(json.dumps(context.settings()).encode()) if context is not None else 0)


def _cost(cost: Cost, delta: Delta | None) -> dict[str, float | None]:
    """Time and memory of one call. The editor's own clock leaves out its final check.

    Of the processor's time the same share counts as of the clock's.
    """
    seconds, precompute, size = cost.seconds, 0.0, 0
    if delta is not None:
        precompute = delta.provenance.precompute_seconds
        seconds = delta.provenance.seconds or max(0.0, seconds - precompute)
        size = size_of(delta)
    return {
        "seconds": seconds,
        "processor_seconds": seconds * cost.processor / cost.seconds if cost.seconds else 0.0,
        "precompute_seconds": precompute,
        "bytes": size,
        "cuda_allocated": cost.cuda_allocated,
        "cuda_reserved": cost.cuda_reserved,
        "resident": cost.resident,
    }


@contextmanager
def _edit_warnings() -> Iterator[list[str]]:
    """Collect what editors warn about; other warnings go where they always go."""
    messages: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", EditWarning)
        elsewhere = warnings.showwarning

        def show(message: Warning, category: type[Warning], *place: Any) -> None:
            if issubclass(category, EditWarning):
                messages.append(str(message))
            else:
                elsewhere(message, category, *place)

        warnings.showwarning = show  # type: ignore[assignment]
        yield messages
