"""Reference score RS: do long texts about the subject read like texts about the new object?

(Meng et al. 2022, 2202.05262.) Cosine between the unigram TF-IDF vectors of all generations
joined and of all reference texts joined. With N texts in the fitting corpus of which df hold the
word, idf = ln((1 + N) / (1 + df)) + 1. Words that the corpus lacks are ignored; a vector without
any known word gives 0. Tables show the value x 100.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Tfidf"]

_WORD = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True, eq=False)
class Tfidf:
    """Unigram TF-IDF with smooth inverse document frequencies, fitted on a corpus of texts."""

    vocabulary: dict[str, int]
    idf: np.ndarray  # (V,)

    @classmethod
    def fit(cls, corpus: Iterable[str]) -> Tfidf:
        """Learn vocabulary and document frequencies. Words have two characters or more."""
        documents = [set(_words(text)) for text in corpus]
        frequency = Counter(word for document in documents for word in document)
        vocabulary = {word: j for j, word in enumerate(sorted(frequency))}
        df = np.array([frequency[word] for word in vocabulary], dtype=float)
        return cls(vocabulary, np.log((1 + len(documents)) / (1 + df)) + 1)

    def vector(self, text: str) -> np.ndarray:
        """Unit vector (V,) of a text; all zeros if it has no known word."""
        counts = np.zeros(len(self.vocabulary))
        for word, count in Counter(_words(text)).items():
            if word in self.vocabulary:
                counts[self.vocabulary[word]] = count
        weighted = counts * self.idf
        norm = np.linalg.norm(weighted)
        return weighted / norm if norm else weighted

    def similarity(self, texts: Sequence[str], references: Sequence[str]) -> float:
        """Cosine between the joined texts and the joined references."""
        return float(self.vector(" ".join(texts)) @ self.vector(" ".join(references)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
