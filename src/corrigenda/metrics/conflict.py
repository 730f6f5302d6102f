"""Edits that contradict each other, and edits taken back by editing (Li et al. 2024, 2310.02129).

ConflictEdit: two edits of one fact, or two that imply contrary things. P̄ is the geometric mean
probability per token.

    CS     1[P̄(latest) > P̄(earlier)] after both edits; explicit, or of the implied fact
    CM     max((p_pre - p_post) / p_pre, -1): how far the earlier object fell, clipped below
    TFD    (p_pre - p_post) / p_pre of the tied fact that no edit named

RoundEdit: a fact with several true objects is edited away from one of them and back, o -> o* -> o.
What became of its other true objects?

    D      Jensen-Shannon divergence, in nats, of P̄ normalised over the objects
    IR     share of the other objects whose P̄ fell
    FR     share of cases whose IR is above one half

Published D were divided by the number of objects ("batchmean" over a single row): `d_paper`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .counterfact import success

__all__ = [
    "RoundTrip",
    "conflict_magnitude",
    "conflict_score",
    "failure_rate",
    "fall",
    "jensen_shannon",
    "round_trip",
]


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One fact after o -> o* -> o.

    d        divergence in nats, 0 to ln 2.
    d_paper  the same by the published code: d / number of objects.
    ir       share of the other objects whose probability fell, 0 to 1.
    """

    d: float
    d_paper: float
    ir: float


def conflict_score(latest: float, earlier: float) -> float:
    """CS: 1.0 iff the latest object is strictly more probable than the earlier one."""
    return success(latest, earlier)


def conflict_magnitude(before: float, after: float) -> float:
    """CM: relative fall of P̄(earlier object) through the later edit, clipped at -1; at most 1.

    before  after the first edit. after  after both. Raises `InputError` as `fall` does.
    """
    return max(fall(before, after), -1.0)


def fall(before: float, after: float) -> float:
    """TFD: (before - after) / before of a probability; at most 1, negative where it rose.

    Raises `InputError` for a `before` that is not above 0, and for what is not finite.
    """
    if not (math.isfinite(before) and math.isfinite(after)) or before <= 0:
        raise InputError(f"A relative fall needs a probability above 0: got {before} -> {after}.")
    return (before - after) / before


def jensen_shannon(first: Sequence[float], second: Sequence[float]) -> float:
    """Divergence in nats between two sets of weights over the same objects, each made to add up
    to 1; 0 to ln 2. Raises `InputError` for weights that cannot be so."""
    p, q = _normalised(first), _normalised(second)
    if len(p) != len(q):
        raise InputError(f"Both sides weigh the same objects; got {len(p)} and {len(q)} weights.")
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return max(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)


def round_trip(before: Sequence[float], after: Sequence[float], edited: int = 0) -> RoundTrip:
    """Score one fact from P̄ of all its true objects, in one order, before and after.

    edited  index of the object that was edited away and back; it takes no part in IR.

    Raises `InputError` for fewer than two objects, or as `jensen_shannon` does.
    """
    if len(before) < 2 or not 0 <= edited < len(before):
        raise InputError(
            f"A round trip needs other true objects beside the edited one; got {len(before)} and "
            f"number {edited} edited."
        )
    d = jensen_shannon(before, after)
    others = [j for j in range(len(before)) if j != edited]
    return RoundTrip(d, d / len(before), sum(after[j] < before[j] for j in others) / len(others))


def failure_rate(rates: Sequence[float]) -> float:
    """FR: share of cases whose IR is above one half. Raises `InputError` without cases."""
    if not rates or not all(map(math.isfinite, rates)):
        raise InputError(f"A failure rate needs finite shares of at least one case, not {rates}.")
    return sum(rate > 0.5 for rate in rates) / len(rates)


def _normalised(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    if not math.isfinite(total) or total <= 0 or min(weights) < 0:
        raise InputError(f"These cannot be made a distribution: {list(weights)}.")
    return [w / total for w in weights]


def _kl(p: Sequence[float], q: Sequence[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
