"""What a model goes on to say after its answer: loops and contradictions.

Cutting the output at the length of the gold answer hides both (Yang et al. 2025, 2502.11177, who
call it the mirage of model editing). An answer with such a tail is wrong, whatever it begins with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .text import contains, normalise

__all__ = ["contradicts", "loops"]

COPIES = 3  # a phrase said so often in a row is no rhetoric
_SENTENCE = re.compile(r"(?<=[.!?;。！？])\s+|\n+")
_SET_ASIDE = re.compile(
    r"\b(not|never|no longer|formerly|former|previously|instead of|rather than|used to|unlike|"
    r"isn't|wasn't|until|moved from)\b",
    re.I,
)


def loops(text: str, copies: int = COPIES) -> bool:
    """Whether the text ends in so many copies of one phrase; the last may be cut off.

    Words are normalised, so that "Rome. Rome, Rome" is a loop.
    """
    words = normalise(text).split()
    for period in range(1, len(words) // copies + 1):
        matched = 0  # words at the end that equal those one period before
        while matched + period < len(words) and words[-1 - matched] == words[-1 - matched - period]:
            matched += 1
        if matched + period >= copies * period:
            return True
    return False


def contradicts(text: str, target: str | Iterable[str], foils: str | Iterable[str]) -> bool:
    """Whether some sentence asserts a foil, such as the old object, beside or after the target.

    A sentence that sets the foil aside ("not Paris", "no longer in Paris") asserts nothing, and a
    foil inside the target ("York" in "New York") is not one.
    """
    names = [target] if isinstance(target, str) else list(target)
    others = [foils] if isinstance(foils, str) else list(foils)
    for sentence in _SENTENCE.split(text):
        if _SET_ASIDE.search(sentence):
            continue
        bare = f" {normalise(sentence)} "
        for name in sorted(map(normalise, names), key=len, reverse=True):
            bare = bare.replace(f" {name} ", "  ")
        if any(foil.strip() and contains(bare, foil) for foil in others):
            return True
    return False
