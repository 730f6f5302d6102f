"""LoRA: starts as the identity, and the merged model is the one that was trained."""

from __future__ import annotations

import pytest
import torch

from corrigenda.delta import LowRank
from corrigenda.editors import _finetune
from corrigenda.editors._finetune import examples, losses
from corrigenda.editors.lora import LoRA

from ..models.tiny import CAUSAL, VARIANTS
from .finetuning import EDITS, as_linear, assert_same_changes, bits, logits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "phi3"])
def test_no_steps_change_nothing(family):
    model = text_model(family)
    base = logits(model)
    editor = LoRA(steps=0).resolved(model)
    with editor.factors(model, editor.sites(model)):
        assert torch.equal(logits(model), base)
    with editor(model, EDITS).applied(model):
        assert torch.equal(logits(model), base)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_merged_equals_unmerged(family):
    model = text_model(family)
    editor = LoRA(rank=4).resolved(model)
    delta = editor(model, EDITS)
    with editor.factors(model, editor.sites(model)) as factors:
        with torch.no_grad():
            for name, (b, a) in factors.items():
                change = delta.changes[name]
                b.copy_(change.u / (editor.alpha / editor.rank))
                a.copy_(change.v)
        unmerged = logits(model)
    base = logits(model)
    with delta.applied(model):
        merged = logits(model)
    assert (merged - base).abs().max() > 0.1
    torch.testing.assert_close(merged, unmerged, rtol=1e-3, atol=1e-3)


def test_every_site_gets_a_change_of_the_rank():
    model = text_model("llama")
    delta = LoRA(rank=2, steps=2)(model, EDITS)
    assert set(delta.changes) == {
        f"model.layers.{layer}.self_attn.{p}_proj.weight" for layer in range(3) for p in "qv"
    }
    assert all(isinstance(c, LowRank) and c.rank == 2 for c in delta.changes.values())
    assert LoRA().resolved(text_model("gpt2")).roles == ("qkv",)
    only = LoRA(rank=2, steps=2, layers=(1,), roles=("down", "up"))(model, EDITS)
    assert set(only.changes) == {f"model.layers.1.mlp.{p}_proj.weight" for p in ("down", "up")}


@pytest.mark.parametrize("family", CAUSAL + VARIANTS)
def test_every_architecture(family):
    model = text_model(family)
    before = bits(model)
    delta = LoRA(steps=4)(model, EDITS)
    loss = delta.provenance.diagnostics["loss"]
    with torch.no_grad(), delta.applied(model):
        after = float(losses(model, examples(model, EDITS)).mean())
    assert after < loss[-1] < loss[0]
    assert untouched(model, before)


def test_edits_take_and_the_model_is_untouched():
    model = text_model("gpt2", sharp=True)
    before = bits(model)
    delta = LoRA(steps=100, lr=1e-2, tolerance=0.05)(model, EDITS)
    with delta.applied(model):
        scores = model.score([(e.text, e.target) for e in EDITS])
    assert all(bool(s.correct.all()) for s in scores)
    assert untouched(model, before)


def test_same_seed_same_bits_with_dropout_too():
    model = text_model()
    state = torch.random.get_rng_state()
    a, b, c = (LoRA(steps=3, dropout=0.3, seed=s)(model, EDITS) for s in (0, 0, 1))
    assert a.id == b.id != c.id
    assert torch.equal(torch.random.get_rng_state(), state)
    assert LoRA(steps=3)(model, EDITS).id != a.id


def test_storage_orientation_does_not_matter():
    model = text_model("gpt2")
    settings = {"steps": 3, "lr": 1e-3, "roles": ("down",)}
    a, b = LoRA(**settings)(model, EDITS), LoRA(**settings)(as_linear(model), EDITS)
    assert_same_changes(a, b)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_the_model_untouched(monkeypatch, error):
    model, calls = text_model(), []
    real = _finetune.losses

    def breaking(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return real(*arguments)

    monkeypatch.setattr(_finetune, "losses", breaking)
    before = bits(model)
    with pytest.raises(error):
        LoRA(steps=9)(model, EDITS)
    assert untouched(model, before)
