"""The scope: which remembered edits a request is about.

A request is about an edit only if it mentions the edit's subject, by its name or an alias, as whole
words. Names within longer names of other remembered subjects do not count. In a chat a follow-up
("Which country is it in?") may mention the subject by a pronoun. Then what is asked of the subject
is compared with what the edit says of it, the subject itself cut out of both:

    Retrieval    s = cos(e(x), e(k)) ≥ threshold                    the embedding as it is
    Classifier   s = exp(-‖P (e(x) - e(k))‖²) ≥ threshold           P learned, as in SERAC
                                                                    (Mitchell et al. 2022, 2206.06520)

x are the sentences that mention the subject, each by itself; the best one counts. The decision on
one edit depends on no other, but for longer names, and never on their order. Neither needs anything
of the model that answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from .embedding import Embedding, Ngrams
from .memory import Remembered

__all__ = ["CLASSIFIED", "RETRIEVED", "Classifier", "Match", "Query", "Retrieval", "Scope"]

RETRIEVED = 0.0
"""Threshold of retrieval: at 0 the mention alone decides. N-grams see no likeness between two
wordings of one fact, so every higher threshold loses some of them (`calibration.thresholds`)."""

CLASSIFIED = 0.5
"""Threshold of the classifier: the loss that trains it puts the border there."""

MARK = "\ufffc"  # stands for the subject where it was cut out

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_PRONOUN = re.compile(
    r"\b(?:it|its|he|him|his|she|her|hers|they|them|their|theirs|there|this|that|these|those)\b",
    re.I,
)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks.

    text    the prompt, or the last message of the user.
    before  the turn before it, where a follow-up finds what its pronouns mean.
    """

    text: str
    before: str = ""


class Match(NamedTuple):
    """An edit that a request is about, and how near it is."""

    edit: Remembered
    score: float


class Scope(Protocol):
    """Decides what is in scope."""

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    def select(self, query: Query, memory: Sequence[Remembered]) -> list[Match]:
        """The edits in scope, the nearest last; of equally near ones the newer."""
        ...


@dataclass(frozen=True)
class Retrieval:
    """Scope by the cosine of an embedding."""

    threshold: float = RETRIEVED
    embedding: Embedding = field(default_factory=Ngrams)
    name: str = "retrieval"

    def select(self, query: Query, memory: Sequence[Remembered]) -> list[Match]:
        return _selected(query, memory, self.scores, self.threshold)

    def scores(self, asked: Sequence[str], told: Sequence[str]) -> np.ndarray:
        """(a, t) how near each question is to each edit's words."""
        return self.embedding(asked) @ self.embedding(told).T


@dataclass(frozen=True)
class Classifier:
    """Scope by a learned map of an embedding.

    metric  (r, d) the map P; `calibration.trained` makes one.
    """

    metric: np.ndarray
    threshold: float = CLASSIFIED
    embedding: Embedding = field(default_factory=Ngrams)
    name: str = "classifier"

    def select(self, query: Query, memory: Sequence[Remembered]) -> list[Match]:
        return _selected(query, memory, self.scores, self.threshold)

    def scores(self, asked: Sequence[str], told: Sequence[str]) -> np.ndarray:
        """(a, t) how near each question is to each edit's words."""
        a, t = (self.embedding(texts) @ self.metric.T for texts in (asked, told))
        apart = np.square(a[:, None] - t[None]).sum(-1)
        return np.exp(-apart)


# -- mentions ---------------------------------------------------------------------------------


def pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Finds any of these names as whole words, the longest first. Short names and those in
    capitals ("US", "WHO") keep their case."""
    parts = []
    for name in sorted({n.strip() for n in names if n.strip()}, key=lambda n: (-len(n), n)):
        words = r"\s+".join(re.escape(word) for word in name.split())
        if not _UNSPACED.search(name):
            words = rf"(?<!\w){words}(?!\w)"
        strict = len(name) <= 3 or name.isupper()
        parts.append(words if strict else f"(?i:{words})")
    return re.compile("|".join(parts) or r"(?!)")


def _spans(text: str, folded: str, one: Remembered) -> list[tuple[int, int]]:
    # The search itself takes longer than this look, and most edits are not mentioned.
    if not any(name.split()[0].casefold() in folded for name in one.names if name.split()):
        return []
    return [found.span() for found in pattern(one.names).finditer(text)]


def mentioned(text: str, memory: Sequence[Remembered]) -> dict[int, list[tuple[int, int]]]:
    """Where each edit's subject is mentioned, by the edit's position in the memory."""
    folded = text.casefold()
    spans = {j: found for j, one in enumerate(memory) if (found := _spans(text, folded, one))}
    every = {span for found in spans.values() for span in found}

    def whole(span: tuple[int, int]) -> bool:
        return not any(a <= span[0] and span[1] <= b and (a, b) != span for a, b in every)

    kept = {j: [span for span in found if whole(span)] for j, found in spans.items()}
    return {j: found for j, found in kept.items() if found}


def questions(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The sentences that mention a subject, with it cut out."""
    cut, at = "", 0
    for start, end in sorted(spans):
        if start >= at:
            cut, at = cut + text[at:start] + MARK, end
    sentences = _SENTENCE.split(cut + text[at:])
    return [one.replace(MARK, " ") for one in sentences if MARK in one]


def _selected(query: Query, memory: Sequence[Remembered], scores, threshold: float) -> list[Match]:
    if not memory:
        return []
    found = mentioned(query.text, memory)
    asked = {j: questions(query.text, spans) for j, spans in found.items()}
    if not found and query.before and _PRONOUN.search(query.text):
        asked = {j: [query.text] for j in mentioned(query.before, memory)}
    matches = []
    for j, texts in asked.items():
        edit = memory[j].edit
        told = f"{edit.prompt.replace('{}', ' ')} {edit.after.replace('{}', ' ')}".strip()
        score = round(float(scores(texts, [told]).max()), 4)
        if score >= threshold:
            matches.append(Match(memory[j], score))
    return sorted(matches, key=lambda one: (one.score, one.edit.number, one.edit.edit.statement))
