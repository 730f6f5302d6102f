"""Was this model edited, was this answer? Scores of detectors (Youssef et al. 2024, 2405.02765).

    AUROC = P(score of an edited one > score of a clean one) + ½ P(equal)

A detector's threshold is set on clean models alone, at the false-positive rate that one accepts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import InputError

__all__ = ["accuracy", "auroc", "threshold", "top_one"]


def auroc(edited: Sequence[float], clean: Sequence[float]) -> float:
    """Area under the ROC curve, 0 to 1; ½ is chance. Ties count ½ (Mann and Whitney 1947).

    Higher scores should mean edited. Raises `InputError` for an empty side or a NaN.
    """
    x, y = _scores(edited, "edited"), np.sort(_scores(clean, "clean"))
    below, upto = np.searchsorted(y, x, "left"), np.searchsorted(y, x, "right")
    return float((below + upto).sum() / (2 * len(x) * len(y)))


def threshold(clean: Sequence[float], rate: float = 0.05) -> float:
    """The least threshold that at most this share of the clean scores exceeds.

    Raises `InputError` for a rate outside [0, 1), no scores, or a NaN.
    """
    if not 0 <= rate < 1:
        raise InputError(f"A false-positive rate is from 0 to below 1, not {rate}.")
    y = np.sort(_scores(clean, "clean"))
    return float(y[len(y) - 1 - math.floor(rate * len(y))])


def accuracy(edited: Sequence[float], clean: Sequence[float], above: float) -> float:
    """Share of scores on the right side of a threshold: edited ones above it, clean ones not."""
    x, y = _scores(edited, "edited"), _scores(clean, "clean")
    return float(((x > above).sum() + (y <= above).sum()) / (len(x) + len(y)))


def top_one(found: Sequence[object], true: Sequence[object]) -> float:
    """Share of cases whose first guess (the edited module, the object) is the right one.

    Raises `InputError` for lists of unlike length, or empty ones.
    """
    if not found or len(found) != len(true):
        raise InputError(f"Each guess needs its answer; got {len(found)} and {len(true)}.")
    return sum(a == b for a, b in zip(found, true, strict=True)) / len(true)


def _scores(values: Sequence[float], name: str) -> np.ndarray:
    scores = np.asarray(values, dtype=float)
    if not len(scores) or np.isnan(scores).any():
        raise InputError(
            f"A detector is scored on numbers: the {name} side has {len(scores)} scores, "
            f"{int(np.isnan(scores).sum())} of them NaN."
        )
    return scores
