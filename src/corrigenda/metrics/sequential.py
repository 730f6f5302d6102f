"""Scores of edits that follow each other on one model.

R[i, t] is the score of edit i after t edits, t >= i (both counted from 1).

    immediate    mean_i R[i, i]
    retained     mean_i R[i, T]
    forgetting   mean_{i<T} (max_t R[i, t] - R[i, T])
    oldest       mean R[i, T] over the first tenth of the edits
    CP@60        the largest number of edits at which the mean score is still at least 60 %
    area         area under the mean score over the number of edits, by the trapezoid rule, divided
                 by the range of edits: the mean score over the whole run, 0 to 1

Evaluating each edit right after it was made and never again gives `immediate`, which says
nothing about the final model.

Where n is too large to ask every edit again, all of the oldest and of the newest tenth are asked and
a random sample of those between. A mean is then that of the three strata, each weighted by how many
edits it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError

__all__ = [
    "CHECKPOINTS",
    "Retention",
    "area",
    "capacity",
    "curve",
    "forgetting",
    "immediate",
    "oldest",
    "retained",
    "retention",
    "strata",
    "stratified",
]

CHECKPOINTS = (1, 2, 3, 6, 10, 18, 32, 56, 100, 178, 316, 562, 1000, 1778, 3162, 5623, 10000)
CHECKPOINTS += (20_000, 100_000)
"""Where retention is measured: the grid of MEMIT (Meng et al. 2023, 2210.07229), continued."""

History = Mapping[int, float]
"""The scores of one edit by number of edits made so far: {t: R[i, t]}."""


def immediate(history: History) -> float:
    """Score of one edit right after it was made."""
    return history[min(history)]


def retained(history: History) -> float:
    """Score of one edit on the final model."""
    return history[max(history)]


def forgetting(history: History) -> float:
    """How far one edit fell from its best moment to the end."""
    return max(history.values()) - retained(history)


def oldest(n: int, share: float = 0.1) -> int:
    """How many of n edits are the oldest decile: at least one."""
    return max(1, round(n * share)) if n else 0


def capacity(curve: Sequence[tuple[int, float]], threshold: float = 0.6) -> int:
    """CP@60: the largest number of edits whose mean score reaches the threshold; 0 if none."""
    return max((n for n, value in curve if value >= threshold), default=0)


@dataclass(frozen=True, slots=True)
class Retention:
    """A sequence of n edits in numbers, each 0 to 1 but `capacity`.

    forgetting  None for a single edit.
    oldest      retention of the oldest decile.
    """

    immediate: float
    retained: float
    forgetting: float | None
    oldest: float
    capacity: int
    area: float
    n: int


def curve(histories: Sequence[History]) -> list[tuple[int, float]]:
    """(number of edits t, mean over i <= t of R[i, t]) wherever all edits so far were measured."""
    points = []
    for t in sorted({t for history in histories for t in history}):
        made = histories[:t]
        if len(made) == t and all(t in history for history in made):
            points.append((t, math.fsum(history[t] for history in made) / t))
    return points


def area(points: Sequence[tuple[int, float]]) -> float:
    """Area under a curve of `curve`, divided by its range of edits; of one point, its height.

    Raises `InputError` without points.
    """
    if not points:
        raise InputError("No number of edits was measured in full, so there is no curve.")
    span = points[-1][0] - points[0][0]
    if not span:
        return points[0][1]
    return math.fsum((t - s) * (a + b) / 2 for (s, a), (t, b) in pairwise(points)) / span


def retention(histories: Sequence[History], threshold: float = 0.6) -> Retention:
    """All of the above of a whole sequence.

    histories  of each edit in the order in which they were made, each measured right after the edit
               and at the end; at checkpoints between these all edits so far.

    Raises `InputError` for a sequence that was not measured so, and for scores that are not finite.
    """
    n = len(histories)
    if not n or any(not h or max(h) != max(histories[0]) for h in histories):
        raise InputError(
            f"Retention is that of edits measured again at the end; of these {n} some were not."
        )
    if not all(math.isfinite(score) for history in histories for score in history.values()):
        raise InputError("A score of this sequence is not finite, so it has no mean.")
    final = [retained(history) for history in histories]
    before = [forgetting(history) for history in histories[:-1]]
    first, points = oldest(n), curve(histories)
    return Retention(
        math.fsum(map(immediate, histories)) / n,
        math.fsum(final) / n,
        math.fsum(before) / len(before) if before else None,
        math.fsum(final[:first]) / first,
        capacity(points, threshold),
        area(points),
        n,
    )


def strata(n: int, share: float = 0.1) -> tuple[range, range, range]:
    """The oldest tenth of n edits, those between, and the newest tenth, by index from 0."""
    size = min(oldest(n, share), n // 2) if n > 1 else n
    return range(size), range(size, n - size), range(max(size, n - size), n)


def stratified(scores: Mapping[int, float], n: int, share: float = 0.1) -> float:
    """Mean over n edits, of which some were asked: {index from 0: score}.

    Each stratum counts by its size, and within it those that were asked. All scores known: the
    plain mean. Raises `ValueError` where nothing is known of a stratum.
    """
    total = 0.0
    for stratum in strata(n, share):
        known = [scores[j] for j in stratum if j in scores]
        if stratum and not known:
            raise ValueError(f"None of the edits {stratum.start} to {stratum.stop - 1} was asked.")
        total += len(stratum) * math.fsum(known) / max(1, len(known))
    return total / n
