"""The accuracies of the zsRE tables (Levy et al. 2017; Mitchell et al. 2022, 2110.11309).

Each target token is judged by the argmax, given the prompt and the gold tokens before it; a
record scores the share of its tokens that are right. The neighborhood accuracy of those tables
asks for the gold answer of an unrelated question, so an unedited model is far from 100; it is no
measure of what an edit left alone, which is why preservation is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EditError, InputError

__all__ = ["accuracy", "token_accuracy"]


def token_accuracy(predicted: Sequence[int], gold: Sequence[int]) -> float:
    """Share of gold tokens that were predicted at their position.

    Raises `EditError` for an empty target.
    """
    if not gold:
        raise EditError("The target has no tokens, so it has no accuracy.")
    return sum(p == g for p, g in zip(predicted, gold, strict=True)) / len(gold)


def accuracy(records: Sequence[float]) -> float:
    """Mean over records of their token accuracies. Raises `InputError` without records."""
    if not records:
        raise InputError("An accuracy needs at least one record.")
    return sum(records) / len(records)
