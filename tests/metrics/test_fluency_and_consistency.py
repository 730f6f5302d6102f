from __future__ import annotations

import pytest

from corrigenda.metrics.consistency import Tfidf
from corrigenda.metrics.fluency import generation_entropy, ngram_entropy


@pytest.mark.parametrize(
    ("text", "h2", "h3", "ge"),
    [
        ("a b c d e", 2.0, 1.584963, 1.723308),
        ("a b a b a b", 0.970951, 1.0, 0.990317),
        ("the the the the the", 0.0, 0.0, 0.0),
    ],
)
def test_entropy_of_ngrams(text, h2, h3, ge):
    assert ngram_entropy(text.split(), 2) == pytest.approx(h2, abs=1e-6)
    assert ngram_entropy(text.split(), 3) == pytest.approx(h3, abs=1e-6)
    assert generation_entropy(text) == pytest.approx(ge, abs=1e-6)


def test_a_text_of_less_than_three_words_scores_nothing():
    assert generation_entropy("two words") == generation_entropy("") == 0.0


def test_consistency_is_the_cosine_of_tfidf_vectors():
    model = Tfidf.fit(["the cat sat", "the dog sat", "a cat ran"])
    assert model.similarity(["cat sat"], ["cat ran"]) == pytest.approx(0.428046, abs=1e-6)
    assert model.similarity(["cat", "sat"], ["sat cat"]) == pytest.approx(1.0)


def test_a_text_without_known_words_scores_zero():
    model = Tfidf.fit(["the cat sat"])
    assert model.similarity(["zebra"], ["cat"]) == 0.0
