"""Every row is checked on numbers, on a tiny random model of its architecture."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BloomConfig, OPTConfig, PhiConfig
from transformers.pytorch_utils import Conv1D

from corrigenda.errors import ModelError, UnknownLayoutError
from corrigenda.models.layouts import LAYOUTS, Layout, layout_of
from corrigenda.models.linear import bias, image, is_linear, matrix, shape, transposed
from corrigenda.models.verify import verify

from .tiny import (
    CAUSAL,
    DECODER_LAYERS,
    ENCODER_DECODER,
    FAMILIES,
    HEADS,
    LAYERS,
    T5_GATED,
    VARIANTS,
    WIDTH,
    randomise,
    tiny,
)

ALL = (*CAUSAL, *VARIANTS)
EVERY = (*FAMILIES, *VARIANTS, T5_GATED)


def failures(module: nn.Module, layout: Layout, tokenizer: object = None) -> list[str]:
    return [str(c) for c in verify(module, layout, tokenizer) if not c.passed]


def read_back(source: str) -> Layout:
    def value(node: ast.expr) -> object:
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        return Layout(**{str(k.arg): value(k.value) for k in node.keywords})

    row = value(ast.parse(source, mode="eval").body)
    assert isinstance(row, Layout)
    return row


def test_there_is_one_family_per_row() -> None:
    assert set(FAMILIES) == set(LAYOUTS)
    assert all(kind == row.model_type for kind, row in LAYOUTS.items())


@pytest.mark.parametrize("name", EVERY)
def test_the_row_describes_the_model(name: str) -> None:
    module, tokenizer = tiny(name)
    assert failures(module, layout_of(module), tokenizer) == []


HALF = ("bart", "bert", "bloom", "falcon", "gemma2", "gpt2", "gptj", "olmo2", "opt", "t5")


@pytest.mark.parametrize("name", HALF)
def test_it_does_so_in_half_precision_too(name: str) -> None:
    module, tokenizer = tiny(name)
    assert failures(module.to(torch.bfloat16), layout_of(module), tokenizer) == []


@pytest.mark.parametrize("name", EVERY)
def test_verification_leaves_the_model_as_it_was(name: str) -> None:
    module, tokenizer = tiny(name)
    module.train()
    module.get_submodule(layout_of(module).blocks)[-1].eval()
    modes = [m.training for m in module.modules()]
    before = {n: p.clone() for n, p in module.named_parameters()}
    verify(module, layout_of(module), tokenizer)
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())
    hooks = [m for m in module.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == [m for m in tiny(name)[0].train().modules() if m._forward_hooks] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_each_wrong_row_is_noticed(name: str) -> None:
    module, tokenizer = tiny(name)
    whole = layout_of(module)
    for layout in _wrong(whole):
        assert failures(module, layout, tokenizer), layout.source()
    if whole.encoder is not None:
        for part in _wrong(whole.encoder):
            layout = replace(whole, encoder=part)
            assert failures(module, layout, tokenizer), layout.source()
        twice = replace(whole, encoder=replace(whole, encoder=None))
        assert failures(module, twice, tokenizer)


def _wrong(row: Layout) -> list[Layout]:
    """What is not so, in many ways."""
    others = {r: p for r, p in row.linears.items() if r not in ("down",)}
    wrong = [
        replace(row, parallel=not row.parallel),
        replace(row, mlp=row.attention),
        replace(row, linears={**row.linears, "down": row.linears["o"]}),
        replace(
            row,
            linears={**row.linears, "down": others.get("up", others.get("gate_up", others["o"]))},
        ),
        replace(row, linears=others),
        replace(row, blocks=row.blocks + "s"),
    ]
    if row.kind != "encoder-decoder" or row.encoder is not None:
        wrong += [replace(row, head=row.embedding), replace(row, decoder="")]
    if row.post_norm:
        wrong += [replace(row, post_norm=None), replace(row, attention_norm=None)]
        wrong += [replace(row, mlp=row.post_norm), replace(row, norm_last=not row.norm_last)]
    if row.cross and not row.norm_last:
        wrong += [replace(row, cross=None), replace(row, cross=row.attention)]
    return wrong


def test_a_whole_mlp_that_adds_the_residual_is_noticed() -> None:
    module, tokenizer = tiny("bloom")
    row = replace(layout_of(module), mlp="mlp")
    assert any("key" in f for f in failures(module, row, tokenizer))
    row = replace(layout_of(module), attention="self_attention")
    assert any("residual" in f for f in failures(module, row, tokenizer))


def test_shapes_of_the_tiny_models() -> None:
    for name in EVERY:
        module, tokenizer = tiny(name)
        row = layout_of(module)
        blocks = module.get_submodule(row.blocks)
        two_stacks = name in (*ENCODER_DECODER, T5_GATED)
        assert len(blocks) == (DECODER_LAYERS if two_stacks else LAYERS)
        down = blocks[0].get_submodule(row.down)
        assert shape(down)[0] == WIDTH
        assert shape(module.get_output_embeddings())[1] == WIDTH
        ids = tokenizer("The Eiffel Tower is in", return_tensors="pt")["input_ids"]
        more = {"decoder_input_ids": ids} if two_stacks else {}
        assert module(ids, **more).logits.isfinite().all()
    assert WIDTH % HEADS == 0


def test_tiny_models_are_the_same_each_time_and_differ_by_seed() -> None:
    (a, _), (b, _), (c, _) = tiny("llama"), tiny("llama"), tiny("llama", seed=1)
    pairs = zip(a.parameters(), b.parameters(), c.parameters(), strict=True)
    for x, y, z in pairs:
        assert torch.equal(x, y)
        assert not torch.equal(x, z)


# -- variants ---------------------------------------------------------------------------------


def test_parallel_is_read_from_the_configuration() -> None:
    kinds = {n: layout_of(tiny(n)[0]).parallel for n in ALL}
    assert {n for n, parallel in kinds.items() if parallel} == {
        "gptj",
        "gpt_neox",
        "falcon",
        "falcon-7b",
    }


def test_a_language_model_inside_a_larger_model_is_found() -> None:
    module, _ = tiny("gemma3")
    row = layout_of(module)
    assert row.model_type == "gemma3_text"
    assert row.blocks == "model.language_model.layers"
    assert row.head == "lm_head"


def _opt(**options: object) -> nn.Module:
    config = OPTConfig(
        vocab_size=50, hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=None, **options,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    "options",
    [
        {"do_layer_norm_before": False, "word_embed_proj_dim": 8},
        {"word_embed_proj_dim": 8},
        {"_remove_final_layer_norm": True, "word_embed_proj_dim": 16},
    ],
)
def test_opt_models_whose_blocks_are_no_plain_sum_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="not supported; use"):
        layout_of(_opt(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"apply_residual_connection_post_layernorm": True}, "behind the norm"),
        ({"pretraining_tp": 2, "slow_but_exact": True}, "slow_but_exact"),
    ],
)
def test_bloom_models_whose_blocks_are_no_plain_sum_are_refused(
    options: dict[str, object], message: str
) -> None:
    config = BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2, **options)
    with pytest.raises(ModelError, match=message):
        layout_of(AutoModelForCausalLM.from_config(config))


def test_a_model_without_head_is_refused() -> None:
    module, _ = tiny("llama")
    with pytest.raises(ModelError, match="without a language-model head"):
        layout_of(module.model)


def test_an_unknown_architecture_gets_a_row_and_what_to_do_with_it() -> None:
    config = PhiConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=None, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    module = AutoModelForCausalLM.from_config(config)
    randomise(module)
    with pytest.raises(UnknownLayoutError) as caught:
        layout_of(module)
    message = str(caught.value)
    assert "no layout for the architecture 'phi'" in message
    assert "load(..., layout=row)" in message and "layouts.py" in message
    assert "FAILED" not in message
    source = message[message.index("Layout(") : message.index("\n)") + 2]
    row = read_back(source)
    assert row.parallel and row.down == "mlp.fc2"
    assert failures(module, row) == []


def test_a_row_can_be_written_down_and_read_back() -> None:
    for row in LAYOUTS.values():
        assert read_back(row.source()) == row
        assert hash(row) == hash(replace(row))


# -- linear maps ------------------------------------------------------------------------------


@pytest.mark.parametrize("square", [True, False])
def test_both_storages_give_the_same_map(square: bool) -> None:
    o, i = (6, 6) if square else (6, 4)
    linear, stored = nn.Linear(i, o), Conv1D(o, i)
    stored.weight.data = linear.weight.data.T.clone()
    stored.bias.data = linear.bias.data.clone()
    assert not transposed(linear) and transposed(stored)
    assert shape(linear) == shape(stored) == (o, i)
    assert torch.equal(matrix(linear), matrix(stored))
    k = torch.randn(3, 5, i)
    torch.testing.assert_close(image(linear, k), linear(k))
    torch.testing.assert_close(image(stored, k), stored(k))
    assert bias(nn.Linear(2, 2, bias=False)) is None


def test_the_matrix_is_a_view() -> None:
    stored = Conv1D(3, 2)
    with torch.no_grad():
        matrix(stored)[2, 1] = 7.0
    assert float(stored.weight[1, 2].detach()) == 7.0


def test_what_is_no_plain_linear_map_is_refused() -> None:
    class Packed(nn.Linear):
        """As 4-bit layers do: a subclass whose weight is a packed column of bytes; here nothing
        says what these stand for."""

        def __init__(self) -> None:
            super().__init__(4, 4)
            self.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(2, 2)

        @property
        def weight(self) -> torch.Tensor:
            return self.base_layer.weight

    assert is_linear(Packed()) and not transposed(Packed()) and shape(Packed()) == (4, 4)
    assert not is_linear(nn.Embedding(3, 4))
    with pytest.raises(ModelError, match="unquantised"):
        matrix(Packed())
    with pytest.raises(ModelError, match="Merge the adapter"):
        transposed(Wrapped())
    with pytest.raises(ModelError, match="not a linear map"):
        matrix(nn.Embedding(3, 4))
