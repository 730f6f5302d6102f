"""The scope: decided edit by edit, whatever the order, and by whole names."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.benchmarks import load_cases
from corrigenda.blackbox.calibration import lessons, thresholds, trained
from corrigenda.blackbox.embedding import Ngrams
from corrigenda.blackbox.memory import EditMemory, Remembered
from corrigenda.blackbox.scope import Query, Retrieval
from corrigenda.edit import Rewrite
from corrigenda.errors import DataError, InputError, LedgerError
from corrigenda.ledger import Ledger

SUBJECTS = ("Paris", "Paris Hilton", "Rome", "New York", "York", "US", "Dell", "Zoë")
edits = st.lists(
    st.builds(
        Rewrite,
        st.sampled_from(["{} is in", "The language of {} is", "People in {} eat"]),
        st.sampled_from(SUBJECTS),
        st.sampled_from(["France", "Kenya", "bread"]),
    ),
    max_size=6,
)
texts = st.lists(
    st.sampled_from([*SUBJECTS, "is", "where", "the", "usual", "Parisian", "yorkshire", "."]),
    max_size=8,
).map(" ".join)


def numbered(found: list[Rewrite]) -> list[Remembered]:
    return [Remembered(j, edit) for j, edit in enumerate(found)]


@given(found=edits, text=texts, seed=st.integers(0, 99))
def test_the_order_of_the_memory_does_not_matter(
    found: list[Rewrite], text: str, seed: int
) -> None:
    memory = numbered(found)
    mixed = random.Random(seed).sample(memory, len(memory))
    assert Retrieval().select(Query(text), memory) == Retrieval().select(Query(text), mixed)


@given(found=edits, text=texts)
def test_only_mentioned_subjects_are_in_scope(found: list[Rewrite], text: str) -> None:
    for match in Retrieval().select(Query(text), numbered(found)):
        assert match.edit.edit.subject.casefold() in text.casefold()


@given(found=edits, text=texts, low=st.floats(0, 1), more=st.floats(0, 1))
def test_a_higher_threshold_only_takes_away(
    found: list[Rewrite], text: str, low: float, more: float
) -> None:
    memory = numbered(found)
    wide = Retrieval(low).select(Query(text), memory)
    narrow = Retrieval(min(1.0, low + more)).select(Query(text), memory)
    assert set(narrow) <= set(wide)


@given(text=st.text(max_size=60))
def test_an_empty_memory_finds_nothing(text: str) -> None:
    assert Retrieval().select(Query(text), []) == []


@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        ("Paris is in", ["Paris"]),
        ("Where does Paris Hilton live?", ["Paris Hilton"]),
        ("Paris Hilton went to Paris", ["Paris", "Paris Hilton"]),
        ("the parisian way", []),
        ("tell us more", []),
        ("the US way", ["US"]),
        ("new york is big", ["New York"]),
        ("New\nYork is big", ["New York"]),
    ],
)
def test_names_are_whole_words_and_longer_names_win(text: str, subjects: list[str]) -> None:
    memory = numbered([Rewrite("{} is in", subject, "Kenya") for subject in SUBJECTS])
    found = {match.edit.edit.subject for match in Retrieval().select(Query(text), memory)}
    assert found == set(subjects)


def test_an_alias_stands_for_its_subject() -> None:
    memory = [Remembered(1, Rewrite("{} was born in", "Gustav Klimt", "Rome"), ("Klimt",))]
    assert Retrieval().select(Query("Where was Klimt born?"), memory)


@given(first=st.text(max_size=40), second=st.text(max_size=40))
def test_a_texts_vector_does_not_depend_on_the_others(first: str, second: str) -> None:
    embedding = Ngrams()
    both, alone = embedding([first, second]), embedding([first])
    assert np.array_equal(both[0], alone[0])
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-4) or not alone.any()


# -- what the classifier learns ---------------------------------------------------------------


def test_a_classifier_keeps_other_facts_of_a_subject_out() -> None:
    found = lessons(load_cases("atlas", limit=120, seed=1))
    learned, held_out = found[:90], found[90:]
    classifier = trained(learned, steps=150)
    at = thresholds(learned, classifier.scores)
    assert at["inside"] >= 0.98
    assert at["other"] <= 0.2

    def share(texts: list[tuple[str, str]]) -> float:
        scores = [classifier.scores([asked], [told])[0, 0] for told, asked in texts]
        return float(np.mean([score >= at["threshold"] for score in scores]))

    relations = {one.relation for one in learned}
    new = [one for one in held_out if one.relation in relations]
    assert share([(one.told, text) for one in new for text in one.inside]) > 0.9
    assert share([(one.told, text) for one in new for text in one.other]) < 0.25


def test_a_classifier_of_one_relation_is_refused() -> None:
    cases = load_cases("atlas", limit=60, seed=1)
    one = cases[0].edit.relation
    with pytest.raises(DataError, match="several relations"):
        trained(lessons([case for case in cases if case.edit.relation == one]))


# -- the memory -------------------------------------------------------------------------------

TOWER = Rewrite("{} is located in the city of", "Eiffel Tower", "Rome")


def test_undone_edits_are_gone_in_any_order(tmp_path: Path) -> None:
    memory = EditMemory(Ledger.open(tmp_path / "m"))
    made = [memory.make([Rewrite("{} is in", name, "Kenya")]) for name in ("A b", "C d", "E f")]
    memory.undo(made[1])
    memory.undo(made[0])
    assert [one.edit.subject for one in memory.active()] == ["E f"]
    memory.redo(made[1])
    again = EditMemory(Ledger.open(tmp_path / "m"))
    assert [one.edit.subject for one in again.active()] == ["E f", "C d"]
    with pytest.raises(LedgerError):
        memory.undo(made[0])


def test_of_two_edits_of_one_fact_the_newer_counts(tmp_path: Path) -> None:
    memory = EditMemory(Ledger.open(tmp_path / "m"))
    memory.make([TOWER])
    newer = memory.make([Rewrite(TOWER.prompt, TOWER.subject, "Oslo")])
    assert [one.edit.target for one in memory.active()] == ["Oslo"]
    memory.undo(newer)
    assert [one.edit.target for one in memory.active()] == ["Rome"]


def test_edits_of_another_process_are_seen(tmp_path: Path) -> None:
    memory, other = (EditMemory(Ledger.open(tmp_path / "m")) for _ in range(2))
    assert memory.active() == ()
    other.make([TOWER])
    assert [one.edit for one in memory.active()] == [TOWER]


def test_a_memory_of_nothing_is_refused(tmp_path: Path) -> None:
    memory = EditMemory(Ledger.open(tmp_path / "m"))
    with pytest.raises(InputError, match="at least one"):
        memory.make([])
    with pytest.raises(InputError, match="once"):
        EditMemory(memory.ledger, fact="no place")
