"""Intervals and tests. The record is the unit of resampling; its prompts stay together.

A number without its interval is not printed: 97 of 100 is anything between 91.5 and 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

__all__ = [
    "Interval",
    "bootstrap",
    "holm",
    "mcnemar",
    "paired_bootstrap",
    "paired_ratio",
    "percentiles",
    "resampling_weights",
    "wilson",
]

Statistic = Callable[[NDArray[np.float64]], float]


class Interval(NamedTuple):
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927).

    Raises `InputError` without observations.
    """
    if n < 1:
        raise InputError("An interval needs at least one observation.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    low, high = (centre - spread) / whole, (centre + spread) / whole
    # The ends are exact at 0 and n; rounding must not push the estimate out of its interval.
    return (0.0 if successes == 0 else max(0.0, low)), (1.0 if successes == n else min(1.0, high))


def bootstrap(
    records: ArrayLike,
    statistic: Statistic | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Bootstrap interval (Efron 1979) of a statistic over records.

    records    (n,) one value per record, or (n, k) when the statistic needs several columns.
    statistic  from an array of the same kind to a number; the mean if None. Non-linear scores
               are recomputed inside each draw.
    method     "bca" corrects bias and skewness (Efron 1987).

    Constant data give an interval of width zero. Raises `InputError` without records.
    """
    values = np.asarray(records, dtype=float)
    n = len(values)
    if n < 1:
        raise InputError("An interval needs at least one record.")
    if (values == values[0]).all():
        point = float(values[0]) if statistic is None else float(statistic(values))
        return point, point
    if statistic is None:
        statistic = _mean
        drawn = np.concatenate([w @ values / n for w in resampling_weights(n, draws, seed)])
    else:
        generator = np.random.default_rng(seed)
        drawn = np.array(
            [statistic(values[generator.integers(n, size=n)]) for _ in range(draws)], dtype=float
        )
    tail = (1 - confidence) / 2
    if method == "percentile":
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return float(low), float(high)
    low, high = np.quantile(drawn, _bca_levels(values, statistic, drawn, tail))
    return float(low), float(high)


def resampling_weights(n: int, draws: int, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """How often each of n records occurs in each draw, in chunks of shape (chunk, n).

    The same draws serve every score of a table, so that scores derived from several of them
    (Score S) are recomputed inside each draw by plain arithmetic.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, min(draws, 4_000_000 // max(n, 1)))
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picked = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(picked.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def percentiles(drawn: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of bootstrap draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(drawn, dtype=float), [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test of two methods on the same binary records.

    The arguments count the records that only one of the two got right.
    """
    n = only_first + only_second
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, j) for j in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, tuple[float, float], float]:
    """Mean difference first - second over the same records, its interval, and a p-value.

    One is better than the other when the interval excludes 0. The p-value is two-sided: twice
    the share of draws on the far side of 0. Raises `InputError` for records that do not pair up.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or not len(a):
        raise InputError(
            f"A paired comparison needs the same records: got {len(a)} and {len(b)}. "
            "Evaluate both on the same cases."
        )
    difference = a - b
    drawn = np.concatenate(
        [w @ difference / len(a) for w in resampling_weights(len(a), draws, seed)]
    )
    far = min((drawn <= 0).mean(), (drawn >= 0).mean())
    return float(difference.mean()), percentiles(drawn), float(min(1.0, 2 * far))


def paired_ratio(
    differences: ArrayLike, weights: ArrayLike, *, draws: int = 10_000, seed: int = 0
) -> Interval:
    """sum of differences / sum of weights over records of unlike size, with its 95 % bootstrap
    interval; both sums are made anew inside each draw.

    differences  (n,) second minus first, summed over the record: nats of a document.
    weights      (n,) size of each record, above 0: its tokens.

    Raises `InputError` without records, for sizes that are not positive, and for differences that
    are not finite.
    """
    d, w = np.asarray(differences, dtype=float), np.asarray(weights, dtype=float)
    if d.shape != w.shape or not len(d) or not (w > 0).all() or not np.isfinite(d).all():
        raise InputError(
            f"A paired comparison needs one finite difference and one positive size per record: "
            f"got {len(d)} and {len(w)}."
        )
    drawn = np.concatenate([(k @ d) / (k @ w) for k in resampling_weights(len(d), draws, seed)])
    return Interval(float(d.sum() / w.sum()), *percentiles(drawn))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) for several comparisons, in the given order."""
    order = sorted(range(len(p_values)), key=lambda j: p_values[j])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, j in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[j]))
        adjusted[j] = running
    return adjusted


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _bca_levels(
    values: NDArray[np.float64], statistic: Statistic, drawn: NDArray[np.float64], tail: float
) -> list[float]:
    normal = NormalDist()
    point = statistic(values)
    below = (np.sum(drawn < point) + 0.5 * np.sum(drawn == point)) / len(drawn)
    bias = normal.inv_cdf(float(np.clip(below, 1e-6, 1 - 1e-6)))
    left_out = np.array([statistic(np.delete(values, j, axis=0)) for j in range(len(values))])
    spread = left_out.mean() - left_out
    scale = 6 * (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / scale if scale else 0.0
    levels = []
    for level in (tail, 1 - tail):
        z = bias + normal.inv_cdf(level)
        levels.append(normal.cdf(bias + z / (1 - acceleration * z)))
    return levels
