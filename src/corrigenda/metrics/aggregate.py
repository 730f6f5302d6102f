"""From prompts to records to one number with its interval.

Prompts are averaged within their record, records among themselves (macro average). The interval
is Wilson's when each record contributes one prompt that passes or fails, and a percentile
bootstrap over records otherwise. Scores made from several others (Score S) are recomputed inside
each draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import percentiles, resampling_weights, wilson

__all__ = ["Score", "aggregate"]


@dataclass(frozen=True, slots=True)
class Score:
    """A number with its 95 % interval.

    value    mean over records, between 0 and 1 for shares; nats for divergences.
    low      lower end; None where the data allow no interval (one record, or not finite).
    high     upper end.
    method   "wilson", "bootstrap", or "none".
    """

    value: float
    low: float | None
    high: float | None
    n_records: int
    n_prompts: int
    method: str


def aggregate(
    records: Sequence[Mapping[str, Sequence[float]]],
    *,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Score]:
    """Scores by name from the records' values by name, one value per prompt.

    A record without a name does not take part in that score. A score that is not finite in any
    record is not finite as a whole: nothing is dropped. Adds `tf.S` and `gen.portability.axes`.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    if not names:
        return {}
    n = len(records)
    values = np.full((n, len(names)), np.nan)  # (records, names)
    prompts = np.zeros((n, len(names)), dtype=int)
    column = {name: j for j, name in enumerate(names)}
    for i, record in enumerate(records):
        for name, parts in record.items():
            if parts:
                total = math.fsum(parts) if all(map(math.isfinite, parts)) else math.inf
                values[i, column[name]] = total / len(parts)
                prompts[i, column[name]] = len(parts)
    present = prompts > 0
    usable = np.where(present & np.isfinite(values), values, 0.0)
    binary = [_binary(values[:, j], prompts[:, j]) for j in range(len(names))]
    means = np.empty((0, len(names)))  # (draws, names)
    if not all(binary) or _parts(names):
        chunks = resampling_weights(n, draws, seed)
        means = np.vstack([_weighted(w, usable, present) for w in chunks])
    scores = {
        name: _score(values[:, j], prompts[:, j], binary[j], means[:, j], confidence)
        for name, j in column.items()
        if present[:, j].any()
    }
    return scores | _combined(scores, column, means, confidence)


def _weighted(weights: np.ndarray, values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Means over drawn records: (chunk, names), NaN where no drawn record has the score."""
    counts = weights @ present
    return np.divide(weights @ values, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _binary(values: np.ndarray, prompts: np.ndarray) -> bool:
    """Each record that has the score has one prompt, which passes or fails."""
    return bool((prompts <= 1).all() and np.isin(values[prompts > 0], (0.0, 1.0)).all())


def _score(
    values: np.ndarray, prompts: np.ndarray, binary: bool, means: np.ndarray, confidence: float
) -> Score:
    own, prompts = values[prompts > 0], prompts[prompts > 0]
    n, total = len(own), int(prompts.sum())
    if not np.isfinite(own).all():
        return Score(math.inf, None, None, n, total, "none")
    value = math.fsum(own) / n
    if binary:
        return Score(value, *wilson(own.sum(), n, confidence), n, total, "wilson")
    if n == 1:
        return Score(value, None, None, n, total, "none")
    if (own == own[0]).all():
        return Score(value, value, value, n, total, "bootstrap")
    return Score(value, *percentiles(means[~np.isnan(means)], confidence), n, total, "bootstrap")


_Rows = Callable[[np.ndarray], np.ndarray]


def _parts(names: Iterable[str]) -> dict[str, tuple[tuple[str, ...], _Rows]]:
    """Scores that are functions of other scores: {name: (those, function of rows of them)}."""
    names = list(names)
    found: dict[str, tuple[tuple[str, ...], _Rows]] = {}
    columns = ("tf.ES", "tf.PS", "tf.NS")
    if set(columns) <= set(names):
        found["tf.S"] = columns, _harmonic_rows
    kinds = tuple(name for name in names if name.startswith("gen.portability:"))
    if len(kinds) > 1:
        found["gen.portability.axes"] = kinds, _mean_rows
    return found


def _combined(
    scores: Mapping[str, Score], column: Mapping[str, int], means: np.ndarray, confidence: float
) -> dict[str, Score]:
    found = {}
    for name, (parts, combine) in _parts(scores).items():
        value = float(combine(np.array([[scores[part].value for part in parts]]))[0])
        n = min(scores[part].n_records for part in parts)
        total = sum(scores[part].n_prompts for part in parts)
        drawn = combine(means[:, [column[part] for part in parts]])
        drawn = drawn[~np.isnan(drawn)]
        if n == 1 or not len(drawn):
            found[name] = Score(value, None, None, n, total, "none")
        else:
            low, high = percentiles(drawn, confidence)
            found[name] = Score(value, low, high, n, total, "bootstrap")
    return found


def _harmonic_rows(rows: np.ndarray) -> np.ndarray:
    """`counterfact.harmonic` of each row, 0 where a part is 0 or less, NaN where one is missing."""
    usable = np.where(rows > 0, rows, 1.0)
    means = rows.shape[1] / (1 / usable).sum(1)
    return np.where(np.isnan(rows).any(1), np.nan, np.where((rows <= 0).any(1), 0.0, means))


def _mean_rows(rows: np.ndarray) -> np.ndarray:
    return rows.mean(1)
