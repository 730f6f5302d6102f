"""Positions by character offsets: methods.md §2.3, §2.4, §9; evaluation.md §1 T."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import Rewrite
from corrigenda.errors import EditError
from corrigenda.models.tokens import batch, pieces, separator, subject_last

from .tiny import tiny

FAMILIES = ("gpt2", "llama", "gemma2", "opt")  # with and without a BOS
words = st.text("abcdefghijklmnopqrstuvwxyzABCÄéß", min_size=1, max_size=8)


@pytest.mark.parametrize("family", FAMILIES)
@given(
    prompt=st.lists(words, min_size=1, max_size=5), target=st.lists(words, min_size=1, max_size=3)
)
def test_pieces_are_the_joint_tokenisation(
    family: str, prompt: list[str], target: list[str]
) -> None:
    tokenizer = tiny(family)[1]
    left, right = " ".join(prompt), " ".join(target)
    cut = pieces(tokenizer, left, right)
    assert list(cut.ids) == tokenizer(f"{left} {right}")["input_ids"]
    assert 0 <= cut.start < len(cut.ids)
    if not cut.boundary_merge:
        assert tokenizer.decode(cut.target).strip() == right
        assert tokenizer.bos_token_id is None or tokenizer.bos_token_id not in cut.target


def test_trailing_spaces_of_the_prompt_do_not_matter() -> None:
    tokenizer = tiny("gpt2")[1]
    assert pieces(tokenizer, "Rome is in ", "Italy") == pieces(tokenizer, "Rome is in", " Italy ")


def test_separator_follows_script_and_line_breaks() -> None:
    assert separator("Rome is in", "Italy") == " "
    assert separator("Answer:\n", "Italy") == ""
    assert separator("东京是", "日本") == ""
    assert separator("โตเกียวอยู่ใน", "ญี่ปุ่น") == ""


def test_an_empty_target_is_an_error() -> None:
    with pytest.raises(EditError, match="empty"):
        pieces(tiny("gpt2")[1], "Rome is in", "  ")


@pytest.mark.parametrize("family", FAMILIES)
@given(
    before=st.lists(words, max_size=3),
    subject=st.lists(words, min_size=1, max_size=3),
    after=st.lists(words, max_size=3),
)
def test_the_lookup_token_ends_with_the_subject(
    family: str, before: list[str], subject: list[str], after: list[str]
) -> None:
    tokenizer = tiny(family)[1]
    edit = Rewrite(" ".join([*before, "{}", *after]), " ".join(subject), "x")
    index = subject_last(tokenizer, edit.text, edit.subject_span)
    offsets = tokenizer(edit.text, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[index][0] < edit.subject_span[1] <= offsets[index][1]


def test_a_subject_that_occurs_twice_is_found_where_the_template_has_it() -> None:
    tokenizer = tiny("gpt2")[1]
    edit = Rewrite("Rome, the city of {}", "Rome", "x")
    last = subject_last(tokenizer, edit.text, edit.subject_span)
    assert last == len(tokenizer(edit.text)["input_ids"]) - 1


def test_no_token_of_its_own_is_an_error() -> None:
    with pytest.raises(EditError, match="no token"):
        subject_last(tiny("gpt2")[1], "Rome", (2, 2))


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["left", "right"]),
)
def test_padding_keeps_every_row(rows: list[list[int]], side: str) -> None:
    padded = batch(rows, 0, torch.device("cpu"), side)
    for r, row in enumerate(rows):
        at = int(padded.offset[r])
        assert padded.ids[r, at : at + len(row)].tolist() == row
        assert int(padded.mask[r].sum()) == len(row)
        assert padded.positions[r, at : at + len(row)].tolist() == list(range(len(row)))
