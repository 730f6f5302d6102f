"""Does an edit hold when someone leans on it? Each is reported beside the clean reliability.

worst of K      the least of K wordings of one question, and their mean
drop            clean - changed: unrelated tokens in front, a chat before it, "Are you sure?"
hold rate       share of answers that keep the edit when the old fact stands in the context
old-answer rate share of answers that give the old object after a forced opening
follow rate     the converse: a context that overrides the edit should be followed
recovery        (A_relearn - A_edit) / (A_pre - A_edit): how much of the old knowledge
                fine-tuning on other facts of the same set brings back (Deeb and Roger 2024,
                2410.08827, who bring back 88 % of what was unlearned)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .text import answer_of, contains

__all__ = ["WorstOf", "drop", "naming_rate", "recovery", "worst_of"]


@dataclass(frozen=True, slots=True)
class WorstOf:
    """The scores of k wordings of one question: the least, and their mean."""

    worst: float
    mean: float
    k: int


def worst_of(scores: Sequence[float]) -> WorstOf:
    """Raises `InputError` without scores, and for one that is not finite."""
    if not scores or not all(map(math.isfinite, scores)):
        raise InputError(f"The worst of some wordings needs finite scores, not {list(scores)}.")
    return WorstOf(min(scores), math.fsum(scores) / len(scores), len(scores))


def drop(clean: float, changed: float) -> float:
    """How far the score fell, -1 to 1; negative where it rose. Points, not a share."""
    return clean - changed


def naming_rate(continuations: Sequence[str], names: Sequence[str | Sequence[str]]) -> float:
    """Share of answers that name their object, 0 to 1.

    With the new objects it is the hold rate, with the old ones the old-answer rate, with those of
    the context the follow rate. Raises `InputError` for lists of unlike length, or empty ones.
    """
    if not continuations or len(continuations) != len(names):
        raise InputError(
            f"A rate needs one object per answer; got {len(continuations)} answers and "
            f"{len(names)} objects."
        )
    pairs = zip(continuations, names, strict=True)
    return math.fsum(contains(answer_of(text), wanted) for text, wanted in pairs) / len(names)


def recovery(before: float, edited: float, relearned: float) -> float | None:
    """Share of the lost accuracy that relearning brings back.

    before     A_pre, accuracy on the old facts before the edits.
    edited     A_edit, after them.
    relearned  A_relearn, after fine-tuning on other facts.

    0: nothing; 1: all; above 1 or below 0 where it passed these. None where the edits took nothing
    away. Raises `InputError` for what is not finite.
    """
    if not all(map(math.isfinite, (before, edited, relearned))):
        raise InputError(f"A recovery needs finite rates: got {before}, {edited}, {relearned}.")
    lost = before - edited
    return (relearned - edited) / lost if lost > 0 else None
