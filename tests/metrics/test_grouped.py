"""Tests of several questions, worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import Condition, Probe
from corrigenda.metrics.aggregate import aggregate
from corrigenda.metrics.grouped import Answered, scores, verdict
from corrigenda.metrics.observation import Observation, record_scores


def answered(passed: bool, require="all", met=None, kind="k") -> Answered:
    return Answered(kind, passed, passed, require, met)


def test_one_failure_and_one_success():
    """RippleEdits: queries [fail, pass]: OR passes, AND fails."""
    assert verdict([False, True], "any")
    assert not verdict([False, True], "all")
    assert not verdict([], "all") and not verdict([], "any")


def test_three_ripple_tests_of_which_one_was_not_executed():
    """1 not executed, 1 passed, 1 failed: 50 %, executed 66.7 %."""
    found = scores(
        {
            "a": [answered(True, met=False)],
            "b": [answered(True, met=True)],
            "c": [answered(False, met=True)],
        },
        took=True,
    )
    mean = {name: math.fsum(values) / len(values) for name, values in found.items()}
    assert mean["gen.tests"] == mean["gen.tests.taken"] == 0.5
    assert mean["gen.tests.executed"] == pytest.approx(0.667, abs=5e-4)
    assert mean["gen.tests:k"] == 0.5


def test_three_mquake_questions_of_which_one_is_right():
    """[wrong, "London UK" (alias), wrong]: any 1, mean 1/3, all 0."""
    questions = [answered(p, "any", kind="multi_hop") for p in (False, True, False)]
    found = scores({"multi_hop": questions})
    assert found["gen.tests:multi_hop"] == [1.0]
    assert found["gen.tests.mean:multi_hop"] == [pytest.approx(1 / 3)]
    assert found["gen.tests.all:multi_hop"] == [0.0]
    assert "gen.tests.taken" not in found


def test_examples_weigh_the_same_however_many_tests_they_have():
    """Accuracy per example, then the mean over examples: (1 + 0) / 2, not 2 / 3."""
    two = scores({"a": [answered(True)], "b": [answered(True)]})
    one = scores({"a": [answered(False)]})
    assert aggregate([two, one])["gen.tests"].value == 0.5


@given(st.lists(st.booleans(), min_size=1), st.booleans())
def test_all_is_stricter_than_any_and_the_share_lies_between(passed, met):
    def one(require):
        return scores({"t": [answered(p, require, met) for p in passed]})

    strict, loose = one("all"), one("any")
    assert strict["gen.tests.executed"] == loose["gen.tests.executed"] == [float(met)]
    if met:
        share = sum(passed) / len(passed)
        assert strict["gen.tests"][0] <= share <= loose["gen.tests"][0]
    else:
        assert "gen.tests" not in strict


# -- probes and observations ------------------------------------------------------------------

RIPPLE = (Condition("Who is S's mother?", ("Anne",)),)


def test_a_test_feeds_the_headline_once_and_only_if_executed():
    edit = Probe("S is in", ("Rome",), "efficacy", "rewrite")
    wordings = [
        Probe(f"Land {j}?", ("Italy", "Italia"), "portability", "logical", group="g", require="any",
              conditions=RIPPLE)
        for j in range(2)
    ]  # fmt: skip
    lone = Probe("Alias?", ("Rome",), "portability", "alias")

    def record(met):
        before = [Observation(" France", met=met) for _ in wordings]
        after = [Observation(" Spain"), Observation(" Italia, of course")]
        items = [(edit, Observation(" Paris"), Observation(" Rome"), None)]
        items += [(p, b, a, None) for p, b, a in zip(wordings, before, after, strict=True)]
        return record_scores([*items, (lone, Observation("x"), Observation(" Rome"), None)])

    executed, not_executed = record(True), record(False)
    assert executed["gen.portability"] == [1.0, 1.0]  # the alias and the test
    assert executed["gen.portability:logical"] == [1.0]
    assert executed["gen.tests"] == executed["gen.tests.taken"] == [1.0]
    assert executed["gen.tests.exact"] == [0.0]  # "Italia, of course" is more than the name
    assert not_executed["gen.portability"] == [1.0]
    assert not_executed["gen.tests.executed"] == [0.0] and "gen.tests" not in not_executed


def test_a_preservation_test_is_judged_by_its_answers_and_by_sameness():
    probe = Probe("Mother?", ("Anne",), "locality", "same_subject", group="g", conditions=RIPPLE)
    found = record_scores([(probe, Observation(" Anne", met=True), Observation(" Eve"), None)])
    assert found["gen.locality"] == [0.0] and found["gen.tests:same_subject"] == [0.0]


def test_an_edit_that_did_not_take_is_left_out_of_the_papers_number():
    edit = Probe("S is in", ("Rome",), "efficacy", "rewrite")
    test = Probe("Land?", ("Italy",), "portability", "logical", group="g")
    items = [(edit, Observation("x"), Observation(" Oslo"), None),
             (test, Observation("x"), Observation(" Italy"), None)]  # fmt: skip
    found = record_scores(items)
    assert found["gen.tests"] == [1.0] and "gen.tests.taken" not in found


def test_other_judges_and_languages():
    text = Probe("Who?", ("A long answer.",), "efficacy", "rewrite", judge="overlap")
    assert not record_scores([(text, Observation("a"), Observation("b"), None)])
    kept = Probe("x?", ("y",), "locality", "other_object", judge="record")
    assert not record_scores([(kept, Observation("a"), Observation("a"), None)])
    zh = Probe("在?", ("罗马",), "generalization", "translation", language="zh")
    found = record_scores([(zh, Observation("巴黎"), Observation("罗马"), None)])
    assert found["gen.generalization@zh"] == found["gen.generalization"]
    assert "gen.generalization@zh:translation" in found


def test_observations_with_conditions_survive_json():
    for met in (True, False, None):
        seen = Observation("a", met=met)
        assert Observation.from_dict(seen.to_dict()) == seen
