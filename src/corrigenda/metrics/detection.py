"""How well a score tells edited models (or answers) from unedited ones.

    AUROC = P(edited score > unedited score) + ½ P(both are equal)

over all pairs of one edited and one unedited item: 1 for a perfect score, ½ for one that knows
nothing, 0 for one that is always wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import InputError

__all__ = ["auroc", "auroc_interval"]


def auroc(edited: Sequence[float], unedited: Sequence[float]) -> float:
    """Area under the ROC curve; ties count a half. Raises `InputError` for an empty side."""
    if not len(edited) or not len(unedited):
        raise InputError(
            f"An AUROC needs scores of both kinds; got {len(edited)} edited and {len(unedited)} "
            "unedited."
        )
    above = np.asarray(edited, float)[:, None] - np.asarray(unedited, float)[None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def auroc_interval(area: float, edited: int, unedited: int) -> tuple[float, float]:
    """95 % interval of an AUROC from its sample sizes (Hanley and McNeil 1982), within [0, 1].

    At 0 and 1 the formula gives width zero, which two small samples do not warrant: there the
    exact bound of a proportion that was never missed is taken, with the smaller sample.
    """
    if area in (0.0, 1.0):
        least = 0.05 ** (1 / min(edited, unedited))
        return (least, 1.0) if area else (0.0, 1 - least)
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area)
        + (edited - 1) * (one - area**2)
        + (unedited - 1) * (two - area**2)
    ) / (edited * unedited)
    spread = 1.959964 * math.sqrt(max(variance, 0.0))
    return max(0.0, area - spread), min(1.0, area + spread)
