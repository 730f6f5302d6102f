"""Integrated gradients of neurons: the formula, completeness, and independence of batching."""

from __future__ import annotations

import pytest
import torch

from corrigenda.errors import InputError
from corrigenda.locate import attribute, question
from corrigenda.models.hooks import first
from corrigenda.models.text import TextModel
from corrigenda.models.tokens import pieces

from ..models.tiny import CAUSAL, LAYERS, VARIANTS, tiny
from .test_trace import text_model

PROMPTS = ("The Eiffel Tower is located in", "Marie Curie was born in the city of")


def probability(model: TextModel, ids, layer: int, scale, answer: int):
    """p(y) with the last token's neurons of a layer replaced by scale(w̄), over the whole text."""
    linear = model.linear(model.site("down", layer))
    t, kept = len(ids), {}

    def hook(_m, args):
        whole = args[0].reshape(t, -1)
        kept["w"] = whole[-1].detach()
        kept["used"] = scale(kept["w"])
        return (torch.cat([whole[:-1], kept["used"][None]]).reshape(args[0].shape),)

    handle = linear.register_forward_pre_hook(hook)
    try:
        logits = first(model.module(torch.tensor([list(ids)])).logits)[0, -1]
    finally:
        handle.remove()
    return logits.softmax(-1)[answer], kept


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "bloom", "falcon-7b", "gemma2", "phi3"])
def test_scores_are_the_formula(family):
    model = text_model(family)
    asked = question(model, PROMPTS[0], "Paris")
    found = attribute(model, [asked], steps=4)
    for layer in range(LAYERS):
        total = torch.zeros(found.scores.shape[-1])
        for j in range(1, 5):
            leaf = {}

            def scaled(w, j=j, leaf=leaf):
                leaf["w"] = (w * j / 4).requires_grad_(True)
                return leaf["w"]

            with torch.enable_grad():
                p, kept = probability(model, asked.ids, layer, scaled, asked.wanted[0])
                total += torch.autograd.grad(p, leaf["w"])[0]
        expected = (kept["w"] * total / 4).double()
        torch.testing.assert_close(found.neurons[0, layer], kept["w"].double())
        torch.testing.assert_close(
            found.scores[0, layer], expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max())
        )


POST_NORM = ("gemma2", "gemma3_text", "gemma3", "olmo2")


@pytest.mark.parametrize("family", [f for f in (*CAUSAL, *VARIANTS) if f not in POST_NORM])
def test_completeness_and_its_error(family):
    """The sum tends to p(y | w̄) - p(y | 0): as 1/m on the right, as 1/m² in the middle."""
    model = text_model(family)
    asked = question(model, PROMPTS[0])  # the model's own answer
    sums = {
        (rule, m): attribute(model, [asked], steps=m, rule=rule).scores.sum(-1)[0]
        for rule, m in (("right", 10), ("right", 80), ("midpoint", 80))
    }
    changes = []
    with torch.no_grad():
        for layer in range(LAYERS):
            ends = [
                float(probability(model, asked.ids, layer, scale, asked.wanted[0])[0])
                for scale in (torch.clone, torch.zeros_like)
            ]
            changes.append(ends[0] - ends[1])
    whole = torch.tensor(changes).double()
    errors = {key: float((found - whole).abs().max()) for key, found in sums.items()}
    largest = float(whole.abs().max())
    assert largest > 1e-3, "the neurons must matter"
    assert errors["right", 80] < errors["right", 10] / 4
    assert errors["right", 80] < 0.05 * largest
    assert errors["midpoint", 80] < 0.002 * largest


@pytest.mark.parametrize("family", POST_NORM)
def test_a_norm_after_the_mlp_hides_the_scale(family):
    """Where only the direction of W w is passed on, scaling w changes nothing: the parts cancel."""
    model = text_model(family)
    scores = attribute(model, [question(model, PROMPTS[0])], steps=10).scores
    assert float(scores.abs().sum(-1).min()) > 0
    assert float((scores.sum(-1) / scores.abs().sum(-1)).abs().max()) < 1e-2


def test_questions_together_or_alone():
    model = text_model("llama")
    asked = [question(model, p, a) for p, a in zip(PROMPTS, ("Paris", "Warsaw"), strict=True)]
    together = attribute(model, asked, steps=5)
    alone = [attribute(model, [q], steps=5, batch_size=3) for q in asked]
    scale = float(together.scores.abs().max())
    torch.testing.assert_close(
        together.scores, torch.cat([a.scores for a in alone]), rtol=1e-3, atol=1e-5 * scale
    )
    assert torch.equal(attribute(model, asked, [2], steps=5).scores[:, 0], together.scores[:, 2])
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_both_orientations_of_storage_agree():
    from ..editors.finetuning import as_linear

    model = text_model()
    asked = [question(model, PROMPTS[0], "Paris")]
    a, b = (attribute(m, asked, steps=5).scores for m in (model, as_linear(model)))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max()))


def test_what_is_asked():
    model = text_model("llama")
    cut = pieces(model.tokenizer, PROMPTS[0], "Paris, France")
    asked = question(model, PROMPTS[0] + " ", "Paris, France")
    assert asked.ids == cut.ids[: cut.start] and asked.wanted[0] == cut.target[0]
    assert asked.reads[0] == cut.start - 1
    assert question(model, PROMPTS[0], 7).wanted == (7,)
    own = question(model, PROMPTS[0])
    assert own.wanted[0] == int(model.next_logprobs([PROMPTS[0]])[0].argmax())
    for wrong in ({"steps": 0}, {"rule": "left"}):
        with pytest.raises(InputError):
            attribute(model, [own], **wrong)
    with pytest.raises(InputError):
        attribute(TextModel(*tiny("gpt2"), "gpt2"), [])
