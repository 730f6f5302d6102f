from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.metrics.text import (
    answer_of,
    begins,
    contains,
    em,
    f1,
    first_sentence,
    normalise,
    preserved,
    settled,
)


def test_exact_match_ignores_case_articles_and_punctuation():
    assert em("The Eiffel Tower", "eiffel tower") == 1.0
    assert em("Eiffel Tower!", "an  eiffel-tower") == 0.0
    assert em("Rome.", "rome") == 1.0


def test_f1_is_the_overlap_of_words():
    assert f1("New York City", "New York") == pytest.approx(0.8)
    assert f1("Paris", "Rome") == 0.0
    assert f1("", "") == 1.0


def test_a_name_made_of_articles_is_not_lost():
    assert normalise("The The") == "the the"
    assert contains("The band is called The The", "The The") == 1.0
    assert contains("a nice place", "A") == 1.0


@pytest.mark.parametrize(
    ("answer", "alias", "expected"),
    [
        ("the city of Rome, in Italy", "Rome", 1.0),
        ("the Romeo of Italy", "Rome", 0.0),
        ("Rome's centre", "Rome", 1.0),
        ("a Rome-based company", "Rome", 1.0),
        ("the U.S. and Canada", "US", 1.0),
        ("New York City", "new york", 1.0),
        ("York", "New York", 0.0),
        ("位于罗马市", "罗马", 1.0),
        ("", "Rome", 0.0),
    ],
)
def test_contains_takes_whole_words(answer, alias, expected):
    assert contains(answer, alias) == expected


def test_contains_takes_any_alias_and_begins_only_the_start():
    assert contains("It is in Roma", ("Rome", "Roma")) == 1.0
    assert begins("Rome, Italy", ("Roma", "Rome")) == 1.0
    assert begins("in Rome", "Rome") == 0.0
    assert contains("Paris", ()) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rome. It is old.", "Rome"),
        ("St. Louis, Missouri. Next.", "St. Louis, Missouri"),
        ("J. K. Rowling. She wrote", "J. K. Rowling"),
        ("about 3.5 km away. Then", "about 3.5 km away"),
        ("Rome! And then?", "Rome"),
        ("no stop at all", "no stop at all"),
        ("He met Mr.", "He met Mr"),
        ('"Rome." Then', '"Rome'),
    ],
)
def test_a_sentence_ends_where_a_reader_says_so(text, expected):
    assert first_sentence(text) == expected


def test_the_answer_is_the_first_line_and_its_first_sentence():
    assert answer_of("\n\n Rome. The city\nParis") == "Rome"
    assert answer_of("   ") == ""


def test_preserved_compares_answers_not_tails():
    assert preserved(" Paris. It is big", " paris\nQuestion: next") == 1.0
    assert preserved(" Paris", " Rome") == 0.0
    assert preserved("", "") == 1.0


@given(st.text(max_size=60))
def test_normalisation_is_stable_and_every_text_matches_itself(text):
    assert normalise(normalise(text)) == normalise(text)
    assert em(text, text) == f1(text, text) == 1.0
    assert preserved(text, text) == 1.0


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("", False),
        (" Rome", False),
        (" Rome.", False),  # "Rome.com" may come
        (" Rome. The", True),
        (" Rome. ", True),
        (" St. ", False),
        (" St. Louis", False),
        (" St. Louis. It", True),
        ("\n\n", False),
        ("\nRome\n", True),
        (" Really?!", False),
        (" Really? ", True),
        (" 羅馬。", False),
        (" 羅馬。它", True),
    ],
)
def test_an_answer_is_settled_when_its_sentence_is_over(text: str, over: bool) -> None:
    assert settled(text) == over


PIECES = [
    "Rome",
    "St",
    "J",
    "3",
    ".",
    "!",
    "。",
    "?",
    " ",
    "\n",
    "\r",
    "\u2028",
    '"',
    "”",
    "etc",
    "x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=9), st.lists(st.sampled_from(PIECES), max_size=5))
def test_nothing_written_after_a_settled_answer_changes_it(
    text: list[str], more: list[str]
) -> None:
    told = "".join(text)
    if settled(told):
        assert answer_of(told + "".join(more)) == answer_of(told)
