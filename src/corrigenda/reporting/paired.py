"""Differences between methods on the same records: exact McNemar where every record passes or
fails, a paired bootstrap over records otherwise, Holm's adjustment over all of them. No p-value is
below 2/2ⁿ, the least that n records can show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..metrics.aggregate import Score
from ..metrics.statistics import holm, mcnemar, paired_bootstrap

__all__ = ["Difference", "Records", "against"]

Records = Mapping[str, Mapping[str, Sequence[float]]]
"""{record: {score: one value per prompt}}, as `Report.records` gives them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A method minus the baseline, in one score.

    difference  the mean over records with its 95 % interval (paired bootstrap).
    p           of the test; `adjusted` is Holm's over all comparisons made together.
    """

    method: str
    score: str
    difference: Score
    test: str
    p: float
    adjusted: float = math.nan

    @property
    def significant(self) -> bool:
        return self.adjusted < 0.05


def against(
    baseline: Records, others: Iterable[tuple[str, Records]], scores: Iterable[str]
) -> list[Difference]:
    """Every other method against the baseline in every score that both have on the same records.

    Where the records differ, or there is only one, there is nothing to compare.
    """
    names, found = list(scores), []
    for method, records in others:
        for name in names:
            a, b = _values(baseline, name), _values(records, name)
            if a.keys() != b.keys() or len(a) < 2:
                continue
            found.append(_difference(method, name, [b[key] for key in a], list(a.values())))
    adjusted = holm([one.p for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _difference(method: str, name: str, x: list[float], y: list[float]) -> Difference:
    mean, (low, high), p = paired_bootstrap(x, y)
    test = "paired bootstrap"
    # Of n differences whose signs are a matter of chance, all agree in 2 of 2ⁿ cases; a bootstrap
    # of a handful of records does not know that.
    p = max(p, 2.0 ** (1 - len(x)))
    if set(x) | set(y) <= {0.0, 1.0}:
        test = "McNemar"
        p = mcnemar(
            sum(i > j for i, j in zip(x, y, strict=True)),
            sum(i < j for i, j in zip(x, y, strict=True)),
        )
    return Difference(method, name, Score(mean, low, high, len(x), 0, "paired"), test, p)


def _values(records: Records, name: str) -> dict[str, float]:
    """One number per record that has the score, in an order that does not depend on the run."""
    found = {}
    for key in sorted(records):
        parts = records[key].get(name)
        if parts:
            found[key] = math.fsum(parts) / len(parts)
    return found
