"""Texts as vectors without a model: TF-IDF of words and of character n-grams, hashed.

    e(x)_h = Σ_{grams g of x, hash(g) = h}  (1 + log tf(g)) · idf(h),   then ‖e(x)‖ = 1
    idf(h) = 1 + log((1 + N) / (1 + n_h))

with n_h of N background texts holding a gram with that hash. The background is fixed (the wordings
of Atlas's relations, without names), so the vector of a text never moves when an edit is added or
undone. Nothing is downloaded. `encoder` gives one of the sentence-transformers library instead.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

__all__ = ["Embedding", "Ngrams", "encoder"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


class Embedding(Protocol):
    """Texts as vectors of length 1."""

    @property
    def name(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d) float32, one row per text; a row does not depend on the others."""
        ...


@dataclass(frozen=True)
class Ngrams:
    """The embedding that needs no download.

    sizes  of the character n-grams, inside words with their ends marked.
    width  number of hash buckets, d.
    words  weight of whole words beside n-grams.
    """

    sizes: tuple[int, ...] = (3, 4, 5)
    width: int = 4096
    words: float = 2.0

    @property
    def name(self) -> str:
        return f"ngrams-{'-'.join(map(str, self.sizes))}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for (bucket, weight), count in self._counted(text).items():
                row[bucket] += weight * (1 + np.log(count)) * self._rarity[bucket]
        size = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(size > 0, size, 1)

    def _counted(self, text: str) -> Counter[tuple[int, float]]:
        return Counter((self._bucket(gram), weight) for gram, weight in self._grams(text))

    def _grams(self, text: str) -> Iterator[tuple[str, float]]:
        for word in _WORD.findall(text.casefold()):
            yield word, self.words
            marked = f"<{word}>"
            for size in self.sizes:
                for at in range(len(marked) - size + 1):
                    yield marked[at : at + size], 1.0

    def _bucket(self, gram: str) -> int:
        return zlib.crc32(gram.encode()) % self.width

    @cached_property
    def _rarity(self) -> np.ndarray:
        """(d,) idf by bucket."""
        texts = _background()
        seen = np.zeros(self.width)
        for text in texts:
            seen[list({self._bucket(gram) for gram, _ in self._grams(text)})] += 1
        return (1 + np.log((1 + len(texts)) / (1 + seen))).astype(np.float32)


def _background() -> list[str]:
    """Unfinished sentences and questions about many things, without the things."""
    from ..atlas.templates import ATLAS

    templates = (one for relation in ATLAS.lines for one in ATLAS.templates(relation))
    return [one.prompt("") for one in templates if one.promptable]


def encoder(name: str) -> Embedding:
    """An encoder of the sentence-transformers library, by its name or directory.

    Raises `ModelError` where the library is not installed or has no such encoder.
    """
    from ..models.embed import sentence_encoder

    return _Sentences(name, sentence_encoder(name))


class _Sentences:
    def __init__(self, name: str, encode) -> None:
        self.name = name
        self._encode = encode

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(list(texts)).numpy()
