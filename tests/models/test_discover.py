"""Proposals for unknown architectures, and what the checks say about them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    MambaConfig,
    OlmoConfig,
    Qwen2MoeConfig,
)

from corrigenda.errors import ModelError
from corrigenda.models.discover import explain, propose
from corrigenda.models.layouts import layout_of
from corrigenda.models.verify import gap, noise_like, verify

from .tiny import FAMILIES, T5_GATED, VARIANTS, randomise, tiny

SMALL = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip


def made(config: object) -> nn.Module:
    module = AutoModelForCausalLM.from_config(config)
    randomise(module)
    return module.eval()


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS, T5_GATED])
def test_known_rows_are_found_again_from_the_structure(name: str) -> None:
    module, _ = tiny(name)
    # `propose` does not look at the table, so the architecture is as good as unknown.
    found, known = propose(module), layout_of(module)
    if known.encoder is not None:
        # How an answer is spelt cannot be seen in the structure.
        known = replace(known, answer_space=True, encoder=replace(known.encoder, answer_space=True))
    assert found == known


def test_the_proposal_does_not_depend_on_the_mode_and_keeps_it() -> None:
    module, _ = tiny("gpt2")  # with dropout 0.1
    module.train()
    assert propose(module) == layout_of(module)
    assert all(m.training for m in module.modules())


def test_norms_without_parameters_are_found() -> None:
    module = made(OlmoConfig(**SMALL))
    row = propose(module)
    assert row.final_norm == "model.norm"
    assert all(c.passed for c in verify(module, row))


def test_a_scaled_residual_sum_fails_its_check() -> None:
    plain, scaled = (made(GraniteConfig(**SMALL, residual_multiplier=m)) for m in (1.0, 0.3))
    assert all(c.passed for c in verify(plain, propose(plain)))
    failed = {c.name.partition(",")[0] for c in verify(scaled, propose(scaled)) if not c.passed}
    assert failed == {"residual", "intervention"}
    message = explain(scaled)
    assert "FAILED residual, layer 0" in message and "must not be used as it is" in message
    assert "block output = h + a + m" in message


def test_a_shared_expert_is_not_taken_for_the_mlp() -> None:
    module = made(
        Qwen2MoeConfig(
            **SMALL,
            num_key_value_heads=2,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=8,
            shared_expert_intermediate_size=24,
        )
    )
    assert "shared_expert" in propose(module).down
    assert any(not c.passed for c in verify(module, propose(module)))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1), "attention"),
        (
            GptOssConfig(
                **SMALL, num_local_experts=2, num_experts_per_tok=1, num_key_value_heads=2
            ),
            "mixture of experts",
        ),
    ],
)
def test_what_cannot_be_proposed_is_named(config: object, reason: str) -> None:
    module = made(config)
    with pytest.raises(ModelError, match=reason):
        propose(module)
    message = explain(module)
    assert reason in message and "write the paths down as a Layout" in message


def test_a_bert_that_runs_as_a_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match="runs as a decoder"):
        layout_of(made(BertConfig(**SMALL, is_decoder=True)))


def test_no_blocks_at_all() -> None:
    module = made(GPT2Config(vocab_size=60, n_embd=16, n_layer=0, n_head=2, n_positions=16))
    with pytest.raises(ModelError, match="no list of equal blocks"):
        propose(module)


def test_gap_is_relative_and_knows_what_cannot_be_compared() -> None:
    a = torch.tensor([0.0, 100.0])
    assert gap(a + 1, a) == pytest.approx(0.01)
    assert gap(a, a) == 0.0
    assert gap(a, torch.zeros(3)) == float("inf")
    assert gap(torch.tensor([float("nan"), 1.0]), a) == float("inf")


def test_noise_is_repeatable_and_of_the_size_asked_for() -> None:
    like = torch.randn(100, 100, generator=torch.Generator().manual_seed(3)) * 5
    assert torch.equal(noise_like(like, 1), noise_like(like, 1))
    assert not torch.equal(noise_like(like, 1), noise_like(like, 2))
    assert float(noise_like(like).std()) == pytest.approx(5, rel=0.05)
