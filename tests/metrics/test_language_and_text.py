"""Edge rules of negation, languages, long texts and whole passages."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.errors import InputError, UnknownNameError
from corrigenda.metrics import lingual, longform, negation
from corrigenda.metrics.text import em, f1
from corrigenda.metrics.unstructured import bert_score, fact_recall


def test_a_negated_statement_wants_another_answer_and_an_answer_at_all():
    assert negation.negated(" Paris. It never was in Rome", "Rome") == 1.0
    assert negation.negated(" the city of Rome", ["Roma", "Rome"]) == 0.0
    assert negation.negated("  \n ", "Rome") == 0.0


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (" Yes, it is", True),
        ("TRUE.", True),
        ('"No"', False),
        ("False: it is in Paris", False),
        ("Not true", False),
        ("incorrect", False),
        ("Nobody knows", None),
        ("Trueman said so", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_leniently(answer, wanted):
    assert negation.verdict(answer) is wanted


def test_an_unclear_answer_is_wrong_and_counted():
    found = negation.fact_checks([("Yes", True), ("yes", False), ("Perhaps", True), ("No", False)])
    assert (found.value, found.n, found.unclear) == (0.5, 4, 1)
    with pytest.raises(InputError):
        negation.fact_checks([])


def test_languages_are_normalised_each_in_its_way():
    assert lingual.em("The Café", "café", "en") == 1.0
    assert lingual.em("Le the", "Le", "fr") == 0.0  # "the" is an article in English only
    assert lingual.em("ＲＯＭＥ", "rome", "de") == 1.0  # NFKC
    assert lingual.em("罗马。", "罗马", "zh") == 1.0
    assert lingual.f1("罗马城", "罗马", "zh") == pytest.approx(0.8)
    assert lingual.f1("罗马城", "罗马", "fr") == 0.0  # one word each
    assert lingual.f1("", "", "zh") == 1.0


@given(st.text("ab cd'the .", max_size=30), st.text("ab cd'the .", max_size=30))
def test_english_is_scored_as_everywhere_else(one, other):
    assert lingual.em(one, other, "en") == em(one, other)
    assert lingual.f1(one, other, "en") == pytest.approx(f1(one, other))


def test_the_matrix_has_no_holes():
    cells = {("en", "en"): [1.0, 0.8], ("en", "zh"): [0.3], ("zh", "en"): [0.45]}
    with pytest.raises(InputError, match="'zh' asked in 'zh'"):
        lingual.matrix(cells, ["en", "zh"])
    with pytest.raises(InputError, match="finite"):
        lingual.matrix(cells | {("zh", "zh"): [math.nan]}, ["en", "zh"])
    full = lingual.matrix(cells | {("zh", "zh"): [0.9]}, ["en", "zh"])
    assert full == [[pytest.approx(0.9), 0.3], [0.45, 0.9]]


def test_transfer_is_undefined_without_a_diagonal_or_another_language():
    assert lingual.transfer([[0.0, 0.3], [0.2, 0.0]]) is None
    assert lingual.transfer([[0.5]]) is None
    assert lingual.transfer([[0.6] * 3] * 3) == pytest.approx(1.0)
    with pytest.raises(InputError, match="square"):
        lingual.transfer([[0.5, 0.5]])


def test_the_survey_keeps_to_its_items_and_scale():
    found = longform.survey({"fluency": [7, 5, 6], "topicality": [4.0]})
    assert found["fluency"].value == 6.0
    assert 5 <= found["fluency"].low <= 6 <= found["fluency"].high <= 7
    assert found["topicality"] == (4.0, 4.0, 4.0)
    with pytest.raises(UnknownNameError, match="fluency"):
        longform.survey({"fluenzy": [7]})
    with pytest.raises(InputError, match="1 to 7"):
        longform.survey({"fluency": [8]})
    assert len(longform.ITEMS) == 9


def test_labels_are_of_three_kinds():
    with pytest.raises(UnknownNameError, match="contradicts"):
        longform.inference(["supports", "contradict"])  # type: ignore[list-item]
    with pytest.raises(InputError):
        longform.inference([])


def test_rouge_by_hand():
    text, reference = "police killed the gunman", "police kill the gunman now"
    # Without the article: 2 of 3 words, and of 4, are shared and in order.
    score = longform.rouge(text, reference)
    assert (score.precision, score.recall) == (pytest.approx(2 / 3), pytest.approx(1 / 2))
    assert score.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert longform.rouge(text, reference, 1) == score
    assert longform.rouge(text, reference, 2).f1 == 0.0
    assert longform.rouge("y x", "x y").recall == 0.5  # order counts in the subsequence
    assert longform.rouge("y x", "x y", 1).recall == 1.0
    assert longform.rouge("", "x").f1 == 0.0


def test_perplexity_is_over_what_was_predicted():
    assert longform.perplexity([math.log(0.5)] * 4) == pytest.approx(2.0)
    assert longform.perplexity([0.0]) == 1.0
    assert longform.perplexity([-1.0, -math.inf]) == math.inf
    for bad in ([], [math.nan]):
        with pytest.raises(InputError):
            longform.perplexity(bad)


def test_bert_score_matches_each_token_with_its_best():
    x, y = torch.eye(3)[:2], torch.eye(3)
    score = bert_score(2 * x, y)  # lengths do not matter
    assert (score.precision, score.recall) == (pytest.approx(1.0), pytest.approx(2 / 3))
    assert score.f1 == pytest.approx(0.8)
    assert bert_score(y, y).f1 == pytest.approx(1.0)
    with pytest.raises(InputError):
        bert_score(x, torch.empty(0, 3))
    with pytest.raises(InputError):
        bert_score(x, y * math.nan)


def test_fact_recall():
    assert fact_recall([True, False, True, True]) == 0.75
    with pytest.raises(InputError):
        fact_recall([])
