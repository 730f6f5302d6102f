"""Skill neurons: found by their predictivity, and scaled (methods.md §4.18)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import Concept
from corrigenda.editors._concept import classes_of, split
from corrigenda.editors.skill_neurons import SkillNeurons, _places, _prompted, predictivity
from corrigenda.errors import EditError

from ..models.tiny import model_of
from .concepts import concept
from .finetuning import as_linear, assert_same_changes, bits, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

KINDS = ["gpt2", "llama", "t5", "bart", "bert", "roberta"]


@given(seed=st.integers(0, 10**6))
def test_predictivity_is_what_it_is_said_to_be(seed):
    generator = torch.Generator().manual_seed(seed)
    train, dev = (torch.randn(n, 3, 5, generator=generator) for n in (7, 9))
    positive = torch.rand(9, generator=generator) < 0.5
    found = predictivity(train, dev, positive)
    for w in range(5):
        best = 0.0
        for p in range(3):
            threshold = sum(float(a) for a in train[:, p, w]) / 7
            right = sum(bool(dev[j, p, w] > threshold) == bool(positive[j]) for j in range(9)) / 9
            best = max(best, right, 1 - right)
        assert float(found[w]) == pytest.approx(best)
    assert float(found.min()) >= 0.5
    torch.testing.assert_close(found, predictivity(train, dev, ~positive))
    torch.testing.assert_close(found, predictivity(-train, -dev, positive))


def test_a_neuron_that_knows_the_class_is_found():
    model, one = model_of("gpt2"), concept()
    editor = SkillNeurons(layers=(1,), share=1 / 64, prompt=" of")
    fit, held = split(one, 0.5)
    a = editor.resolved(model)._activations(model, one, editor._soft(model, one, 0))
    classes = classes_of(one)
    scores = editor.resolved(model).predictivity(model, one)[0]
    wanted = predictivity(a[fit], a[held], classes[held] == 1)
    torch.testing.assert_close(scores, wanted)
    delta = editor(model, [one])
    (change,) = delta.weights.values()
    assert int(scores.argmax()) == int(change.v[0].argmax())
    assert delta.provenance.diagnostics["highest predictivity"] == [
        pytest.approx(float(scores.max()), abs=1e-4)
    ]


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_columns_of_the_down_projection_are_scaled(family, scale):
    model, one = model_of(family), concept()
    before = bits(model)
    delta = SkillNeurons(scale=scale, share=0.05)(model, [one])
    assert untouched(model, before)
    count = 0
    for layer in model.prompt_layers:
        site = model.site("down", layer)
        if site.parameter not in delta.changes:
            continue
        plain = model.weight(site).clone()
        marked = delta.weights[site.parameter].v.any(0)
        count += int(marked.sum())
        with delta.applied(model):
            now = model.weight(site)
            torch.testing.assert_close(now[:, marked], scale * plain[:, marked])
            assert torch.equal(now[:, ~marked], plain[:, ~marked])
    inner = sum(model.weight(model.site("down", j)).shape[1] for j in model.prompt_layers)
    assert count == delta.provenance.diagnostics["neurons"] == round(0.05 * inner)


def test_storage_does_not_matter():
    model, one = model_of("gpt2"), concept()
    editor = SkillNeurons()
    assert_same_changes(editor(model, [one]), editor(as_linear(model), [one]))


def test_several_classes_are_told_by_pairs():
    model, one = model_of("gpt2"), concept(kinds=3)
    editor = SkillNeurons(share=0.02).resolved(model)
    scores = editor.predictivity(model, one)
    assert scores.shape[0] == 3
    for j, pair in enumerate((("is", "was"), ("is", "worked as"), ("was", "worked as"))):
        rows = [(t, v) for t, v in zip(one.texts, one.labels, strict=True) if v in pair]
        two = Concept("pair", [t for t, _ in rows], [v for _, v in rows])
        torch.testing.assert_close(editor.predictivity(model, two)[0], scores[j])
    neurons = editor(model, [one]).provenance.diagnostics["neurons"]
    each = round(0.02 * scores.shape[1])
    assert each < neurons <= 3 * each


@pytest.mark.parametrize("family", KINDS)
def test_activations_are_read_at_the_prompts_tokens(family):
    model, prompt = model_of(family), " It was"
    count = len(model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    for row in (model.opening("The tower" + prompt), model.asked("The tower" + prompt, "Paris")):
        read = [row.ids[j] for j in _places(model, row, count)]
        assert model.tokenizer.decode(read).strip().lower() == "it was"


@pytest.mark.parametrize("family", KINDS)
def test_a_soft_prompt_learns_the_labels(family):
    model, one = model_of(family), concept()
    editor = SkillNeurons(prompt=" It", steps=12, lr=0.1, runs=1).resolved(model)
    before = bits(model)
    soft = editor._soft(model, one, 0)
    assert untouched(model, before)
    assert not any(m._forward_pre_hooks for m in model.module.modules())
    fit, _ = split(one, editor.held_out)
    rows = [model.asked(one.texts[j] + " It", one.labels[j]) for j in fit]
    with torch.no_grad():
        plain = float(model.nll(rows).mean())
        with _prompted(model, [_places(model, r, len(soft)) for r in rows], soft):
            tuned = float(model.nll(rows).mean())
    assert tuned < plain - 0.05
    assert not torch.equal(soft, editor._soft(model, one, 1)), "every run begins elsewhere"


def test_scaling_changes_the_margin_and_says_so():
    model, one = model_of("gpt2"), concept()
    editor = SkillNeurons(scale=0.0, share=0.1)
    before = editor.margin(model, one)[0]
    delta = editor(model, [one])
    with delta.applied(model):
        after = editor.margin(model, one)[0]
    (outcome,) = delta.provenance.outcomes
    assert outcome.took == (after < before)
    assert f"{before:+.3f} before, {after:+.3f} after" in outcome.answer


def test_labels_that_cannot_be_held_out_are_refused():
    with pytest.raises(EditError, match="at least two texts"):
        SkillNeurons()(model_of("gpt2"), [Concept("x", ["It is", "Rome"], ["a", "b"])])
