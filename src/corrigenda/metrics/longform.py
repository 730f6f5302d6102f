"""Long texts about what was edited (LEME: Rosati et al. 2024, 2402.09394).

The model writes a passage about the subject and one about something coupled to it. Three looks:

    survey       nine items rated 1 to 7, by people or a judge
    inference    each (passage, claim) pair is labelled supports, contradicts or neutral
    overlap      ROUGE with the passages of the unedited model, and perplexity under that model

Labels come from a model of natural language inference that the caller names (`nli.py`) or from
people; there is no fallback without one. ROUGE is Lin's (2004): recall, precision and their
harmonic mean over n-grams, or over the longest common subsequence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import InputError, UnknownNameError
from .statistics import Interval, bootstrap
from .text import normalise

__all__ = ["ITEMS", "Inference", "Label", "Rouge", "inference", "perplexity", "rouge", "survey"]

Label = Literal["supports", "contradicts", "neutral"]

ITEMS = (
    "new fact, main passage",
    "new fact, related passage",
    "old facts, main passage",
    "old facts, related passage",
    "consistency, main passage",
    "consistency, related passage",
    "consistency across passages",
    "topicality",
    "fluency",
)
"""The nine items of the survey."""


@dataclass(frozen=True, slots=True)
class Inference:
    """Shares of n labels, each 0 to 1; they add up to 1."""

    support: float
    contradiction: float
    neutral: float
    n: int


@dataclass(frozen=True, slots=True)
class Rouge:
    """Overlap of a text with a reference, each 0 to 1."""

    precision: float
    recall: float
    f1: float


def survey(ratings: Mapping[str, Sequence[float]], *, seed: int = 0) -> dict[str, Interval]:
    """Mean rating of each item with its 95 % bootstrap interval over raters and passages.

    Raises `UnknownNameError` for an item that is not among `ITEMS`, and `InputError` for one
    without ratings or with a rating outside 1 to 7.
    """
    means = {}
    for item, values in ratings.items():
        if item not in ITEMS:
            raise UnknownNameError("survey item", item, ITEMS)
        if not values or not all(1 <= value <= 7 for value in values):
            raise InputError(f"The ratings of {item!r} are {list(values)}; they go from 1 to 7.")
        low, high = bootstrap(values, seed=seed)
        means[item] = Interval(math.fsum(values) / len(values), low, high)
    return means


def inference(labels: Sequence[Label]) -> Inference:
    """Shares of the labels. Raises `InputError` without labels, `UnknownNameError` for another."""
    if not labels:
        raise InputError("A share of labels needs at least one (passage, claim) pair.")
    for label in labels:
        if label not in get_args(Label):
            raise UnknownNameError("label", label, get_args(Label))
    n = len(labels)
    support, contradiction, neutral = (labels.count(label) / n for label in get_args(Label))
    return Inference(support, contradiction, neutral, n)


def rouge(text: str, reference: str, n: int | Literal["L"] = "L") -> Rouge:
    """ROUGE-n, or ROUGE-L for the longest common subsequence, over normalised words.

    A text or reference without such n-grams scores 0.
    """
    got, wanted = normalise(text).split(), normalise(reference).split()
    if n == "L":
        shared, sizes = _common(got, wanted), (len(got), len(wanted))
    else:
        ours, theirs = _ngrams(got, n), _ngrams(wanted, n)
        shared, sizes = (ours & theirs).total(), (ours.total(), theirs.total())
    if not shared:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = shared / sizes[0], shared / sizes[1]
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))


def perplexity(logprobs: Sequence[float]) -> float:
    """exp of the mean negative log-probability of the tokens that were predicted.

    Of N tokens of a text N - 1 are predicted, and it is these that are given; a mean over N would
    flatter. 1 or more; infinite where a log-probability is -inf. Raises `InputError` for none, and
    for one that is not a number.
    """
    if not len(logprobs) or any(math.isnan(x) for x in logprobs):
        raise InputError("A perplexity needs the log-probability of at least one token, no NaN.")
    mean = -math.fsum(logprobs) / len(logprobs) if min(logprobs) > -math.inf else math.inf
    return math.exp(mean) if mean < 700 else math.inf


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[j : j + n]) for j in range(len(words) - n + 1))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for a in first:
        before = 0  # the entry up and to the left
        for j, b in enumerate(second, start=1):
            before, row[j] = row[j], before + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]
