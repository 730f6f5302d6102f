"""Knowledge neurons: which are chosen, what is written into them, and what that does."""

from __future__ import annotations

import warnings

import pytest
import torch

from corrigenda.delta import Delta, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors.kn import KN, _parting
from corrigenda.locate import attribute, question
from corrigenda.models.text import TextModel

from ..models.tiny import tiny
from .finetuning import as_linear, assert_same_changes, bits, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Madrid")
OTHER = Rewrite("{} was born in", "Marie Curie", "Berlin")
PARAPHRASES = ("In what city is {}? It is in", "Question: Where is {}? Answer:")
FAST = {"steps": 5, "prefixes": ((3, 3),)}


def text_model(family: str = "gpt2", seed: int = 0) -> TextModel:
    return TextModel.of(*tiny(family, seed), family)


def chosen(delta: Delta, model: TextModel) -> dict[int, list[int]]:
    """The neurons of each layer whose columns change."""
    found = {}
    for layer in range(model.n_layers):
        change = delta.changes.get(model.site("down", layer).parameter)
        if isinstance(change, LowRank):
            found[layer] = change.v.argmax(1).tolist()
    return found


def p(model: TextModel, asked) -> float:
    with torch.no_grad():
        logits = model.target_logits(model.force([asked]))
    return float(logits[0].softmax(-1)[asked.wanted[0]])


# -- which neurons ----------------------------------------------------------------------------


def test_refinement_counts_prompts():
    """With one prompt and share 0, the coarse set of that prompt; more prompts leave fewer."""
    model = text_model()
    editor = KN(steps=5, prefixes=(), threshold=0.3, share=0.0)
    delta = editor(model, [EDIT])
    fact = _parting(model, EDIT.text, EDIT)
    scores = attribute(model, [fact.of_answer], steps=5).scores[0]
    coarse = scores > 0.3 * scores.max()
    expected = {j: row.nonzero()[:, 0].tolist() for j, row in enumerate(coarse) if row.any()}
    assert chosen(delta, model) == expected

    prompts = [EDIT.text, *(t.replace("{}", EDIT.subject) for t in PARAPHRASES)]
    counts = torch.zeros_like(coarse, dtype=torch.long)
    for text in prompts:
        one = attribute(model, [_parting(model, text, EDIT).of_answer], steps=5).scores[0]
        counts += one > 0.3 * one.max()
    for share, least in ((0.0, 1), (0.5, 2), (0.9, 3)):
        refined = KN(steps=5, paraphrases=PARAPHRASES, threshold=0.3, share=share)(model, [EDIT])
        kept = counts >= least
        assert chosen(refined, model) == {
            j: row.nonzero()[:, 0].tolist() for j, row in enumerate(kept) if row.any()
        }


def test_neurons_of_other_facts_are_left_alone():
    model = text_model()
    free = KN(**FAST, share=0.0)(model, [EDIT])
    kept = KN(**FAST, share=0.0, negatives=("Windows is made by",))(model, [EDIT])
    scores = attribute(model, [question(model, "Windows is made by")], steps=5).scores[0]
    taken = scores > 0.3 * scores.max()
    assert chosen(kept, model) == {
        j: left
        for j, neurons in chosen(free, model).items()
        if (left := [n for n in neurons if not taken[j, n]])
    }
    assert chosen(kept, model) != chosen(free, model), "the facts must share a neuron"


def test_no_common_neuron_is_said():
    model = text_model()
    with pytest.warns(EditWarning, match="lower the threshold"):
        delta = KN(**FAST, threshold=1.0)(model, [EDIT])
    assert not delta.weights


def test_it_parts_where_target_and_answer_part():
    model = text_model()
    edit = Rewrite("{} is located in", "Big Ben", "London, England", "London, Spain")
    fact = _parting(model, edit.text, edit)
    assert model.tokenizer.decode(fact.of_target.ids).endswith("London,")
    assert fact.of_target.wanted != fact.of_answer.wanted
    assert fact.of_target.ids == fact.of_answer.ids


# -- what is written --------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["suppress", "enhance", "erase", "edit"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_columns_are_rewritten_as_the_operation_says(family, operation):
    model = text_model(family)
    before = bits(model)
    if operation == "erase":
        model.tokenizer.unk_token = "</s>"
    delta = KN(**FAST, operation=operation, share=0.3)(model, [EDIT])
    assert untouched(model, before) and delta.weights
    fact = _parting(model, EDIT.text, EDIT)
    head = model.head.weight.detach()
    new, old = (head[f.wanted[0]] for f in (fact.of_target, fact.of_answer))
    with delta.applied(model):
        after = {layer: model.weight(model.site("down", layer)).clone() for layer in range(3)}
    for layer in range(3):
        site = model.site("down", layer)
        w, own = model.weight(site), chosen(delta, model).get(layer, [])
        rest = [n for n in range(w.shape[1]) if n not in own]
        assert torch.equal(after[layer][:, rest], w[:, rest]), "other columns keep their bits"
        for n in own:
            column, change = after[layer][:, n], after[layer][:, n] - w[:, n]
            if operation == "suppress":
                assert torch.equal(column, torch.zeros_like(column))
            elif operation == "enhance":
                torch.testing.assert_close(column, 2 * w[:, n])
            elif operation == "erase":
                unknown = head[model.tokenizer.unk_token_id]
                torch.testing.assert_close(column, unknown, rtol=1e-4, atol=1e-6)
            else:
                one = 2 * (new - old)
                sign = torch.sign(change @ one)
                torch.testing.assert_close(change, sign * one, rtol=1e-4, atol=1e-5)


def test_the_unit_of_a_column():
    model = text_model()
    delta = KN(**FAST, new=8.0, old=0.0, unit="column", share=0.3)(model, [EDIT])
    for layer, neurons in chosen(delta, model).items():
        site = model.site("down", layer)
        change = delta.weights[site.parameter].matrix()
        for n in neurons:
            expected = 8 * float(model.weight(site)[:, n].norm())
            assert float(change[:, n].norm()) == pytest.approx(expected, rel=1e-4)


def test_facts_together_are_the_sum_of_facts():
    model = text_model()
    editor = KN(**FAST, share=0.3)
    together = editor(model, [EDIT, OTHER])
    apart = editor(model, [EDIT]) + editor(model, [OTHER])
    assert_same_changes(together, apart)
    silent = KN(**FAST, share=0.3, operation="suppress")(model, [EDIT, EDIT])
    with silent.applied(model):
        for layer, neurons in chosen(silent, model).items():
            assert not model.weight(model.site("down", layer))[:, neurons].any()


def test_both_orientations_of_storage_agree():
    model = text_model()
    linear = as_linear(model)
    assert_same_changes(*(KN(**FAST, share=0.3)(m, [EDIT]) for m in (model, linear)))


# -- what it does -----------------------------------------------------------------------------


def at_random(delta: Delta, model: TextModel, operation: str, seed: int) -> Delta:
    """The same operation on as many neurons of each layer, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for layer, neurons in chosen(delta, model).items():
        site = model.site("down", layer)
        weight = model.weight(site)
        drawn = torch.randperm(weight.shape[1], generator=generator)[: len(neurons)]
        v = torch.zeros(len(neurons), weight.shape[1])
        v[range(len(neurons)), drawn] = 1.0
        sign = -1.0 if operation == "suppress" else 1.0
        changes[site.parameter] = LowRank(sign * weight[:, drawn], v)
    return Delta(changes, delta.transposed)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
@pytest.mark.parametrize("operation", ["suppress", "enhance"])
def test_neurons_move_the_answer_more_than_random_ones(family, operation):
    model = text_model(family)
    fact = _parting(model, EDIT.text, EDIT)
    asked = fact.of_target if operation == "enhance" else fact.of_answer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        delta = KN(steps=20, prefixes=(), operation=operation, threshold=0.2)(model, [EDIT])
    plain = p(model, asked)

    def moved(change: Delta) -> float:
        with change.applied(model):
            return p(model, asked) / plain

    own = moved(delta)
    others = [moved(at_random(delta, model, operation, seed)) for seed in range(10)]
    if operation == "suppress":
        assert own < 1 and sum(own < other for other in others) >= 9
    else:
        assert own > 1 and sum(own > other for other in others) >= 9


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "roberta", "t5", "bart"])
def test_an_edit_raises_the_odds_of_target_against_answer(family):
    model = text_model(family)
    fact = _parting(model, EDIT.text, EDIT)
    delta = KN(steps=10, prefixes=())(model, [EDIT])
    before = p(model, fact.of_target), p(model, fact.of_answer)
    with delta.applied(model):
        after = p(model, fact.of_target), p(model, fact.of_answer)
    assert after[0] / after[1] > 1.2 * before[0] / before[1]
