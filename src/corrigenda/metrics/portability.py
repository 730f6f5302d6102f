"""Portability: does what follows from the edit follow (Yao et al. 2023, 2305.13172)?

Sub-scores: the subject under another name (`subject_replacement`), the reversed relation
(`reversed_relation`), one more known fact (`one_hop`). The score is the mean of those present.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Portability", "portability"]


@dataclass(frozen=True, slots=True)
class Portability:
    """The mean over `n_axes` sub-scores."""

    value: float
    n_axes: int


def portability(parts: Mapping[str, float | None]) -> Portability | None:
    """Mean of the sub-scores that are present; None when there are none."""
    present = [value for value in parts.values() if value is not None]
    if not present:
        return None
    return Portability(sum(present) / len(present), len(present))
