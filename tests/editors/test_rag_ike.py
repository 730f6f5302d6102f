"""IKE with retrieval: which facts a prompt is shown, and which prompts are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corrigenda.context import Retrieval
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editors.rag_ike import RAGIKE
from corrigenda.errors import DeltaError, EditError, ModelError

from .finetuning import EDITS, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

TOWER, CURIE, PHONE = EDITS
AWAY = "Berlin is the capital of"


def retrieval(delta: Delta) -> Retrieval:
    assert isinstance(delta.context, Retrieval)
    return delta.context


def test_the_nearest_facts_are_shown_the_nearest_last() -> None:
    model = text_model()
    delta = RAGIKE(limit=2)(model, EDITS)
    with delta.applied(model):
        text = model.live.wrap(CURIE.text)
    cosines = model.embed([e.text for e in EDITS]) @ model.embed([CURIE.text])[0]
    *_, second, nearest = cosines.argsort().tolist()
    assert nearest == 1
    shown = f"New Fact: {EDITS[second].statement}\nNew Fact: {CURIE.statement}\n"
    assert text == f"{shown}Prompt: {CURIE.text}"


def test_a_prompt_near_no_fact_is_left_as_it_is() -> None:
    model = text_model()
    before, plain = bits(model), model.next_logprobs([AWAY])
    delta = RAGIKE(least=0.99)(model, EDITS)
    assert untouched(model, before)
    with delta.applied(model):
        assert model.live.wrap(AWAY) == AWAY
        assert torch.equal(model.next_logprobs([AWAY]), plain)
        assert model.live.wrap(TOWER.text).endswith(f"{TOWER.statement}\nPrompt: {TOWER.text}")


def test_two_calls_act_as_one_and_are_undone_in_any_order() -> None:
    model = text_model()
    first, second = RAGIKE()(model, [TOWER]), RAGIKE()(model, [CURIE, PHONE])
    together = RAGIKE()(model, EDITS)
    a, _ = model.live.push(first), model.live.push(second)
    with together.applied(text_model()) as other:
        assert model.live.wrap(AWAY) == other.live.wrap(AWAY)
    model.live.pop(a)
    with second.applied(text_model()) as other:
        assert model.live.wrap(AWAY) == other.live.wrap(AWAY)
    model.live.clear()
    assert retrieval(first + second).passages == retrieval(together).passages


def test_of_two_edits_of_one_fact_the_newer_is_shown() -> None:
    model = text_model()
    again = Rewrite(TOWER.prompt, TOWER.subject, "Madrid")
    with (
        RAGIKE(limit=1)(model, [TOWER]).applied(model),
        RAGIKE(limit=1)(model, [again]).applied(model),
    ):
        assert again.statement in model.live.wrap(TOWER.text)
        assert TOWER.statement not in model.live.wrap(TOWER.text)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = text_model()
    delta = RAGIKE(least=0.5, demonstrations=("Shown.\n",))(model, EDITS)
    again = Delta.load(delta.save(tmp_path / "edit"))
    assert again.id == delta.id and retrieval(again).like(retrieval(delta))
    with delta.applied(model):
        wrapped = model.live.wrap(TOWER.text)
    with again.applied(model):
        assert model.live.wrap(TOWER.text) == wrapped
    assert wrapped.startswith("Shown.\n")


def test_the_index_does_not_move_when_the_model_is_edited() -> None:
    model = text_model()
    plain = retrieval(RAGIKE()(model, [CURIE])).keys
    with RAGIKE()(model, [TOWER]).applied(model):
        assert torch.equal(retrieval(RAGIKE()(model, [CURIE])).keys, plain)


def test_what_cannot_be_is_refused() -> None:
    model = text_model()
    with pytest.raises(EditError, match="once"):
        RAGIKE(fact="New fact")(model, [TOWER])
    with pytest.raises(DeltaError, match="one key"):
        Retrieval(("a", "b"), torch.zeros(1, 3))
    one = Retrieval(("a",), torch.zeros(1, 3))
    with pytest.raises(DeltaError, match="different ways"):
        one.plus(Retrieval(("a",), torch.zeros(1, 3), limit=2))


def test_a_missing_sentence_encoder_is_named() -> None:
    with pytest.raises(ModelError, match="sentence-transformers"):
        RAGIKE(encoder="no-such-encoder")(text_model(), [TOWER])
