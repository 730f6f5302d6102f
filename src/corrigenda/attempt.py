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
from .editor import EditWarning
from .metrics.cost import Cost, measured

__all__ = ["Attempt", "attempt", "described", "size_of"]

_SHARED = ("seconds", "precompute_seconds", "bytes")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one call of an editor.

    cost   of the whole call, in seconds and bytes; None where it cannot be measured.
    edits  how many edits the call was for.
    """

    delta: Delta | None = None
    error: str | None = None
    outcomes: tuple[Outcome, ...] = ()
    warnings: tuple[str, ...] = ()
    cost: dict[str, float | None] = field(default_factory=dict)
    edits: int = 1

    def facts(self, j: int = 0) -> dict[str, Any]:
        """What a row says of the j-th edit of the call. What the edits share is divided."""
        outcome = self.outcomes[j] if j < len(self.outcomes) else None
        return {
            "error": self.error,
            "took": outcome.took if outcome else None,
            "answer": outcome.answer if outcome else "",
            "remark": outcome.note if outcome else "",
            "warnings": list(self.warnings) if self.edits == 1 or j == 0 else [],
            "cost": {
                name: value / self.edits if name in _SHARED and value is not None else value
                for name, value in self.cost.items()
            },
        }


def attempt(model: Any, editor: Any, edits: Sequence[Any], onto: Delta | None = None) -> Attempt:
    """Ask the editor for a delta."""
    delta, error = None, None
    with _edit_warnings() as messages, measured() as cost:
        try:
            delta = editor(model, edits, onto=onto)
        except Exception as caught:
            error = described(caught)
    return Attempt(
        delta,
        error,
        delta.provenance.outcomes if delta is not None else (),
        tuple(messages),
        _cost(cost, delta),
        len(edits),
    )


def described(error: BaseException) -> str:
    """An error as one line of text."""
    return f"{type(error).__name__}: {error}"


def size_of(delta: Delta) -> int:
    """Bytes of the changes: their tensors, and the text of those that act on the prompt."""
    tensors = sum(t.nbytes for c in delta.changes.values() for t in c.tensors().values())
    context = delta.context
    return tensors + (len(json.dumps(context.settings()).encode()) if context is not None else 0)


def _cost(cost: Cost, delta: Delta | None) -> dict[str, float | None]:
    """Time and memory of one call. The editor's own clock leaves out its final check."""
    seconds, precompute, size = cost.seconds, 0.0, 0
    if delta is not None:
        precompute = delta.provenance.precompute_seconds
        seconds = delta.provenance.seconds or max(0.0, seconds - precompute)
        size = size_of(delta)
    return {
        "seconds": seconds,
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
