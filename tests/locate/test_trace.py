"""Causal tracing against a plain implementation, and what must hold of any trace."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from corrigenda.errors import EditError, InputError, ModelError
from corrigenda.locate import average, noise_level, trace
from corrigenda.locate.trace import KINDS, ROLES, Trace, _placed, _Run
from corrigenda.models.hooks import captured, first, replaced_output, with_first
from corrigenda.models.text import TextModel

from ..models.tiny import (
    CAUSAL,
    ENCODER_DECODER,
    LAYERS,
    MASKED,
    VARIANTS,
    model_of,
    tiny,
)

PROMPT, SUBJECT = "The city of {} is located in", "Madrid Tower"


def text_model(family: str = "gpt2") -> TextModel:
    """A tiny model, its logits scaled up until its answer has some probability."""
    module, tokenizer = tiny(family)
    model = TextModel(module, tokenizer, family)
    text = PROMPT.replace("{}", SUBJECT)
    with torch.no_grad():
        while model.next_logprobs([text]).exp().max() < 0.1:
            model.final_norm.weight.mul_(1.5)
    return model


def state(model: TextModel, layer: int, kind: str) -> torch.nn.Module:
    paths = {"block": "", "mlp": model.layout.mlp, "attention": model.layout.attention}
    return model.block(layer).get_submodule(paths[kind])


@torch.no_grad()
def plainly(model: TextModel, found: Trace, token: int, layers: list[int]) -> float:
    """The effect of one state by the textbook: every row on its own, every layer run."""
    ids = torch.tensor([model.ids(found.prompt)])
    modules = {str(j): state(model, j, found.kind) for j in layers}
    with captured({name: (module, "output") for name, module in modules.items()}) as clean:
        logits = model.module(ids).logits[0, -1]
    answer = int(logits.argmax())
    begin, end = found.subject
    shape = found.samples, end - begin + 1, model.width
    noise = found.level * torch.randn(shape, generator=torch.Generator().manual_seed(found.seed))
    embedding = model.module.get_submodule(model.layout.embedding)
    t, effects = ids.shape[1], []
    for draw in noise:

        def disturb(embedded: torch.Tensor, draw: torch.Tensor = draw) -> torch.Tensor:
            embedded = embedded.clone()
            embedded[0, begin : end + 1] += draw
            return embedded

        with replaced_output(embedding, disturb):
            corrupted = model.module(ids).logits[0, -1].softmax(-1)[answer]
            handles = []
            for name, module in modules.items():

                def put(_m, _args, output, name: str = name):
                    hidden = first(output)
                    whole = hidden.reshape(t, -1).clone()
                    whole[token] = clean[name].reshape(t, -1)[token]
                    return with_first(output, whole.reshape(hidden.shape))

                handles.append(module.register_forward_hook(put))
            restored = model.module(ids).logits[0, -1].softmax(-1)[answer]
            for handle in handles:
                handle.remove()
        effects.append(float(restored - corrupted))
    return sum(effects) / len(effects)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "bloom", "falcon", "gemma2", "llama"])
def test_effects_are_those_of_the_plain_computation(family, kind):
    model = text_model(family)
    window = 1 if kind == "block" else 2
    found = trace(model, PROMPT, SUBJECT, kind=kind, window=window, samples=3)
    begin, end = found.subject
    assert "Mad" in "".join(found.tokens[begin : end + 1]) and found.tokens[end].endswith("r")
    for layer in range(LAYERS):
        low = max(0, layer - window // 2)
        layers = list(range(low, min(LAYERS, layer - window // 2 + window)))
        for token in (begin, end, len(found.tokens) - 1):
            expected = plainly(model, found, token, layers)
            assert float(found.effect[token, layer]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("family", [*CAUSAL, *VARIANTS])
def test_the_last_state_of_the_last_layer_is_the_answer(family):
    model = text_model(family)
    found = trace(model, PROMPT, SUBJECT, samples=4)
    assert found.effect.shape == (len(found.tokens), LAYERS)
    assert float(found.effect.abs().max()) > 1e-3, "the noise must matter"
    whole = found.clean - found.corrupted
    assert float(found.effect[-1, -1]) == pytest.approx(whole, abs=1e-5)
    # Other tokens of the last layer are not read, and tokens before the subject are not disturbed.
    assert float(found.effect[:-1, -1].abs().max()) < 1e-5
    assert float(found.effect[: found.subject[0]].abs().max()) < 1e-5
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


@pytest.mark.parametrize("family", MASKED)
def test_a_masked_model_is_traced_to_its_mask(family):
    model = model_of(family)
    found = trace(model, PROMPT, SUBJECT, samples=4, noise=10.0)
    mask = model.asked(found.prompt, found.answer).reads[0]
    whole = found.clean - found.corrupted
    assert found.reads == mask and found.role(mask) == ROLES[4], "not the token after the mask"
    assert found.role(len(found.tokens) - 1) == ROLES[3]
    assert abs(whole) > 1e-5, "the noise must matter"
    assert float(found.effect[mask, -1]) == pytest.approx(whole, abs=1e-6)
    others = [t for t in range(len(found.tokens)) if t != mask]
    assert float(found.effect[others, -1].abs().max()) < 1e-6, "no other state is read"
    words = "".join(found.tokens[found.subject[0] : found.subject[1] + 1]).lower()
    assert SUBJECT.lower().replace(" ", "") == words.replace(" ", "").replace("#", "")


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_an_encoder_decoder_is_not_traced(family):
    model = model_of(family)
    with pytest.raises(ModelError, match="lens"):
        trace(model, PROMPT, SUBJECT)
    read = model.module.get_submodule(model.row(0)[0].embedding)
    with torch.no_grad():  # the noise is that of the embedding of the stack that reads the prompt
        rows = read(torch.tensor(model.ids(SUBJECT)))
    assert noise_level(model, [SUBJECT]) == pytest.approx(float(rows.std()), rel=1e-5)


def test_restoring_nothing_changes_nothing_and_everything_is_clean():
    model = text_model()
    run = _Run(model, *_placed(model, PROMPT, SUBJECT, None)[1:], "mlp")
    run.corrupt(3 * run.sigma, 5, 0)
    # Before the subject nothing was disturbed: restoring there is restoring nothing.
    nothing = run.restored(range(LAYERS), torch.tensor([0]))
    assert float(nothing) == pytest.approx(run.corrupted, abs=1e-6)
    everything = _Run(model, *_placed(model, PROMPT, SUBJECT, None)[1:], "block")
    everything.corrupt(3 * run.sigma, 5, 0)
    name = "0"
    known = everything.known[name]
    with replaced_output(everything.states[name], lambda out: known.expand(out.shape)):
        assert float(everything.probability(5).mean()) == pytest.approx(run.clean, abs=1e-6)


def test_batches_and_seeds():
    model = text_model("llama")
    done: list[tuple[int, int]] = []
    one = trace(model, PROMPT, SUBJECT, progress=lambda *at: done.append(at))
    many = trace(model, PROMPT, SUBJECT, batch_size=1)
    torch.testing.assert_close(one.effect, many.effect, rtol=1e-4, atol=1e-6)
    assert done[-1] == (one.effect.numel(), one.effect.numel())
    assert torch.equal(trace(model, PROMPT, SUBJECT).effect, one.effect)
    assert not torch.equal(trace(model, PROMPT, SUBJECT, seed=1).effect, one.effect)
    spelled = trace(model, PROMPT.replace("{}", SUBJECT), SUBJECT)
    assert torch.equal(spelled.effect, one.effect)


def test_more_noise_corrupts_more():
    model = text_model()
    little = trace(model, PROMPT, SUBJECT, level=1e-4, samples=3)
    assert little.corrupted == pytest.approx(little.clean, abs=1e-3)
    assert float(little.effect.abs().max()) < 1e-3
    level = 3 * noise_level(model, [SUBJECT, "Rome"])
    assert trace(model, PROMPT, SUBJECT, level=level).level == level
    embedded = model.module.get_submodule("transformer.wte").weight[model.ids("Rome")]
    assert noise_level(model, ["Rome"]) == pytest.approx(float(embedded.detach().std()), rel=1e-5)


def test_the_answer_must_be_the_models():
    model = text_model()
    found = trace(model, PROMPT, SUBJECT)
    with pytest.raises(EditError, match="not 'Zanzibar'"):
        trace(model, PROMPT, SUBJECT, "Zanzibar")
    with pytest.raises(EditError, match="does not occur"):
        trace(model, "Rome is located in", SUBJECT)
    greedy = model.tokenizer.decode([int(model.next_logprobs([found.prompt])[0].argmax())])
    assert found.answer == greedy.strip()


@pytest.mark.parametrize("wrong", [{"kind": "neuron"}, {"window": 0}, {"samples": 0}, {"noise": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        trace(text_model(), PROMPT, SUBJECT, **wrong)


def test_roles_and_averages():
    model = text_model()
    long = trace(model, PROMPT, SUBJECT, samples=2)
    roles = [long.role(t) for t in range(len(long.tokens))]
    begin, end = long.subject
    assert roles[:begin] == [None] * begin and roles[begin] == ROLES[0] and roles[end] == ROLES[2]
    assert set(roles[begin + 1 : end]) <= {ROLES[1]} and roles[-1] == ROLES[4]
    assert set(roles[end + 1 : -1]) == {ROLES[3]}
    short = replace(long, subject=(begin, begin), effect=long.effect + 1)
    assert short.role(begin) == ROLES[2], "the only token of a subject is its last"
    both = average([long, short])
    assert both.facts == 2 and both.roles == ROLES
    assert both.counts == (1, 1, 2, 2, 2)
    row = both.roles.index(ROLES[2])
    expected = (long.effect[end] + short.effect[begin]) / 2
    torch.testing.assert_close(both.effect[row], expected)
    torch.testing.assert_close(both.effect[-1], long.effect[-1] + 0.5)
    with pytest.raises(InputError, match="none"):
        average([])
    with pytest.raises(InputError, match="2 kinds"):
        average([long, replace(long, kind="mlp")])


def test_json_holds_everything():
    found = trace(text_model(), PROMPT, SUBJECT, samples=2)
    data = json.loads(json.dumps(found.to_dict()))
    assert torch.equal(torch.tensor(data["effect"]), found.effect)
    assert data["tokens"] == list(found.tokens) and data["layers"] == [0, 1, 2]
    t, layer = found.peak
    assert data["effect"][t][layer] == max(max(row) for row in data["effect"])
    assert json.loads(json.dumps(average([found]).to_dict()))["facts"] == 1
