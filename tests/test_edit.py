"""Edits: what is refused, and that every kind survives JSON lines."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import Concept, Contrast, Rewrite, edit_from, read_edits
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
