"""Consolidation: both forms are measured on the same cases, and the better one is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from corrigenda import Case, Delta, Rewrite, TextModel
from corrigenda.benchmarks import load_cases
from corrigenda.blackbox.consolidate import Consolidated, InContext, consolidated, wording_for
from corrigenda.blackbox.memory import EditMemory
from corrigenda.blackbox.prompting import Telling
from corrigenda.blackbox.scope import Retrieval
from corrigenda.editor import Editor, Solution
from corrigenda.editors import make
from corrigenda.errors import EditError, InputError
from corrigenda.ledger import Ledger


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found = []
    for case in load_cases("atlas", limit=3, seed=0):
        kept = [p for axis in ("efficacy", "generalization") for p in case.on(axis)[:2]]
        found.append(Case(case.edit, (*kept, *case.on("locality")[:4])))
    return found


@pytest.fixture
def memory(tmp_path: Path, cases: list[Case], atlas_model: TextModel) -> EditMemory:
    made = EditMemory(Ledger.open(tmp_path / "memory"), fact=wording_for(atlas_model))
    made.make([case.edit for case in cases])
    return made


def both(
    model: TextModel, memory: EditMemory, editor: Editor, cases: Sequence[Case], fact: str = ""
) -> Consolidated:
    telling = Telling(fact=fact or wording_for(model))
    return consolidated(
        model,
        memory,
        editor,
        scope=Retrieval(),
        telling=telling,
        known=cases,
        max_new_tokens=8,
    )


@dataclass(frozen=True)
class Idle(Editor):
    """Changes nothing, or fails."""

    fails: bool = False
    name: ClassVar[str] = "idle"
    title: ClassVar[str] = "Idle"
    paper: ClassVar[str] = ""
    family: ClassVar[str] = "fine-tuning"

    def solve(self, model: TextModel, edits: Sequence[Any], onto: Delta | None) -> Solution:
        if self.fails:
            raise EditError("It cannot be done.")
        return Solution({})


def test_weights_that_learned_nothing_are_not_kept(
    atlas_model: TextModel, memory: EditMemory, cases: list[Case]
) -> None:
    found = both(atlas_model, memory, Idle(), cases)
    assert found.kept == "context"
    assert found.difference is not None
    assert found.difference[2] < 0  # the interval excludes 0
    weights, context = found.scores["weights"], found.scores["context"]
    assert weights["efficacy"].passed == 0
    assert weights["locality"].passed == weights["locality"].asked  # nothing was changed
    assert context["efficacy"].passed == len(cases)
    assert found.failed == len(cases)
    assert found.delta.context is not None


def test_weights_are_kept_where_the_context_says_nothing_that_is_read(
    atlas_model: TextModel, memory: EditMemory, cases: list[Case]
) -> None:
    """Told behind nonsense, no edit is understood; the same edits in weights are better."""
    found = both(atlas_model, memory, make("ft-m"), cases, fact="Zq zq {} zq. Forget that. ")
    means = {
        form: sum(s.passed / s.asked for s in scores.values())
        for form, scores in found.scores.items()
    }
    assert found.difference is not None
    assert found.kept == ("weights" if found.difference[0] >= 0 else "context")
    assert means["weights"] > means["context"]
    assert found.kept == "weights"
    assert found.delta.context is None
    with found.delta.applied(atlas_model):
        assert all(ok for ok, _ in atlas_model.says([case.edit for case in cases]))


def test_an_editor_that_fails_leaves_the_texts(
    atlas_model: TextModel, memory: EditMemory, cases: list[Case]
) -> None:
    found = both(atlas_model, memory, Idle(fails=True), cases)
    assert (found.kept, set(found.scores)) == ("context", {"context"})
    assert "It cannot be done" in found.markdown()


def test_a_report_and_a_delta_are_written_together(
    atlas_model: TextModel, memory: EditMemory, cases: list[Case], tmp_path: Path
) -> None:
    found = both(atlas_model, memory, Idle(), cases)
    found.write(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["delta"] == Delta.load(tmp_path / "out" / "delta").id
    for form in ("context", "weights"):
        for row in written["scores"][form].values():
            assert row["low"] <= row["share"] <= row["high"]
    assert "| efficacy |" in (tmp_path / "out" / "report.md").read_text()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "delta",
        "report.json",
        "report.md",
    ]


def test_questions_follow_from_the_edit_where_no_data_has_it(
    atlas_model: TextModel, memory: EditMemory
) -> None:
    found = both(atlas_model, memory, Idle(fails=True), [])
    assert found.scores["context"]["locality"].asked > 0
    assert any("Atlas" in note for note in found.notes)


def test_undone_edits_are_not_consolidated(
    atlas_model: TextModel, memory: EditMemory, cases: list[Case]
) -> None:
    memory.undo(memory.ledger.active()[0])
    with pytest.raises(InputError, match="no active edit"):
        both(atlas_model, memory, Idle(), cases)


def test_a_prompt_about_no_edit_is_read_as_it_is(
    atlas_model: TextModel, memory: EditMemory
) -> None:
    reader = InContext(atlas_model, memory.active(), Retrieval(), Telling())
    assert reader.given("Two plus two is") == "Two plus two is"
    edit: Rewrite = memory.active()[0].edit
    assert reader.given(edit.text) == f"{edit.statement}. {edit.text}"
