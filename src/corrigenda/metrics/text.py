"""Free-generation answers as text: what counts as the answer, and when it is right.

The answer is the continuation only, never prompt and continuation together: an answer that is
named in the prompt would always pass. Normalisation is SQuAD's (Rajpurkar et al. 2016,
1606.05250): lower case, no punctuation, no articles, single spaces; punctuation is Unicode's.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

__all__ = [
    "answer_of",
    "begins",
    "contains",
    "em",
    "f1",
    "first_sentence",
    "normalise",
    "preserved",
    "settled",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# A full stop after these does not end a sentence: "St. Louis", "J. K. Rowling", "vs. Italy".
_ABBREVIATED = """
    st mt ft mr mrs ms dr prof rev hon gen col capt lt sgt gov sen rep pres jr sr vs etc no vol
    dept univ inc ltd co corp bros ca approx al fig e.g i.e u.s u.k u.n a.m p.m jan feb mar apr
    jun jul aug sep sept oct nov dec
"""
_STOP = re.compile(r"([.!?。！？]+)([\"'”’)\]]*)(?=\s|$)|[。！？]")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and repeated spaces.

    A text that consists of nothing else ("The The") keeps its words, so that it can be matched.
    """
    bare = _bare(text)
    return " ".join(_ARTICLES.sub(" ", bare).split()) or bare


def em(answer: str, target: str) -> float:
    """1.0 when both are equal after normalisation."""
    return float(normalise(answer) == normalise(target))


def contains(answer: str, aliases: str | Iterable[str]) -> float:
    """1.0 when any alias occurs in the answer as whole words.

    Punctuation inside words is tried both ways, so that "U.S." matches "US" and "Rome's" and
    "Rome-based" match "Rome". Scripts written without spaces match anywhere.
    """
    return float(any(_occurs(answer, alias) for alias in _names(aliases)))


def begins(answer: str, aliases: str | Iterable[str]) -> float:
    """1.0 when the answer begins with any alias as whole words."""
    return float(any(_occurs(answer, alias, at_start=True) for alias in _names(aliases)))


def f1(answer: str, target: str) -> float:
    """Token overlap: the harmonic mean of precision and recall over normalised words."""
    got, wanted = normalise(answer).split(), normalise(target).split()
    if not got or not wanted:
        return float(got == wanted)
    shared = sum((Counter(got) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(got), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence, without the closing mark.

    A full stop after an initial or a usual abbreviation, or inside a number, ends nothing.
    """
    return _cut(text)[0]


def _cut(text: str) -> tuple[str, bool]:
    """The first sentence, and whether it is the same with anything written after the text."""
    for stop in _STOP.finditer(text):
        head, more = text[: stop.start()], text[stop.end() :]
        if stop.group(1) != ".":
            return head.strip(), bool(more)
        words = head.split()
        word = words[-1].lower().lstrip("\"'“‘([") if words else ""
        initial = len(word) == 1 and word.isalpha()
        if not (initial or word in _ABBREVIATED.split()):
            return head.strip(), bool(more)
        if not more.strip():
            return head.strip(), False
    return text.strip(), False


def answer_of(continuation: str) -> str:
    """The answer inside a continuation: its first non-empty line, cut after one sentence.

    The same rule is used before and after an edit, and for every scorer.
    """
    return first_sentence("".join(_line(continuation).splitlines()))


def settled(continuation: str) -> bool:
    """Whether the answer is the same with anything written after this continuation: a model that
    has come so far need not write on."""
    line = _line(continuation)
    broken = line.splitlines() != [line]  # a line that is over
    return bool(line) and (broken or _cut(line)[1])


def _line(text: str) -> str:
    """The first line that is not empty, with what ends it."""
    return next((part for part in text.splitlines(keepends=True) if part.strip()), "")


def preserved(before: str, after: str) -> float:
    """1.0 when two continuations give the same answer under `em`."""
    return em(answer_of(before), answer_of(after))


def _names(aliases: str | Iterable[str]) -> Iterable[str]:
    return (aliases,) if isinstance(aliases, str) else aliases


def _occurs(answer: str, alias: str, at_start: bool = False) -> bool:
    if _UNSPACED.search(alias):
        got, wanted = normalise(answer), normalise(alias)
        return bool(wanted) and (got.startswith(wanted) if at_start else wanted in got)
    for gap in ("", " "):
        got, wanted = _bare(answer, gap), _bare(alias, gap)
        if _ARTICLES.sub(" ", wanted).strip():  # not of articles alone
            got, wanted = (" ".join(_ARTICLES.sub(" ", text).split()) for text in (got, wanted))
        if not wanted:
            continue
        if f"{got} ".startswith(f"{wanted} ") or (not at_start and f" {wanted} " in f" {got} "):
            return True
    return False


class _Gaps(dict[int, str | int]):
    """A translation that puts `gap` in place of punctuation; it learns characters as they come."""

    def __init__(self, gap: str) -> None:
        super().__init__()
        self._gap = gap

    def __missing__(self, point: int) -> str | int:
        character = chr(point)
        mark = character in string.punctuation or unicodedata.category(character)[0] == "P"
        self[point] = self._gap if mark else point
        return self[point]


_GAPS = {gap: _Gaps(gap) for gap in ("", " ")}


def _bare(text: str, gap: str = "") -> str:
    """Lower case, single spaces, and `gap` in place of punctuation."""
    return " ".join(text.lower().translate(_GAPS[gap]).split())
