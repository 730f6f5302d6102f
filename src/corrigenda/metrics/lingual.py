"""Across languages: edited in one, asked in another (Bi-ZsRE: Wang et al. 2024, 2309.08952).

    A[src, tgt]        score of edits made in language src, asked in language tgt
    transfer ratio     mean off the diagonal / mean on the diagonal

Answers are compared after NFKC, case folding and the removal of punctuation; articles are dropped
in English only. F1 counts characters in languages that are written without spaces.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import InputError
from .text import normalise

__all__ = ["em", "f1", "matrix", "transfer"]

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})


def em(answer: str, target: str, language: str) -> float:
    """1.0 when both are equal after the language's normalisation."""
    return float(_units(answer, language) == _units(target, language))


def f1(answer: str, target: str, language: str) -> float:
    """Harmonic mean of precision and recall over words, or characters where there are no spaces."""
    got, wanted = _units(answer, language), _units(target, language)
    if not got or not wanted:
        return float(got == wanted)
    shared = sum((Counter(got) & Counter(wanted)).values())
    return 2 * shared / (len(got) + len(wanted))


def matrix(
    scores: Mapping[tuple[str, str], Sequence[float]], languages: Sequence[str]
) -> list[list[float]]:
    """A[src, tgt]: the mean of each cell's scores, in the order of `languages`.

    Raises `InputError` naming a cell that has no score or one that is not finite.
    """
    rows = []
    for src in languages:
        row = []
        for tgt in languages:
            cell = scores.get((src, tgt), ())
            if not len(cell) or not all(map(math.isfinite, cell)):
                raise InputError(
                    f"Edits in {src!r} asked in {tgt!r} have {len(cell)} scores, and a mean needs "
                    "finite ones. Ask every edit in every language, or name fewer languages."
                )
            row.append(math.fsum(cell) / len(cell))
        rows.append(row)
    return rows


def transfer(matrix: Sequence[Sequence[float]]) -> float | None:
    """Mean off the diagonal by mean on it; None where that is 0 or there is one language only.

    1 means that an edit made in one language is there in all. Raises `InputError` for a matrix that
    is not square.
    """
    n = len(matrix)
    if not n or any(len(row) != n for row in matrix):
        raise InputError(f"A transfer matrix is square; this one has {n} rows of other lengths.")
    own = math.fsum(matrix[i][i] for i in range(n)) / n
    if n == 1 or own == 0:
        return None
    other = math.fsum(matrix[i][j] for i in range(n) for j in range(n) if i != j)
    return other / (n * (n - 1)) / own


def _units(text: str, language: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    if language == "en":
        return normalise(folded).split()
    marks = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in folded)
    return [c for c in marks if not c.isspace()] if language in UNSPACED else marks.split()
