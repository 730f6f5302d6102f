"""The logit lens: the last layer is the model, and the others are their own last layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corrigenda.locate import lens, lens_everywhere
from corrigenda.models.hooks import captured

from ..models.tiny import (
    CAUSAL,
    DECODER_LAYERS,
    ENCODER_DECODER,
    LAYERS,
    MASKED,
    VARIANTS,
    model_of,
)
from .test_trace import text_model

PROMPT = "The Eiffel Tower is located in"


@pytest.mark.parametrize("family", [*CAUSAL, *VARIANTS])
def test_the_last_layer_is_the_model(family):
    model = text_model(family)
    found = lens(model, PROMPT)
    assert found.logprobs.shape[0] == LAYERS
    torch.testing.assert_close(
        found.logprobs[-1], model.next_logprobs([PROMPT])[0], rtol=1e-4, atol=1e-4
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "bloom", "opt"])
def test_a_layer_speaks_as_if_it_were_the_last(family):
    """A model cut off after block l says what the lens reads there."""
    model = text_model(family)
    found = lens(model, PROMPT)
    parent, _, name = model.layout.blocks.rpartition(".")
    blocks = list(model.blocks)
    for layer in range(LAYERS):
        setattr(model.module.get_submodule(parent), name, nn.ModuleList(blocks[: layer + 1]))
        config = model.module.config.get_text_config()
        config.num_hidden_layers = layer + 1
        cut = model.next_logprobs([PROMPT])[0]
        torch.testing.assert_close(found.logprobs[layer], cut, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [*MASKED, *ENCODER_DECODER])
def test_other_kinds_are_read_where_they_answer(family):
    """A masked model at its mask, an encoder-decoder in the layers of its decoder."""
    model = model_of(family)
    found = lens(model, PROMPT)
    count = LAYERS if family in MASKED else DECODER_LAYERS
    assert found.layers == tuple(range(model.n_layers - count, model.n_layers))
    torch.testing.assert_close(
        found.logprobs[-1], model.next_logprobs([PROMPT])[0], rtol=1e-4, atol=1e-4
    )
    # The layer before: its state, through the model's own end.
    question = model.force([model.opening(PROMPT)])
    with torch.no_grad(), captured({"h": (model.block(found.layers[-2]), "output")}) as seen:
        model.target_logits(question)
    state = seen["h"][question.row, question.column]
    if model.final_norm is not None:
        state = model.final_norm(state)
    with torch.no_grad():
        logits = model.head(state[None])[0, 0]
        scale = model.width**-0.5 if getattr(model.module.config, "scale_decoder_outputs", 0) else 1
        wanted = (scale * logits).log_softmax(-1)
    if family != "bart":  # adds a constant to its logits
        torch.testing.assert_close(found.logprobs[-2], wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(IndexError):
        lens(model, PROMPT, 40)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_ranks_tops_and_positions():
    model = text_model()
    found = lens(model, PROMPT)
    best = [tokens[0][0] for tokens in found.top(2)]
    assert best == found.logprobs.argmax(-1).tolist()
    assert [found.rank(token)[j] for j, token in enumerate(best)] == [0] * LAYERS
    assert found.rank(found.top(2)[0][1][0])[0] == 1
    assert found.top()[0][0][1] == pytest.approx(float(found.logprobs[0].max().exp()))
    words = model.ids(PROMPT)
    earlier = lens(model, model.tokenizer.decode(words[:3]))
    torch.testing.assert_close(lens(model, PROMPT, 2).logprobs, earlier.logprobs)
    with pytest.raises(IndexError):
        lens(model, PROMPT, len(words))


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bert"])
def test_everywhere_is_each_position_by_itself(family: str) -> None:
    model = model_of(family)
    prompt = "The Eiffel Tower is located in"
    tokens, found = lens_everywhere(model, prompt)
    assert len(tokens) == len(found)
    for position, one in enumerate(found):
        alone = lens(model, prompt, position)
        assert one.layers == alone.layers
        assert torch.allclose(one.logprobs, alone.logprobs, atol=1e-5)
