"""Cases of several edits, tests with conditions, and other kinds of edits, in the one loop."""

from __future__ import annotations

import json

import pytest
import torch

from corrigenda.edit import Case, Condition, Contrast, Probe, Rewrite
from corrigenda.errors import InputError
from corrigenda.evaluate import evaluate
from corrigenda.report import Report
from tests.lookup_model import WEIGHT, Flip, LookupModel, case


@pytest.fixture
def model() -> LookupModel:
    return LookupModel()


class OneByOne(Flip):
    """Takes one edit per call, and keeps what it was called with."""

    name = "one-by-one"
    batches = False

    def __call__(self, model, edits, onto=None):
        assert len(edits) == 1
        CALLS.append((edits[0].subject, edits[0].target, onto is not None))
        return super().__call__(model, edits, onto)


CALLS: list[tuple[str, str, bool]] = []


def chain(*targets: str, in_turn: bool = False) -> Case:
    """S0, S1, ... get these targets; or, in turn, S0 gets all of them."""
    subjects = ["S0" if in_turn else f"S{j}" for j in range(len(targets))]
    edits = [Rewrite("{} is in", s, t, "Paris") for s, t in zip(subjects, targets, strict=True)]
    made = edits[-1:] if in_turn else edits
    probes = [Probe(e.text, (e.target,), "efficacy", "rewrite", group="edits") for e in made]
    return Case(edits[0], tuple(probes), "chain", "lookup", also=tuple(edits[1:]), in_turn=in_turn)


def test_the_edits_of_a_case_are_made_together(model):
    report = evaluate(model, Flip(), [chain("Rome", "Oslo")])
    assert report.scores["gen.efficacy"].value == 1.0
    assert report.scores["gen.tests:rewrite"].value == 1.0  # both at once
    (row,) = report.rows
    assert (row["took"], row["answer"]) == (True, "Rome · Oslo")
    assert [edit["target"] for edit in row["also"]] == ["Oslo"]


def test_the_page_of_a_report_shows_all_edits_of_a_case(model):
    class Refusing(Flip):
        name = "refusing"

        def __call__(self, model, edits, onto=None):
            raise InputError("no")

    page = evaluate(model, Refusing(), [chain("Rome", "Oslo")]).to_html()
    assert "S0 is in → Rome; S1 is in → Oslo" in page


def test_an_editor_of_one_fact_makes_them_one_after_the_other(model):
    CALLS.clear()
    report = evaluate(model, OneByOne(), [chain("Rome", "Oslo")])
    assert CALLS == [("S0", "Rome", False), ("S1", "Oslo", True)]
    assert report.scores["gen.efficacy"].value == 1.0
    assert torch.equal(model.module.head.weight[1:], torch.zeros(3, 16))  # all is undone


def test_edits_in_turn_are_made_on_top_of_each_other(model):
    class Stronger(Flip):
        name = "stronger"

        def __call__(self, model, edits, onto=None):
            return Flip(20.0 if onto is not None else 10.0)(model, edits, onto)

    CALLS.clear()
    report = evaluate(model, Stronger(), [chain("Rome", "Oslo", in_turn=True)])
    assert report.scores["gen.efficacy"].value == 1.0  # the last one is asked for
    reversed_order = evaluate(model, Stronger(), [chain("Oslo", "Rome", in_turn=True)])
    assert reversed_order.scores["gen.efficacy"].value == 1.0


def test_in_a_batch_the_first_edits_of_all_cases_come_first(model):
    order: list[list[str]] = []

    class Watched(Flip):
        name = "watched"

        def __call__(self, model, edits, onto=None):
            order.append([edit.target for edit in edits])
            return super().__call__(model, edits, onto)

    def moved(number: int) -> Case:
        edits = [Rewrite("{} is in", f"S{number}", t) for t in ("Rome", "Oslo")]
        return Case(edits[0], (), str(number), also=(edits[1],), in_turn=True)

    evaluate(model, Watched(), [moved(1), moved(2)], mode="batch")
    assert order == [["Rome", "Rome"], ["Oslo", "Oslo"]]


def test_a_case_that_leaves_a_fact_otherwise_than_an_earlier_one_is_left_out_of_a_batch(model):
    other = Case(
        Rewrite("{} is in", "S5", "Lima"), id="x", also=(Rewrite("{} is in", "S1", "Rome"),)
    )
    report = evaluate(model, Flip(), [chain("Rome", "Oslo"), other], mode="batch")
    assert len(report.rows) == 1
    assert any("contradict" in note for note in report.environment["notes"])


def test_conditions_are_asked_of_the_unedited_model(model):
    """S0's edit changes the answer of the condition, but not whether it was known before."""
    known = Condition("S0 is in", ("Paris",))
    unknown = Condition("S3 is in", ("Rome",))
    edit = Rewrite("{} is in", "S0", "Rome", "Paris")
    tests = [
        Probe("Where is S0?", ("Rome",), "portability", "logical", group="a", conditions=(known,)),
        Probe("Seek S0 in", ("Oslo",), "portability", "logical", group="b", conditions=(unknown,)),
    ]
    own = Probe(edit.text, ("Rome",), "efficacy", "rewrite")
    report = evaluate(model, Flip(), [Case(edit, (own, *tests))])
    assert report.scores["gen.tests"].value == 1.0
    assert report.scores["gen.tests.taken"].value == 1.0
    assert report.scores["gen.tests.executed"].value == 0.5
    assert report.scores["gen.portability"].n_prompts == 1
    assert report.unedited["gen.tests"].value == 0.0
    again = Report.from_json(report.to_json())
    assert again.scores == report.scores and again.rows == report.rows
    assert Report.build(again.rows, again.environment).scores == report.scores


def test_ordinary_probes_are_stored_as_they_always_were(model):
    (row,) = evaluate(model, Flip(), [case(0)]).rows
    assert row["probes"][0]["probe"].keys() == {
        "prompt", "answers", "axis", "kind", "foil", "held_out"
    }  # fmt: skip
    assert "also" not in row and "met" not in row["probes"][0]["before"]
    json.dumps(row, allow_nan=False)


def test_cases_that_ask_for_another_kind_of_edit_are_refused_at_once(model):
    class Facts(Flip):
        name = "facts"
        takes = Rewrite

    opinion = Case(Contrast(" Rome", " Oslo", "S0 is in"), source="opinions")
    with pytest.raises(InputError, match=r"facts takes Rewrite edits.*opinions ask for a Contrast"):
        evaluate(model, Facts(), [case(0), opinion])


def test_what_no_answer_contains_cannot_be_followed_through_a_sequence(model):
    edit = Rewrite("{} is in", "S0", "Rome")
    text = Case(edit, (Probe(edit.text, ("Rome",), "efficacy", "rewrite", judge="overlap"),))
    with pytest.raises(InputError, match="single or batch"):
        evaluate(model, Flip(), [text], mode="sequential")
    report = evaluate(model, Flip(), [text])
    assert "gen.efficacy" not in report.scores and report.scores["tf.efficacy"].value == 1.0
    assert model.live.pristine(WEIGHT)[1:].abs().sum() == 0
