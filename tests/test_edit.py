"""Edits: what is refused, and that every kind survives JSON lines."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import (
    Case,
    Concept,
    Condition,
    Contrast,
    Probe,
    Rewrite,
    edit_from,
    read_edits,
)
from corrigenda.errors import DataError, EditError

WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(
    lambda text: text.strip() and "{}" not in text
)


@given(subject=WORDS, target=WORDS, before=st.sampled_from(["{} is in", "In {},"]))
def test_a_rewrite_survives_json(subject: str, target: str, before: str) -> None:
    edit = Rewrite(before, subject, target)
    assert edit_from(json.loads(json.dumps(edit.to_dict()))) == edit


@given(subject=WORDS, target=WORDS, prompt=st.sampled_from(["", "The city of"]))
def test_an_object_may_come_first(subject: str, target: str, prompt: str) -> None:
    edit = Rewrite(prompt, subject, target, after="is where {} stands")
    assert edit_from(edit.to_dict()) == edit
    assert edit.following == f"is where {edit.subject} stands"
    assert edit.statement.endswith(edit.following) and edit.target in edit.statement
    with pytest.raises(EditError, match="stands after the object"):
        _ = edit.subject_span


def test_an_empty_prompt_needs_something_after_the_object() -> None:
    with pytest.raises(EditError, match="no prompt"):
        Rewrite("", "Rome", "Italy")


@pytest.mark.parametrize(
    "edit",
    [
        Contrast(" Love", " Hate", "I feel"),
        Concept("language", ("Guten Tag", "Good day"), ("de", "en")),
    ],
)
def test_other_kinds_survive_json(edit: Contrast | Concept) -> None:
    assert edit_from(json.loads(json.dumps(edit.to_dict()))) == edit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Contrast("a", "a"), "must differ"),
        (lambda: Contrast("", "b"), "two texts"),
        (lambda: Concept("x", ("a", "b"), ("1",)), "one label per text"),
        (lambda: Concept("x", ("a", "b"), ("1", "1")), "at least two"),
        (lambda: Concept("x", ("a", " "), ("1", "2")), "empty text"),
        (lambda: edit_from({"positive": "a"}), "incomplete"),
        (lambda: edit_from({"prompt": "{} is"}), "lacks subject, target"),
    ],
)
def test_what_is_malformed_is_refused(make, message: str) -> None:
    with pytest.raises(EditError, match=message):
        make()


def test_a_file_of_another_kind_names_its_line() -> None:
    lines = io.StringIO('{"positive": " a", "negative": " b"}\n')
    with pytest.raises(DataError, match="line 1: a Contrast, where Rewrite edits are taken"):
        list(read_edits(lines, Rewrite))


PROBES = st.builds(
    Probe,
    prompt=WORDS,
    answers=st.lists(WORDS, min_size=1, max_size=2).map(tuple),
    axis=st.sampled_from(["efficacy", "generalization", "locality", "portability"]),
    kind=WORDS,
    foil=st.none() | WORDS,
    group=st.sampled_from(["", "a"]),
    require=st.sampled_from(["all", "any"]),
    conditions=st.lists(
        st.builds(Condition, WORDS, st.lists(WORDS, min_size=1, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    judge=st.sampled_from(["contains", "overlap", "safety", "trait", "record"]),
    language=st.sampled_from(["", "zh"]),
)
EDITS = st.builds(Rewrite, st.just("{} is in"), WORDS, WORDS) | st.builds(
    Contrast, st.just(" Love"), st.just(" Hate"), WORDS
)


@given(
    st.builds(
        Case,
        edit=EDITS,
        probes=st.lists(PROBES, max_size=3).map(tuple),
        id=WORDS,
        also=st.lists(EDITS, max_size=2).map(tuple),
        in_turn=st.booleans(),
    )
)
def test_a_case_survives_json(case: Case) -> None:
    again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
    assert again == (case if case.also else Case(case.edit, case.probes, case.id))
    assert again.edits == (case.edit, *case.also)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"require": "some"}, "require is one of all, any"),
        ({"judge": "me"}, "judge is one of contains"),
        ({"conditions": [{"prompt": "x", "answers": []}]}, "at least one answer"),
        ({"colour": "red"}, "no probe"),
    ],
)
def test_probes_that_are_none(more: dict, message: str) -> None:
    row = {"prompt": "x", "answers": ["y"], "axis": "efficacy", "kind": "z"}
    with pytest.raises(EditError, match=message):
        Probe.from_dict(row | more)


def test_a_case_of_another_kind_is_no_fact() -> None:
    fact = Rewrite("{} is in", "A", "B")
    assert Case(fact).rewrite == fact
    with pytest.raises(EditError, match="opinions asks for a contrast"):
        _ = Case(Contrast("a", "b"), source="opinions").rewrite
