"""The one place that knows architectures: where the parts of a language model are.

One row per Hugging Face `model_type`, in `LAYOUTS`. The residual stream `h` (b, t, d) of block l is

    sequential   a = attention(norm(h));   h' = h + a;   h'' = h' + mlp(norm(h'))
    parallel     h'' = h + attention(norm(h)) + mlp(norm(h))
    post-norm    h' = h + norm(attention(·));            h'' = h' + post_norm(mlp(·))
    norm last    h' = norm(h + attention(h));            h'' = post_norm(h' + mlp(h'))

A decoder that reads an encoder adds cross-attention between the two in the same manner.

and `mlp` is always the value *before* it is added and before any post-norm, which is exactly the
output of the linear map `down`, bias included. `discover.verify` checks all of this on numbers.

To support another architecture: `discover.propose(module)` writes the row; add it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from ..errors import ModelError, UnknownLayoutError

__all__ = ["GGUF_ADAPTERS", "LAYOUTS", "Layout", "has", "layout_of", "outside", "text_type"]

GGUF_ADAPTERS = {
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
}
"""Architectures whose LoRA adapters llama.cpp's script converts."""


@dataclass(frozen=True)
class Layout:
    """Paths of the parts of one architecture. Paths are as in `module.named_modules()`.

    decoder         the base model, whose output has `last_hidden_state`: "transformer", "model".
    blocks          the list of blocks: "transformer.h", "model.layers".
    mlp             inside a block: the module whose output is the MLP's, before the residual sum
                    and before any post-norm. Where the MLP module adds the residual itself
                    (BLOOM), or there is none (OPT), it is the down-projection. "down" may be a
                    stack of experts, whose routed keys are the key.
    attention       inside a block: likewise for attention.
    linears         role -> path inside a block. Roles: down, up, gate, gate_up (fused), q, k, v,
                    qkv (fused), o.
    final_norm      the norm after the last block.
    head            the unembedding, a linear map (often tied to the embedding).
    embedding       the token embedding of this stack.
    parallel        attention and MLP read the same residual stream and are added together.
    post_norm       inside a block: the norm applied to the MLP output before it is added.
    attention_norm  inside a block: the norm applied to the attention output before it is added.
    gated           the MLP's key is act(gate k) * (up k).
    kind            causal; encoder-decoder; masked.
    encoder         of an encoder-decoder: the row of its encoder. The row itself then describes the
                    decoder, whose layers are counted after the encoder's.
    cross           inside a block of a decoder that reads an encoder: likewise for cross-attention.
    norm_last       the norms come after the residual sums (BERT, BART).
    position_offset number of the first position, where the model does not count from 0 (RoBERTa).
    answer_space    of an encoder-decoder: an answer begins with a space, as in the middle of text.
    """

    model_type: str
    decoder: str
    blocks: str
    mlp: str
    attention: str
    linears: Mapping[str, str] = field(hash=False)
    final_norm: str | None
    head: str
    embedding: str
    parallel: bool = False
    post_norm: str | None = None
    gated: bool = False
    attention_norm: str | None = None
    kind: Literal["causal", "encoder-decoder", "masked"] = "causal"
    encoder: Layout | None = None
    cross: str | None = None
    norm_last: bool = False
    position_offset: int = 0
    answer_space: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "linears", dict(self.linears))

    @property
    def down(self) -> str:
        """Path of the down-projection inside a block."""
        return self.linears["down"]

    def source(self) -> str:
        """The row as Python source, ready for `LAYOUTS` or for `load(..., layout=row)`."""
        lines = []
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value == self.__dataclass_fields__[name].default:
                continue
            lines.append(f"    {name}={_quoted(value)},")
        return "Layout(\n" + "\n".join(lines) + "\n)"


def _quoted(value: object) -> str:
    if isinstance(value, Layout):
        return value.source().replace("\n", "\n    ")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(k)}: {_quoted(v)}" for k, v in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


_SPLIT_ATTENTION = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
}
_GATED_MLP = {"down": "mlp.down_proj", "up": "mlp.up_proj", "gate": "mlp.gate_proj"}

_EXPERTS = {"down": "mlp.experts", **_SPLIT_ATTENTION}

_LLAMA = Layout(
    model_type="llama",
    decoder="model",
    blocks="model.layers",
    mlp="mlp",
    attention="self_attn",
    linears={**_GATED_MLP, **_SPLIT_ATTENTION},
    final_norm="model.norm",
    head="lm_head",
    embedding="model.embed_tokens",
    gated=True,
)
_GEMMA = replace(
    _LLAMA,
    post_norm="post_feedforward_layernorm",
    attention_norm="post_attention_layernorm",
)

_ROWS = (
    Layout(
        model_type="gpt2",
        decoder="transformer",
        blocks="transformer.h",
        mlp="mlp",
        attention="attn",
        linears={
            "down": "mlp.c_proj",
            "up": "mlp.c_fc",
            "qkv": "attn.c_attn",
            "o": "attn.c_proj",
        },
        final_norm="transformer.ln_f",
        head="lm_head",
        embedding="transformer.wte",
    ),
    Layout(
        model_type="gptj",
        decoder="transformer",
        blocks="transformer.h",
        mlp="mlp",
        attention="attn",
        linears={
            "down": "mlp.fc_out",
            "up": "mlp.fc_in",
            "q": "attn.q_proj",
            "k": "attn.k_proj",
            "v": "attn.v_proj",
            "o": "attn.out_proj",
        },
        final_norm="transformer.ln_f",
        head="lm_head",
        embedding="transformer.wte",
        parallel=True,
    ),
    Layout(
        model_type="gpt_neo",
        decoder="transformer",
        blocks="transformer.h",
        mlp="mlp",
        attention="attn",
        linears={
            "down": "mlp.c_proj",
            "up": "mlp.c_fc",
            "q": "attn.attention.q_proj",
            "k": "attn.attention.k_proj",
            "v": "attn.attention.v_proj",
            "o": "attn.attention.out_proj",
        },
        final_norm="transformer.ln_f",
        head="lm_head",
        embedding="transformer.wte",
    ),
    Layout(
        model_type="gpt_neox",
        decoder="gpt_neox",
        blocks="gpt_neox.layers",
        mlp="mlp",
        attention="attention",
        linears={
            "down": "mlp.dense_4h_to_h",
            "up": "mlp.dense_h_to_4h",
            "qkv": "attention.query_key_value",
            "o": "attention.dense",
        },
        final_norm="gpt_neox.final_layer_norm",
        head="lm_head",
        embedding="gpt_neox.embed_in",
        parallel=True,
    ),
    Layout(
        model_type="opt",
        decoder="model.decoder",
        blocks="model.decoder.layers",
        mlp="fc2",  # no MLP module: fc1 and fc2 stand in the block
        attention="self_attn",
        linears={
            "down": "fc2",
            "up": "fc1",
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "o": "self_attn.out_proj",
        },
        final_norm="model.decoder.final_layer_norm",
        head="lm_head",
        embedding="model.decoder.embed_tokens",
    ),
    Layout(
        model_type="bloom",
        decoder="transformer",
        blocks="transformer.h",
        mlp="mlp.dense_4h_to_h",  # the MLP module returns its output plus the residual
        attention="self_attention.dense",  # and so does attention
        linears={
            "down": "mlp.dense_4h_to_h",
            "up": "mlp.dense_h_to_4h",
            "qkv": "self_attention.query_key_value",
            "o": "self_attention.dense",
        },
        final_norm="transformer.ln_f",
        head="lm_head",
        embedding="transformer.word_embeddings",
    ),
    Layout(
        model_type="falcon",
        decoder="transformer",
        blocks="transformer.h",
        # The block adds attention to the MLP output in place (`mlp_output += ...`): a reader that
        # keeps the tensor instead of a copy sees the sum.
        mlp="mlp",
        attention="self_attention",
        linears={
            "down": "mlp.dense_4h_to_h",
            "up": "mlp.dense_h_to_4h",
            "qkv": "self_attention.query_key_value",
            "o": "self_attention.dense",
        },
        final_norm="transformer.ln_f",
        head="lm_head",
        embedding="transformer.word_embeddings",
        parallel=True,
    ),
    _LLAMA,
    replace(_LLAMA, model_type="mistral"),
    replace(_LLAMA, model_type="qwen2"),
    replace(_LLAMA, model_type="qwen3"),
    replace(_GEMMA, model_type="gemma2"),
    replace(_GEMMA, model_type="gemma3_text"),
    replace(
        _LLAMA,
        model_type="phi3",
        linears={
            "down": "mlp.down_proj",
            "gate_up": "mlp.gate_up_proj",
            "qkv": "self_attn.qkv_proj",
            "o": "self_attn.o_proj",
        },
    ),
    replace(_GEMMA, model_type="olmo2"),
    # All experts of a layer are one linear map of their routed keys; see `experts.py`.
    replace(_LLAMA, model_type="mixtral", linears=_EXPERTS),
    replace(_LLAMA, model_type="qwen3_moe", linears=_EXPERTS),
)

# -- encoder-decoders -------------------------------------------------------------------------

_T5_ENCODER = Layout(
    model_type="t5",
    decoder="encoder",
    blocks="encoder.block",
    mlp="layer.1.DenseReluDense",  # the module around it adds the residual
    attention="layer.0.SelfAttention",
    linears={
        "down": "layer.1.DenseReluDense.wo",
        "up": "layer.1.DenseReluDense.wi",
        "q": "layer.0.SelfAttention.q",
        "k": "layer.0.SelfAttention.k",
        "v": "layer.0.SelfAttention.v",
        "o": "layer.0.SelfAttention.o",
    },
    final_norm="encoder.final_layer_norm",
    head="lm_head",
    embedding="encoder.embed_tokens",
    kind="encoder-decoder",
)
_T5 = replace(
    _T5_ENCODER,
    decoder="decoder",
    blocks="decoder.block",
    mlp="layer.2.DenseReluDense",
    linears={
        role: path.replace("layer.1.", "layer.2.") for role, path in _T5_ENCODER.linears.items()
    },
    final_norm="decoder.final_layer_norm",
    embedding="decoder.embed_tokens",
    encoder=_T5_ENCODER,
    cross="layer.1.EncDecAttention",
)
_BART_ENCODER = Layout(
    model_type="bart",
    decoder="model.encoder",
    blocks="model.encoder.layers",
    mlp="fc2",
    attention="self_attn",
    linears={
        "down": "fc2",
        "up": "fc1",
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.out_proj",
    },
    final_norm=None,
    head="lm_head",
    embedding="model.encoder.embed_tokens",
    post_norm="final_layer_norm",
    attention_norm="self_attn_layer_norm",
    norm_last=True,
    kind="encoder-decoder",
    answer_space=False,
)
_BART = replace(
    _BART_ENCODER,
    decoder="model.decoder",
    blocks="model.decoder.layers",
    embedding="model.decoder.embed_tokens",
    encoder=_BART_ENCODER,
    cross="encoder_attn",
)

# -- masked language models -------------------------------------------------------------------

_BERT = Layout(
    model_type="bert",
    decoder="bert.encoder",
    blocks="bert.encoder.layer",
    mlp="output.dense",  # the module around it adds the residual and normalises
    attention="attention.output.dense",
    linears={
        "down": "output.dense",
        "up": "intermediate.dense",
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
    },
    final_norm=None,
    head="cls",
    embedding="bert.embeddings.word_embeddings",
    post_norm="output.LayerNorm",
    attention_norm="attention.output.LayerNorm",
    norm_last=True,
    kind="masked",
)
_ROBERTA = replace(
    _BERT,
    model_type="roberta",
    decoder="roberta.encoder",
    blocks="roberta.encoder.layer",
    head="lm_head",
    embedding="roberta.embeddings.word_embeddings",
)

_ROWS = (*_ROWS, _T5, _BART, _BERT, _ROBERTA)

LAYOUTS: Mapping[str, Layout] = MappingProxyType({row.model_type: row for row in _ROWS})
"""`model_type` -> row. A row whose parts depend on the configuration is adjusted in `layout_of`."""


def text_type(module: nn.Module) -> str:
    """The `model_type` of the language model, also where it is part of a larger model."""
    config: Any = module.config
    return config.get_text_config(decoder=True).model_type


def has(module: nn.Module, path: str) -> bool:
    """Whether the module has a submodule at that path."""
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def outside(row: Layout) -> list[str]:
    """The paths of a row that do not lie inside a block."""
    parts = (row.decoder, row.blocks, row.final_norm, row.head, row.embedding)
    return [p for p in parts if p is not None]


def layout_of(module: nn.Module) -> Layout:
    """The row for a language model, adjusted to its configuration.

    Raises `UnknownLayoutError` for an architecture without a row; the message carries a row that
    was proposed from the structure, and what its numerical checks say. Raises `ModelError` for a
    variant of a known architecture whose blocks are not a sum of attention, MLP and residual.
    """
    kind = text_type(module)
    if kind not in LAYOUTS:
        from .discover import explain  # imports this file

        raise UnknownLayoutError(explain(module))
    row = LAYOUTS[kind]
    if kind in _ADJUST:
        config: Any = module.config
        row = _ADJUST[kind](row, config.get_text_config(decoder=True))
    if not has(module, row.blocks) and has(module, _nested(row.blocks)):
        # A language model inside an image-and-text model.
        row = replace(
            row,
            decoder=_nested(row.decoder),
            blocks=_nested(row.blocks),
            final_norm=_nested(row.final_norm or ""),
            embedding=_nested(row.embedding),
        )
    missing = [p for p in outside(row) if not has(module, p)]
    if missing:
        raise ModelError(
            f"{type(module).__name__} is of type {kind!r} but has no {', '.join(missing)}. "
            "Is it a model without a language-model head, or wrapped by another library? "
            "Load it with the class of transformers that has one, or pass the paths as "
            "load(..., layout=Layout(...))."
        )
    return row


def _nested(path: str) -> str:
    return "model.language_model" + path.removeprefix("model")


def _gpt_neox(row: Layout, config: Any) -> Layout:
    return replace(row, parallel=bool(config.use_parallel_residual))


def _falcon(row: Layout, config: Any) -> Layout:
    return replace(row, parallel=bool(config.new_decoder_architecture or config.parallel_attn))


def _opt(row: Layout, config: Any) -> Layout:
    if not config.do_layer_norm_before:
        raise ModelError(
            "This OPT model normalises after each residual sum (do_layer_norm_before=False, as "
            "opt-350m does), so a change of an MLP output is not a change of the block output, and "
            "there is no final norm. It is not supported; use another size, such as "
            "facebook/opt-125m or facebook/opt-1.3b."
        )
    if config._remove_final_layer_norm or config.word_embed_proj_dim != config.hidden_size:
        raise ModelError(
            "This OPT model has no final norm, or a projection between it and the head "
            "(_remove_final_layer_norm, word_embed_proj_dim). It is not supported; use a "
            "checkpoint saved by transformers 4.20 or later, such as facebook/opt-125m."
        )
    return row


def _bloom(row: Layout, config: Any) -> Layout:
    if config.apply_residual_connection_post_layernorm:
        raise ModelError(
            "This BLOOM model carries the residual from behind the norm "
            "(apply_residual_connection_post_layernorm=True), so its blocks are not a sum of the "
            "stream, attention and MLP. It is not supported; bigscience/bloom-* are."
        )
    if config.pretraining_tp > 1 and config.slow_but_exact:
        raise ModelError(
            "This BLOOM model multiplies by slices of its matrices (slow_but_exact=True), past "
            "the linear modules that edits read. Set config.slow_but_exact = False and load again."
        )
    return row


def _t5(row: Layout, config: Any) -> Layout:
    if not config.is_gated_act:
        return row

    def gated(part: Layout) -> Layout:
        inner = part.linears["up"].rpartition(".")[0]
        linears = {**part.linears, "gate": f"{inner}.wi_0", "up": f"{inner}.wi_1"}
        return replace(part, linears=linears, gated=True)

    assert row.encoder is not None
    return replace(gated(row), encoder=gated(row.encoder))


def _bert(row: Layout, config: Any) -> Layout:
    if config.is_decoder:
        raise ModelError(
            f"This {row.model_type} model runs as a decoder (is_decoder=True). It is not supported; "
            "load a checkpoint that was trained to fill masks, with AutoModelForMaskedLM."
        )
    return row


def _roberta(row: Layout, config: Any) -> Layout:
    row = _bert(row, config)
    return replace(row, position_offset=config.pad_token_id + 1)


_ADJUST: Mapping[str, Callable[[Layout, Any], Layout]] = {
    "bert": _bert,
    "bloom": _bloom,
    "falcon": _falcon,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "roberta": _roberta,
    "t5": _t5,
}
