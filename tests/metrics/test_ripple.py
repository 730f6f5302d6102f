"""RippleEdits, worked by hand: one edit with its six criteria, and a second whose edit failed.

The edit: the Eiffel Tower is moved to Rome. Continuations are what an edited model might write.
"""

from __future__ import annotations

import pytest

from corrigenda.errors import InputError, UnknownNameError
from corrigenda.metrics.ripple import (
    CRITERIA,
    Example,
    criterion,
    outcome,
    passes,
    passes_paper,
    ripple,
)

ITALY, ROME = ["Italy", "Italian Republic"], ["Rome", "Roma"]
LOUVRE, ORSAY = ["Louvre", "the Louvre Museum"], ["Orsay", "Musée d'Orsay"]


def query(prompt: str, continuation: str, *targets: list[str]) -> tuple[bool, bool]:
    """Whether it passes by our rule and by the published code's."""
    return passes(continuation, targets), passes_paper(prompt, continuation, targets)


def test_the_two_rules_differ_where_the_published_code_is_lax_or_strict():
    # The prompt names the answer: the code is satisfied with any continuation.
    assert query("Rome, where the Eiffel Tower is, is called", " Paris", ROME) == (False, True)
    # One of two targets: the paper's text asks for at least one, its code for all.
    assert query("Paris has the museum", " Louvre.", LOUVRE, ORSAY) == (True, False)
    assert query("Paris has the museum", " Louvre and Orsay", LOUVRE, ORSAY) == (True, True)
    # Parts of words and other cases.
    assert query("The tower is in", " Romeo's city", ROME) == (False, True)
    assert query("The tower is in", " ROME", ROME) == (True, False)
    # An alias will do for both; an alias of one letter is ignored by the code.
    assert query("The tower's country is", " the Italian Republic", ITALY) == (True, True)
    assert query("The chemical symbol is", " C", ["C"]) == (True, False)
    assert query("The number is", " 7", ["7"]) == (True, True)


def test_one_edit_by_all_criteria():
    """2 of 3 executed LG tests, 1 of 1 CI, no executed CII, 0 of 1 SA, 1 of 2 PV, 1 of 1 RS."""
    tests: dict[str, list[bool | None]] = {
        # LG: country of the tower; its neighbour landmark; a third whose condition was not known.
        "LG": [
            outcome([passes(" Italy", [ITALY])], "OR", [True]),
            outcome([passes(" Paris", [ROME]), passes(" Roma", [ROME])], "OR"),
            outcome([passes(" Paris", [ROME]), passes(" Roma", [ROME])], "AND"),
            outcome([passes(" Italy", [ITALY])], "OR", [True, False]),
        ],
        "CI": [outcome([passes(" Italian Republic.", [ITALY])], "OR", [True])],
        "CII": [outcome([passes(" Italy", [ITALY])], "OR", [False])],
        "SA": [outcome([passes(" Paris", [ROME])], "OR")],
        "PV": [
            outcome([passes(" Louvre", [LOUVRE, ORSAY])], "OR"),
            outcome([passes(" Rome", [LOUVRE, ORSAY])], "OR"),
        ],
        "RS": [outcome([passes(" 330 metres", [["330", "330 metres"]])], "OR")],
    }
    examples = [Example(True, tests), Example(False, {"LG": [True, True]})]
    found = {name: ripple(examples, name) for name in CRITERIA}
    assert {name: score.value for name, score in found.items()} == {
        "LG": pytest.approx(2 / 3),
        "CI": 1.0,
        "CII": None,
        "SA": 0.0,
        "PV": 0.5,
        "RS": 1.0,
    }
    assert (found["LG"].executed, found["LG"].tests, found["LG"].failed) == (0.75, 4, 1)
    assert (found["CII"].executed, found["CII"].examples) == (0.0, 0)


def test_examples_weigh_the_same_however_many_tests_they_have():
    many = Example(True, {"RS": [True] * 9})
    one = Example(True, {"RS": [False]})
    silent = Example(True, {"RS": [None]})
    score = ripple([many, one, silent], "RS")
    assert (score.value, score.examples) == (0.5, 2)
    assert score.executed == 10 / 11


def test_nothing_to_score_is_not_zero():
    score = ripple([], "LG")
    assert (score.value, score.executed, score.examples) == (None, None, 0)


def test_keys_of_the_files():
    assert [criterion(name) for name in CRITERIA.values()] == list(CRITERIA)
    assert criterion("Relation_Specifity") == "RS"
    with pytest.raises(UnknownNameError, match="Forgetfulness"):
        criterion("Forgetfullness")


def test_a_malformed_test_is_an_error():
    with pytest.raises(InputError, match="OR or AND"):
        outcome([], "OR")
    with pytest.raises(InputError, match="OR or AND"):
        outcome([True], "XOR")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no target"):
        passes("Rome", [])
