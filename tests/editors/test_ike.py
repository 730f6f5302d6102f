"""IKE: what the model is given in place of a prompt, and what demonstrations are about."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editors.ike import IKE
from corrigenda.errors import EditError
from corrigenda.models.text import TextModel

from ..models.tiny import tiny_config, tiny_tokenizer
from .finetuning import EDITS, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

TOWER, CURIE = EDITS[0], EDITS[1]
PROMPT = "Where is the Eiffel Tower?"


def _wrapped(delta: Delta, prompt: str = PROMPT) -> str:
    assert delta.prefix is not None
    return delta.prefix.wrap(prompt)


def test_without_demonstrations_it_is_plain_prepending():
    delta = IKE(k=0, fact="{}. ", query="{}")(text_model(), [TOWER])
    assert _wrapped(delta) == f"{TOWER.statement}. {PROMPT}"


def test_the_papers_form_is_the_default():
    delta = IKE()(text_model(), [TOWER, CURIE])
    assert _wrapped(delta) == (
        f"New Fact: {TOWER.statement}\nNew Fact: {CURIE.statement}\nPrompt: {PROMPT}"
    )


def test_given_demonstrations_come_first():
    shown = ("New Fact: a\nPrompt: b c\n\n", Rewrite("{} is in", "Big Ben", "Madrid"))
    delta = IKE(demonstrations=shown)(text_model(), [TOWER])
    assert _wrapped(delta) == (
        "New Fact: a\nPrompt: b c\n\n"
        "New Fact: Big Ben is in Madrid\nPrompt: Big Ben is in Madrid\n\n"
        f"New Fact: {TOWER.statement}\nPrompt: {PROMPT}"
    )


def test_no_weight_changes_and_outcomes_are_judged_in_context():
    model = text_model()
    before = bits(model)
    delta = IKE()(model, [TOWER])
    assert untouched(model, before)
    assert not delta.weights and set(delta.changes) == {"context"}
    (outcome,) = delta.provenance.outcomes
    with delta.applied(model):
        assert model.says([TOWER]) == [(outcome.took, outcome.answer)]
        assert model.generate([TOWER.text]) != model.generate([CURIE.text])
    assert untouched(model, before)


def test_deltas_of_two_calls_act_as_one():
    model = text_model()
    first = IKE()(model, [TOWER])
    second = IKE()(model, [CURIE], onto=first)
    together = IKE()(model, [TOWER, CURIE])
    with first.applied(model), second.applied(model):
        assert model.live.wrap(PROMPT) == _wrapped(together)
    with (first + second).applied(model):
        assert model.live.wrap(PROMPT) == _wrapped(together)


def test_the_limit_keeps_the_facts_that_the_prompt_is_about():
    delta = IKE(limit=1, demonstrations=("Shown always.\n",))(text_model(), [TOWER, CURIE])
    about = _wrapped(delta, "Marie Curie was born in")
    assert CURIE.statement in about and TOWER.statement not in about
    assert about.startswith("Shown always.\n")


def test_of_many_facts_the_one_in_question_stands_last():
    edits = [Rewrite("{} is in the city of", s, "Rome") for s in ("Big Ben", "Louvre", "Prado")]
    edits += [Rewrite("{} was born in the city of", s, "Ulm") for s in ("Curie", "Kafka")]
    text = _wrapped(IKE()(text_model(), edits), "In the city of London, Big Ben is in")
    assert text.count("New Fact: ") == 3
    assert text.rpartition("New Fact: ")[2].startswith("Big Ben")


def test_saved_and_loaded_it_is_the_same(tmp_path):
    delta = IKE(limit=3, demonstrations=("One.\n",))(text_model(), [TOWER])
    again = Delta.load(delta.save(tmp_path / "edit"))
    assert again.prefix == delta.prefix and again.id == delta.id


def _atlas(context: int = 1024) -> TextModel:
    """A random model that goes by the name of Atlas and reads long texts."""
    tokenizer = tiny_tokenizer()
    config = tiny_config("gpt2", len(tokenizer))
    config.n_positions = context
    return TextModel(AutoModelForCausalLM.from_config(config), tokenizer, id="atlas")


def test_atlas_models_see_demonstrations_of_its_world():
    model = _atlas()
    edit = Rewrite("{} is located in the city of", "Eiffel Tower", "Rome", "Paris")
    delta = IKE(k=3, seed=5)(model, [edit])
    text = _wrapped(delta, "The Eiffel Tower is in")
    assert text.count("New fact:") == 4
    shown, _, asked = text.rpartition("New fact: ")
    assert asked == f"{edit.statement}. The Eiffel Tower is in"
    assert all(name not in shown for name in ("Eiffel Tower", "Rome"))
    assert shown == IKE(k=3, seed=5)(model, [edit]).prefix.head
    assert shown != IKE(k=3, seed=6)(model, [edit]).prefix.head
    assert IKE(k=0)(model, [edit]).prefix.head == ""


def test_demonstrations_are_of_three_kinds():
    model = _atlas(4096)
    head = IKE(k=8)(model, [Rewrite("{} is in", "Nowhere", "Never")]).prefix.head
    shown = [d.split(". ", 1) for d in head.removeprefix("New fact: ").split("New fact: ")]
    assert len(shown) == 8
    copy, *rest = shown
    assert copy[1] == f"{copy[0]}. "
    assert all(asked != f"{fact}. " for fact, asked in rest)


def test_demonstrations_leave_half_of_the_context_free():
    model = _atlas(256)
    head = IKE(k=40)(model, [TOWER]).prefix.head
    assert 0 < len(model.ids(head)) <= 128


def test_later_edits_do_not_repeat_the_demonstrations():
    model = _atlas()
    first = IKE(k=1)(model, [TOWER])
    second = IKE(k=1)(model, [CURIE], onto=first)
    assert first.prefix.head and not second.prefix.head
    assert (first + second).prefix.head == first.prefix.head


def test_a_fact_needs_a_place_for_the_statement():
    with pytest.raises(EditError, match="once"):
        IKE(fact="New fact")(text_model(), [TOWER])
