"""Scores of edits that follow each other on one model.

R[i, t] is the score of edit i after t edits, t >= i (both counted from 1).

    immediate    mean_i R[i, i]
    retained     mean_i R[i, T]
    forgetting   mean_{i<T} (max_t R[i, t] - R[i, T])
    CP@60        the largest number of edits at which the mean score is still at least 60 %

Evaluating each edit right after it was made and never again gives `immediate`, which says
nothing about the final model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["CHECKPOINTS", "capacity", "forgetting", "immediate", "oldest", "retained"]

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
