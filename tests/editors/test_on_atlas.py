"""Every editor on the embedded model: edits take, and little else moves (methods.md §10, point 6).

Bounds are far below what docs/results.md reports, so that they fail for a fault and not for noise.
"""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from corrigenda import atlas
from corrigenda.edit import Case, Rewrite
from corrigenda.editor import Editor, EditWarning
from corrigenda.editors import ROME, TABLE, AlphaEdit, editor_class, make
from corrigenda.evaluate import evaluate

if TYPE_CHECKING:
    from corrigenda import TextModel

pytestmark = pytest.mark.slow

TOKENS = 20_000  # of second moments: enough here, and quick
REWRITERS = [name for name in sorted(TABLE) if editor_class(name).takes is Rewrite]
N = 10
BOUNDS = {
    # Efficacy and locality by free generation that are asked of a method; (0.5, 0.4) of the others.
    "kn": (0.2, 0.4),  # a few neurons seldom hold a whole fact: half of the edits take
    "prune": (0.2, 0.4),  # Atlas's changes are larger than the singular values that it allows
    "task-vector": (0.5, 0.1),  # ten edits move all maps of all blocks
    "ultraedit": (0.5, 0.3),
}
SLOW = ("context-distillation", "core", "wise")
"""Methods that are asked for four edits only."""
UNABLE = {"mello": "Atlas was trained on facts, not on dialogues, and does not follow the protocol"}
"""Methods whose answers Atlas cannot give; what they do with a model that can is tested by file."""


def known(model: TextModel, n: int) -> list[Case]:
    cases = atlas.edits(2 * n, seed=1)
    truths = [
        Rewrite(c.edit.prompt, c.edit.subject, c.edit.target_true or c.edit.target) for c in cases
    ]
    return [c for c, (ok, _) in zip(cases, model.says(truths), strict=True) if ok][:n]


@pytest.fixture(scope="session")
def cases(atlas_model: TextModel) -> list[Case]:
    found = known(atlas_model, N)
    assert len(found) == N, "the embedded model knows its world"
    return found


def quick(name: str) -> Editor:
    """The method with as few tokens of second moments as the others here."""
    known = {field.name for field in fields(editor_class(name))}
    if "tokens" in known and "statistics" in known and name != "ultraedit":
        return make(name, tokens=TOKENS)
    if "settings" in known:
        return make(name, settings={"tokens": TOKENS})
    return make(name)


@pytest.mark.parametrize("name", [name for name in REWRITERS if name not in UNABLE])
def test_edits_take_and_little_else_moves(
    name: str, atlas_model: TextModel, cases: list[Case]
) -> None:
    editor = quick(name)
    edits = [c.edit for c in cases]
    assert not any(ok for ok, _ in atlas_model.says(edits)), "unedited: none"
    mode = "batch" if type(editor).batches and name != "ft-l" else "single"
    some = cases[:4] if name in SLOW else cases if mode == "batch" else cases[:6]
    report = evaluate(atlas_model, editor, some, mode=mode)
    scores = {k: s.value for k, s in report.scores.items()}
    efficacy, locality = BOUNDS.get(name, (0.5, 0.4))
    assert scores["gen.efficacy"] >= efficacy
    assert scores["gen.locality"] >= locality
    assert not atlas_model.live.touched


def test_a_sequence_keeps_its_first_edits(atlas_model: TextModel, cases: list[Case]) -> None:
    editor = AlphaEdit(tokens=TOKENS)
    total = None
    for case in cases[:8]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)
            delta = editor(atlas_model, [case.edit], onto=total)
        total = delta if total is None else total + delta
    assert total is not None
    with total.applied(atlas_model):
        right = [ok for ok, _ in atlas_model.says([c.edit for c in cases[:8]])]
    assert sum(right) >= 6


def test_the_demo_edit(atlas_model: TextModel) -> None:
    case = atlas.demo_case()
    assert atlas_model.generate([case.edit.text])[0].startswith(" Paris")
    delta = ROME(tokens=TOKENS)(atlas_model, [case.edit])
    assert not delta.failed
    with delta.applied(atlas_model):
        assert atlas_model.generate([case.edit.text])[0].startswith(" Rome")
    assert atlas_model.generate([case.edit.text])[0].startswith(" Paris")
