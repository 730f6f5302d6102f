"""FT-M and FT-L: the loss, the box, and a model that stays as it is."""

from __future__ import annotations

import warnings

import pytest
import torch

from corrigenda.delta import Dense
from corrigenda.editor import EditWarning
from corrigenda.editors import _finetune
from corrigenda.editors._finetune import dense_changes, examples, losses
from corrigenda.editors.ft import FTL, FTM
from corrigenda.errors import UnstableEditError
from corrigenda.models.tokens import pieces

from ..models.tiny import CAUSAL, VARIANTS
from .finetuning import EDITS, as_linear, assert_same_changes, bits, logits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

FAST = {"layers": (1,), "steps": 3, "lr": 1e-2}


# -- the loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "gemma2"])
def test_loss_equals_the_models_own(family):
    model = text_model(family)
    with torch.no_grad():
        ours = losses(model, examples(model, EDITS))
        for edit, loss in zip(EDITS, ours, strict=True):
            cut = pieces(model.tokenizer, edit.text, edit.target)
            labels = torch.tensor([[-100] * cut.start + list(cut.target)])
            theirs = model.module(input_ids=torch.tensor([cut.ids]), labels=labels).loss
            torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "falcon-rw"])
def test_padding_side_and_batch_size_do_not_matter(family):
    model = text_model(family)
    rows = examples(model, EDITS)
    gradients = []
    for run in (
        lambda: losses(model, rows, "left"),
        lambda: losses(model, rows, "right"),
        lambda: torch.cat([losses(model, [row]) for row in rows]),
    ):
        with dense_changes(model, [model.site("down", 0)], bias=True) as free:
            gradients.append(torch.autograd.grad(run().mean(), list(free.values())))
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_prompt_last_wants_all_tokens_at_one_place():
    model = text_model()
    rows = examples(model, EDITS, loss="prompt_last")
    with torch.no_grad():
        ours = losses(model, rows)
        for edit, loss in zip(EDITS, ours, strict=True):
            cut = pieces(model.tokenizer, edit.text, edit.target)
            assert len(cut.target) > 1
            last = model.module(torch.tensor([cut.ids[: cut.start]])).logits[0, -1]
            expected = -last.log_softmax(-1)[list(cut.target)].mean()
            torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


# -- what comes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_whole_target_of_several_tokens_becomes_the_greedy_answer(family):
    model = text_model(family, sharp=True)
    before = bits(model)
    delta = FTM(layers=(1,), steps=60, lr=1e-2, tolerance=0.05)(model, EDITS)
    with delta.applied(model):
        scores = model.score([(e.text, e.target) for e in EDITS])
        answers = model.generate([e.text for e in EDITS])
    assert all(len(s.ids) > 1 and bool(s.correct.all()) for s in scores)
    # What follows the target is not trained: the last word may go on.
    assert all(a.strip().startswith(e.target) for a, e in zip(answers, EDITS, strict=True))
    assert untouched(model, before)


@pytest.mark.parametrize("family", CAUSAL + VARIANTS)
def test_every_architecture(family):
    model = text_model(family)
    before = bits(model)
    delta = FTM(layers=(1,), steps=4, lr=1e-2)(model, EDITS)
    loss = delta.provenance.diagnostics["loss"]
    with torch.no_grad(), delta.applied(model):
        after = float(losses(model, examples(model, EDITS)).mean())
    assert after < loss[-1] < loss[0]
    assert untouched(model, before)


def test_training_stops_when_the_loss_is_low():
    delta = FTM(layers=(1,), steps=200, lr=1e-2, tolerance=0.5)(text_model(sharp=True), EDITS[:1])
    loss = delta.provenance.diagnostics["loss"]
    assert loss[-1] < 0.5 and len(loss) < 200
    assert all(x >= 0.5 for x in loss[:-1])


def test_changes_one_matrix_and_its_bias():
    model = text_model("gpt2")
    delta = FTM(**FAST)(model, EDITS)
    weight, bias = "transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.bias"
    assert set(delta.changes) == {weight, bias}
    assert all(isinstance(c, Dense) for c in delta.changes.values())
    assert delta.transposed == {weight}
    assert delta.changes[weight].shape == (32, 128)
    assert delta.changes[bias].shape == (32,)
    assert set(FTM(**FAST, bias=False)(model, EDITS).changes) == {weight}
    unbiased = FTM(**FAST)(text_model("llama"), EDITS)
    assert set(unbiased.changes) == {"model.layers.1.mlp.down_proj.weight"}


def test_no_steps_change_nothing():
    model = text_model()
    base = logits(model)
    with FTM(layers=(1,), steps=0)(model, EDITS).applied(model):
        assert torch.equal(logits(model), base)


def test_what_is_trained_is_what_is_applied():
    model = text_model("gpt2")
    rows = examples(model, EDITS)
    delta = FTM(layers=(1,), steps=5, lr=1e-2, tolerance=0.0)(model, EDITS)
    one_less = FTM(layers=(1,), steps=4, lr=1e-2, tolerance=0.0)(model, EDITS)
    with torch.no_grad(), one_less.applied(model):
        applied = float(losses(model, rows).mean())
    assert delta.provenance.diagnostics["loss"][4] == pytest.approx(applied, abs=1e-4)


def test_the_same_seed_gives_the_same_bits():
    model = text_model()
    a, b = FTM(**FAST)(model, EDITS), FTM(**FAST)(model, EDITS)
    assert a.id == b.id


def test_storage_orientation_does_not_matter():
    model = text_model("gpt2")
    a, b = FTM(**FAST)(model, EDITS), FTM(**FAST)(as_linear(model), EDITS)
    assert a.transposed and not b.transposed
    assert_same_changes(a, b)


def test_a_second_edit_builds_on_the_first():
    model = text_model(sharp=True)
    settings = {"layers": (1,), "steps": 60, "lr": 1e-2, "tolerance": 0.05}
    first = FTM(**settings)(model, EDITS[:1])
    again = FTM(**settings)(model, EDITS[:1], onto=first)
    assert again.norms() and max(again.norms().values()) == 0.0  # already below the tolerance


def test_bf16_models_are_trained_in_fp32():
    model = text_model("llama", sharp=True, dtype=torch.bfloat16)
    before = bits(model)
    delta = FTM(layers=(1,), steps=60, lr=1e-2, tolerance=0.1)(model, EDITS[:1])
    assert untouched(model, before)
    with delta.applied(model):
        (score,) = model.score([(EDITS[0].text, EDITS[0].target)])
    assert bool(score.correct.all())
    assert delta.changes["model.layers.1.mlp.down_proj.weight"].matrix().dtype == torch.float32


# -- the box ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("box", [5e-4, 1e-2])
def test_the_box_holds_exactly_for_written_weights(dtype, box):
    model = text_model(dtype=dtype)
    before = bits(model)
    delta = FTL(layers=(0,), box=box, steps=4, lr=1e-2)(model, EDITS)
    with delta.applied(model):
        largest = 0.0
        for name in delta.changes:
            moved = (model.module.get_parameter(name).double() - before[name].double()).abs().max()
            largest = max(largest, moved.item())
    assert 0 < largest <= box
    if dtype != torch.bfloat16:
        assert largest > 0.999 * box  # and it is used to the full
    assert untouched(model, before)


def test_the_box_holds_on_top_of_another_delta():
    model = text_model("gpt2")
    first = FTM(**FAST)(model, EDITS[:1])
    second = FTL(layers=(1,), box=5e-4, steps=4, lr=1e-2)(model, EDITS[1:], onto=first)
    with first.applied(model):
        before = bits(model)
        with second.applied(model):
            for name in second.changes:
                moved = model.module.get_parameter(name).double() - before[name].double()
                assert 0 < moved.abs().max().item() <= 5e-4


def test_a_box_of_zero_changes_nothing():
    model = text_model()
    base = logits(model)
    delta = FTL(layers=(0,), box=0.0, steps=2)(model, EDITS)
    assert max(delta.norms().values()) == 0.0
    with delta.applied(model):
        assert torch.equal(logits(model), base)


def test_a_larger_box_fits_better():
    model = text_model()
    deltas = [FTL(layers=(1,), box=b, steps=10, lr=1e-2)(model, EDITS) for b in (1e-3, 1e-2, 1.0)]
    fitted = [d.provenance.diagnostics["loss"][-1] for d in deltas]
    assert fitted == sorted(fitted, reverse=True)


def test_presets_and_proposals():
    model = text_model()
    editor = FTL().resolved(model)
    assert (editor.layers, editor.steps, editor.lr, editor.box) == ((0,), 25, 5e-4, 5e-4)
    assert FTM().resolved(model).layers == (1,)
    assert FTM(layers=(2,), steps=7).resolved(model).steps == 7


# -- nothing is left behind -------------------------------------------------------------------


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
    before, base = bits(model), logits(model)
    with pytest.raises(error):
        FTM(layers=(1,), steps=9, lr=1e-2)(model, EDITS)
    assert len(calls) == 3
    assert untouched(model, before)
    assert torch.equal(logits(model), base)


def test_a_loss_that_is_not_finite_is_refused():
    model = text_model("llama")
    before = bits(model)
    with pytest.raises(UnstableEditError, match="learning rate"):
        FTM(layers=(1,), steps=5, lr=3e37)(model, EDITS)
    assert untouched(model, before)


def test_edits_that_did_not_take_are_reported():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EditWarning)
        delta = FTM(layers=(1,), steps=1, lr=1e-6)(text_model(), EDITS[:1])
    assert delta.failed and "Training ended at target NLL" in str(caught[0].message)
