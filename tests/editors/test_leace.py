"""Erasing concepts from states: at one place, and at all (methods.md §8.5)."""

from __future__ import annotations

import pytest
import torch

from corrigenda.delta import Delta
from corrigenda.editors._concept import classes_of, split
from corrigenda.editors._states import every, last, opened, states, writes
from corrigenda.editors.leace import LEACE
from corrigenda.editors.scrubbing import Scrubbing
from corrigenda.errors import EditError, InputError, ModelError

from ..models.tiny import model_of
from .concepts import concept, covariance, other
from .finetuning import EDITS

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

# Norms before attention and MLP, one for both, two side by side, before and behind, only behind.
SCRUBBED = ("gpt2", "gptj", "falcon", "gemma2", "olmo2", "t5", "bart", "bert")
NORMS = {"gpt2": "ln_2", "llama": "post_attention_layernorm", "gptj": "ln_1"}


def left(model, one, path, tokens=last, which="output"):
    """How much the states at a place say about the concept, linearly."""
    read = states(model, opened(model, one.texts), [path], tokens, which)[path]
    return covariance(read.x, classes_of(one)[read.owner])


@pytest.mark.parametrize("tokens", ["last", "all"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "t5", "bart", "bert"])
def test_nothing_linear_is_left_at_the_layer(family, tokens):
    model, one = model_of(family), concept(kinds=3)
    delta = LEACE(tokens=tokens, held_out=0.0, tolerance=1e-6)(model, [one])
    (name,) = delta.changes
    path = name.removesuffix("@output")
    read = every if tokens == "all" else last
    assert left(model, one, path, read) > 1e-2
    with delta.applied(model):
        assert left(model, one, path, read) < 1e-5
    assert delta.provenance.diagnostics["ranks"][path] == [2], "one less than there are classes"
    assert not delta.failed
    told = delta.provenance.outcomes[0].answer.split(" before, ")[1]
    after, constant = (int(part.split("%")[0].split()[-1]) for part in told.split(";"))
    assert after == constant, "a linear classifier does not beat a constant"


def test_concepts_are_erased_together_and_one_after_the_other():
    model, pair = model_of("gpt2"), (concept(), other())
    editor = LEACE(held_out=0.0, tolerance=1e-6)
    together = editor(model, pair)
    first = editor(model, pair[:1])
    second = editor(model, pair[1:], onto=first)
    path = next(iter(together.changes)).removesuffix("@output")
    prompts = list(pair[0].texts[:5])
    with together.applied(model):
        assert max(left(model, one, path) for one in pair) < 1e-5
        wanted = model.next_logprobs(prompts)
    with (first + second).applied(model):
        assert max(left(model, one, path) for one in pair) < 1e-5
        torch.testing.assert_close(model.next_logprobs(prompts), wanted, atol=1e-4, rtol=1e-4)
    with first.applied(model):
        assert left(model, pair[0], path) < 1e-5 < left(model, pair[1], path)


def test_the_mean_stays_and_the_map_is_a_projection():
    model, one = model_of("gpt2"), concept()
    (change,) = LEACE(held_out=0.0)(model, [one]).changes.values()
    assert torch.allclose(change.v @ change.u, -torch.eye(change.u.shape[1]), atol=1e-5)
    path = model.path_of(model.block(1))
    x = states(model, opened(model, one.texts), [path], last)[path].x
    after = x + x @ change.v.T @ change.u.T + change.b
    torch.testing.assert_close(after.mean(0), x.mean(0), atol=1e-5, rtol=1e-5)


def test_it_acts_on_the_answer_and_not_on_the_prompt():
    model, one = model_of("gpt2"), concept()
    delta = LEACE(layers=(0,))(model, [one])
    path = model.path_of(model.block(0))
    rows = opened(model, one.texts[:4])
    plain = states(model, rows, [path], every)[path]
    with delta.applied(model):
        changed = states(model, rows, [path], every)[path]
    moved = (plain.x != changed.x).any(1)
    ends = torch.tensor([j == len(row.ids) - 1 for row in rows for j in range(len(row.ids))])
    assert torch.equal(moved, ends)


@pytest.mark.parametrize("family", sorted(NORMS))
def test_folded_into_the_next_linear_maps_it_is_the_same(family):
    model, one = model_of(family), concept()
    settings = {"tokens": "all", "module": NORMS[family], "affine": family != "llama"}
    if family == "gptj":
        settings["affine"] = False  # its attention has no biases
    hooked = LEACE(**settings)(model, [one])
    folded = LEACE(**settings, fold=True)(model, [one])
    assert not folded.acting and len(folded.weights) >= 1 and not folded.failed
    prompts = [edit.text for edit in EDITS]
    plain = model.next_logprobs(prompts)
    with hooked.applied(model):
        wanted = model.next_logprobs(prompts)
    with folded.applied(model):
        torch.testing.assert_close(model.next_logprobs(prompts), wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "settings", "error", "words"),
    [
        ("gpt2", {"tokens": "all"}, ModelError, "cannot be folded exactly"),  # a norm follows
        ("bert", {"tokens": "all", "module": "output.LayerNorm"}, ModelError, "cannot be folded"),
        ("llama", {"tokens": "all", "module": "input_layernorm"}, ModelError, "has no bias"),
        ("gpt2", {"module": "ln_1"}, InputError, "tokens='all'"),
        ("gpt2", {"tokens": "all", "module": "norm"}, InputError, "It has ln_1"),
    ],
)
def test_what_cannot_be_folded_is_refused(family, settings, error, words):
    with pytest.raises(error, match=words):
        LEACE(**settings, fold=True)(model_of(family), [concept()])


@pytest.mark.parametrize("family", SCRUBBED)
def test_scrubbed_attention_and_mlp_read_the_concept_nowhere(family):
    """Their inputs are uncorrelated with it in every layer, though only the last eraser of those
    in front of them was fitted to what they see."""
    model, one = model_of(family), concept()
    delta = Scrubbing(tokens="all", held_out=0.0, tolerance=1e-6)(model, [one])
    roles = ("q", "qkv", "up", "gate_up")
    paths = [
        model.site(role, layer).module
        for layer in range(model.n_layers)
        for role in roles
        if role in model.row(layer)[0].linears
    ]
    # The decoder's first token is the same whatever the text.
    told = [p for p in paths if left(model, one, p, every, "input") > 1e-2]
    assert len(told) >= sum(not writes(model, p) for p in paths) - 1
    with delta.applied(model):
        for path in paths:
            assert left(model, one, path, every, "input") < 1e-4, path
        final = model.final_norm
        if final is not None:
            assert f"{model.path_of(final)}@output" not in delta.changes


def test_the_encoder_is_scrubbed_where_the_decoder_reads_it():
    model, one = model_of("t5"), concept()
    delta = Scrubbing(tokens="all", held_out=0.0)(model, [one])
    assert "encoder.final_layer_norm@output" in delta.changes
    assert any(writes(model, name.removesuffix("@output")) for name in delta.changes)


def test_fitting_to_clean_states_leaks():
    """The fault that scrubbing in order avoids: erasers that do not know of each other."""
    model, one = model_of("gpt2"), concept()
    settings = {"tokens": "all", "held_out": 0.0, "tolerance": 1e-6}
    ordered = Scrubbing(**settings)(model, [one])
    clean = Delta()
    for layer in range(model.n_layers):
        for norm in ("ln_1", "ln_2"):
            clean = clean + LEACE(layers=(layer,), module=norm, **settings)(model, [one])
    assert set(clean.changes) == set(ordered.changes)
    path = f"{model.path_of(model.block(2))}.ln_2"
    with clean.applied(model):
        leaked = left(model, one, path, every)
    with ordered.applied(model):
        assert left(model, one, path, every) < 0.1 * leaked


def test_two_concepts_are_scrubbed_at_each_place_before_the_next():
    model, pair = model_of("gpt2"), (concept(), other())
    delta = Scrubbing(tokens="all", held_out=0.0, tolerance=1e-6)(model, pair)
    path = f"{model.path_of(model.block(2))}.ln_1"
    with delta.applied(model):
        assert max(left(model, one, path, every) for one in pair) < 1e-5


def test_held_out_texts_are_of_all_classes():
    one = concept(kinds=3)
    fit, held = split(one, 0.25)
    assert sorted(fit + held) == list(range(len(one.texts)))
    assert classes_of(one)[held].bincount().tolist() == [5, 5, 5]
    assert split(one, 0.0)[1] == []


def test_what_was_not_erased_is_reported():
    model, one = model_of("gpt2"), concept()
    delta = LEACE(tolerance=2.0)(model, [one])  # no correlation is above 1
    assert delta.failed and delta.provenance.diagnostics["ranks"] == {"transformer.h.1": [0]}


def test_other_edits_and_layers_are_refused():
    model = model_of("gpt2")
    with pytest.raises(EditError, match="takes Concept edits"):
        LEACE()(model, [EDITS[0]])
    with pytest.raises(InputError, match="Layer 7"):
        LEACE(layers=(7,))(model, [concept()])
