"""The CounterFact columns (Meng et al. 2022, 2202.05262).

    ES  1[P(o*) > P(o)] on the edit's own prompt        EM  P(o*) - P(o)      EA  o* is the argmax
    PS  the same on paraphrases                         PM                    PA
    NS  1[P(o) > P(o*)] on neighborhood prompts         NM  P(o) - P(o*)      NA  o is the argmax
    S   harmonic mean of the aggregated ES, PS and NS

P is the geometric mean probability per token, o* the new object and o the true one. Comparisons
are strict: equal probabilities are a failure for ES and for NS alike. CounterFact+ (Hoelscher-
Obermaier et al. 2023, 2305.17553) applies NS and NM to neighborhoods behind the edited sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..errors import InputError

__all__ = ["aggregated_score", "harmonic", "magnitude", "plus_prompt", "success"]


def plus_prompt(statement: str, neighborhood: str) -> str:
    """A CounterFact+ prompt: the edited sentence, a full stop, the neighborhood prompt."""
    return f"{statement}. {neighborhood}"


def success(preferred: float, other: float) -> float:
    """1.0 iff the preferred answer is strictly more probable. Non-finite values fail."""
    if not (math.isfinite(preferred) and math.isfinite(other)):
        return 0.0
    return float(preferred > other)


def magnitude(preferred: float, other: float) -> float:
    """Difference of the two probabilities; 0 when one is not finite."""
    if not (math.isfinite(preferred) and math.isfinite(other)):
        return 0.0
    return preferred - other


def harmonic(values: Iterable[float]) -> float:
    """Harmonic mean; 0 as soon as one value is 0 or less."""
    values = list(values)
    if not values or min(values) <= 0:
        return 0.0
    return len(values) / math.fsum(1 / v for v in values)


def aggregated_score(records: Sequence[tuple[float, float, float]]) -> float:
    """Score S of (ES, PS, NS) records: the harmonic mean of the three means.

    Not the mean of per-record harmonic means, which is lower. Raises `InputError` without records.
    """
    if not records:
        raise InputError("Score S needs at least one record.")
    columns = zip(*records, strict=True)
    return harmonic(math.fsum(column) / len(records) for column in columns)
