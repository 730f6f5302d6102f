"""Negation and fact checks: an edit that only echoes its target fails them (2510.00625).

    "X is not in ___"               must not be answered with the new object
    "Is it true that X is in Rome?" must be answered in keeping with the edit

The score is the share of probes answered consistently. An answer to a fact check that is neither
yes nor no is inconsistent, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .text import answer_of, contains

__all__ = ["Checks", "fact_checks", "negated", "verdict"]

_YES = re.compile(r"\W*(yes|true|correct|right|indeed)\b", re.I)
_NO = re.compile(r"\W*(no|false|incorrect|wrong|not\s+true|not\s+correct|untrue)\b", re.I)


@dataclass(frozen=True, slots=True)
class Checks:
    """Fact checks over n probes.

    value     share answered consistently with the edit, 0 to 1.
    unclear   probes whose answer is neither yes nor no; they count as wrong.
    """

    value: float
    n: int
    unclear: int


def negated(continuation: str, target: str | Sequence[str]) -> float:
    """1.0 iff the answer to a negated statement does not name the edit's target.

    An answer without words is no answer, and fails.
    """
    answer = answer_of(continuation)
    return float(bool(answer) and not contains(answer, target))


def verdict(continuation: str) -> bool | None:
    """What a yes/no answer begins with; None where it is neither."""
    text = continuation.strip()
    if _NO.match(text):
        return False
    return True if _YES.match(text) else None


def fact_checks(answers: Sequence[tuple[str, bool]]) -> Checks:
    """Score (continuation, the verdict that the edit implies) pairs.

    Raises `InputError` without probes.
    """
    if not answers:
        raise InputError("A score over fact checks needs at least one of them.")
    verdicts = [verdict(text) for text, _ in answers]
    right = sum(got is wanted for got, (_, wanted) in zip(verdicts, answers, strict=True))
    return Checks(right / len(answers), len(answers), verdicts.count(None))
