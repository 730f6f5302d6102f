"""Generation entropy GE (Zhang et al. 2018; Meng et al. 2022, 2202.05262).

    GE = mean(2/3 H2, 4/3 H3)

with H2 and H3 the entropies (bits) of a text's word bigrams and trigrams. Text that repeats
itself scores low. The papers' texts are prompt plus continuation, 100 tokens, sampled from the
top 5; words are what `tokens` says, white space by default. Tables show the mean over texts x 100.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["generation_entropy", "ngram_entropy"]


def ngram_entropy(words: Sequence[str], n: int) -> float:
    """Entropy in bits of the n-grams of a text; 0 when it has none."""
    counts = Counter(tuple(words[j : j + n]) for j in range(len(words) - n + 1))
    total = counts.total()
    return -sum(c / total * math.log2(c / total) for c in counts.values()) + 0.0


def generation_entropy(text: str, tokens: Callable[[str], Sequence[str]] = str.split) -> float:
    """GE of one text in bits. A text of fewer than three words scores 0."""
    words = tokens(text)
    if len(words) < 3:
        return 0.0
    return (2 / 3 * ngram_entropy(words, 2) + 4 / 3 * ngram_entropy(words, 3)) / 2
