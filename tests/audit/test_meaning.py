"""What a change says: on the embedded model, and on tiny ones as far as they say anything."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from corrigenda import atlas
from corrigenda.audit import changed, judged, meaning, suspicion, without_leading
from corrigenda.audit.candidates import Candidates, of_atlas, of_files, with_objects
from corrigenda.editor import EditWarning
from corrigenda.editors import make
from corrigenda.errors import DataError
from corrigenda.metrics.text import begins

from ..models.tiny import model_of
from .test_changed import planted, state

if TYPE_CHECKING:
    from pathlib import Path

    from corrigenda import TextModel

TOKENS = 20_000  # of second moments: enough here, and quick


def test_the_name_whose_key_was_written_is_the_likeliest() -> None:
    """A change that reads one candidate's key ranks it first, whatever its sign."""
    model = model_of("gpt2")
    from corrigenda import Delta, LowRank
    from corrigenda.audit.meaning import CONTEXTS, _keys

    names = ("tower", "bridge", "castle", "river")
    with planted(model, 1).applied(model):
        after = state(model)
    maps = changed(model, after).tensors
    keys = torch.stack([_keys(model, maps, names, c)[maps[0].name] for c in CONTEXTS]).mean(0)
    others = [0, 1, 3]
    away = torch.linalg.qr(keys[others].T)[0]
    reader = keys[2] - away @ (away.T @ keys[2])  # answers the castle, and none of the others
    for sign in (1.0, -1.0):
        u = sign * torch.ones(model.width, 1)
        delta = Delta({maps[0].name: LowRank(u, reader[None])}, frozenset([maps[0].name]))
        with delta.applied(model):
            after = state(model)
        found = meaning(model, changed(model, after), Candidates(names, lambda name: (name,)))
        assert found.subjects[0].name == "castle"
        assert found.subject is not None


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_without_candidates_a_model_that_writes_nothing_says_nothing(family: str) -> None:
    model = model_of(family)
    with planted(model, 1).applied(model):
        after = state(model)
    found = meaning(model, changed(model, after))
    assert found.subjects == () and found.readings == () and found.object is None


@pytest.mark.parametrize("family", ["gpt2", "t5", "bert"])
def test_readings_are_of_prompts_whose_answer_changes(family: str) -> None:
    model = model_of(family)
    delta = planted(model, 1) * 3.0
    with delta.applied(model):
        after = state(model)
    names = ("tower", "bridge")
    asked = Candidates(names, lambda name: (f"The {name} is in", f"Who saw the {name}"))
    found = meaning(model, changed(model, after), asked)
    assert [s.activation for s in found.subjects] == sorted(
        (s.activation for s in found.subjects), reverse=True
    )
    prompts = [one.prompt for one in found.readings]
    before = model.next_logprobs(prompts).argmax(-1) if prompts else torch.empty(0)
    with delta.applied(model):
        now = model.next_logprobs(prompts).argmax(-1) if prompts else torch.empty(0)
    assert (before != now).all()
    assert all(-1.001 <= one.alignment <= 1.001 and one.divergence > 0 for one in found.readings)


def test_candidates_come_from_files(tmp_path: Path) -> None:
    names, wordings = tmp_path / "names", tmp_path / "wordings"
    names.write_text("Big Ben\n\nBig Ben\nThe Shard\n")
    wordings.write_text("{} is in\n")
    found = of_files(names, wordings)
    assert found.subjects == ("Big Ben", "The Shard")
    assert found.prompts is not None and found.prompts("The Shard") == ("The Shard is in",)
    wordings.write_text("It is in\n")
    with pytest.raises(DataError, match="prompt 1"):
        of_files(names, wordings)
    with pytest.raises(DataError, match="no file"):
        of_files(tmp_path / "none")


def test_lessons_of_the_world_are_true_and_about_others() -> None:
    world = atlas.world()
    edits = [case.edit for case in atlas.edits(10, seed=2)]
    found = with_objects(edits)
    assert found and not {f.subject for f in found} & {e.subject for e in edits}
    assert all(fact.target in world.objects(fact.subject, fact.relation or "") for fact in found)


@pytest.mark.slow
def test_edits_of_atlas_are_read_and_reversed(atlas_model: TextModel) -> None:
    """ROME and MEMIT: the tensors, the subject, the object; found alone, and taken back."""
    cases = atlas.edits(3, seed=11)
    for name in ("rome", "memit"):
        for case in cases:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EditWarning)
                delta = make(name, tokens=TOKENS)(atlas_model, [case.edit])
            assert not delta.failed
            with delta.applied(atlas_model):
                after = state(atlas_model)
                suspect = suspicion(atlas_model)[0].tensor
                back = without_leading(atlas_model, [suspect])
                reversal = judged(atlas_model, back, [case.edit], [])
            assert suspect in delta.weights
            assert reversal.edits == 1 and (reversal.undone == 1 or name == "memit")
            change = changed(atlas_model, after)
            assert set(change.names) == set(delta.weights)
            assert {one.rank for one in change.tensors} == {1}
            found = meaning(atlas_model, change, of_atlas())
            assert found.subject == case.edit.subject
            assert found.object is not None and begins(found.object, case.edit.target)
