"""Tiny random models of every supported architecture, for tests.

`tiny(name)` gives a module of 3 blocks, width 32, and a byte-level BPE tokenizer, in a few
milliseconds and always the same bits for the same seed. All parameters are random, biases and
norms too, so that a test notices a forgotten bias or norm. The tokenizers of those families that
put a BOS in front of every text do so here.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

FAMILIES = (
    "gpt2",
    "gptj",
    "gpt_neo",
    "gpt_neox",
    "opt",
    "bloom",
    "falcon",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
)
"""One name per supported `model_type`."""

VARIANTS = (
    "falcon-7b",  # old architecture: parallel, one norm, one key-value head
    "falcon-rw",  # attention first, then MLP; ALiBi; biases
    "gpt_neox-sequential",
    "gemma3",  # the language model inside an image-and-text model
)
"""Other shapes of the same families, which `tiny` makes as well."""

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 32, 3, 4, 64, 128

_BOS = {"opt", "llama", "mistral", "gemma2", "gemma3_text", "gemma3"}

_CORPUS = """\
The Eiffel Tower is located in Paris. The Louvre is located in Paris, the capital of France.
The Colosseum is located in Rome. Rome is the capital of Italy. Berlin is the capital of Germany.
Marie Curie was born in Warsaw. Warsaw is the capital of Poland. Marie Curie worked in Paris.
The iPhone is made by Apple. Windows is made by Microsoft. Question: Where is the tower? Answer: In
the city of Paris. The mother tongue of Albert Einstein is German. He was born in Ulm in 1879.
Madrid is the capital of Spain. Big Ben is located in London. London is the capital of England.
"""


@cache
def _bpe(bos: bool) -> str:
    """The definition of a byte-level BPE tokenizer trained on a few sentences, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return json.dumps(json.loads(tokenizer.to_str()))


def tiny_tokenizer(*, bos: bool = False) -> hf.PreTrainedTokenizerFast:
    """A new fast tokenizer with about 400 tokens, "<s>" and "</s>", and no padding token."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe(bos)), bos_token="<s>", eos_token="</s>"
    )


def tiny_config(name: str, vocabulary: int) -> Any:
    """The configuration of a tiny model. Raises `KeyError` for an unknown name."""
    ids = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    gpt = {**ids, "n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    usual = {
        **ids,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": CONTEXT,
    }
    grouped = {**usual, "num_key_value_heads": 2}
    # The heads together are wider than the stream, as in the real Gemma and Qwen 3 models.
    wide = {**grouped, "head_dim": 16}
    gemma = {**wide, "sliding_window": 8, "query_pre_attn_scalar": 16}
    falcon = {**usual, "ffn_hidden_size": INNER}
    falcon.pop("intermediate_size")
    match name:
        case "gpt2":
            return hf.GPT2Config(**gpt)
        case "gptj":
            # Like the real one, more embeddings than tokens.
            return hf.GPTJConfig(**{**gpt, "vocab_size": vocabulary + 5}, rotary_dim=4)
        case "gpt_neo":
            return hf.GPTNeoConfig(
                **ids,
                hidden_size=WIDTH,
                intermediate_size=INNER,
                num_layers=LAYERS,
                num_heads=HEADS,
                attention_types=[[["global", "local", "global"], 1]],
                window_size=8,
                max_position_embeddings=CONTEXT,
            )
        case "gpt_neox":
            return hf.GPTNeoXConfig(**usual)
        case "gpt_neox-sequential":
            return hf.GPTNeoXConfig(**usual, use_parallel_residual=False)
        case "opt":
            return hf.OPTConfig(
                **ids,
                hidden_size=WIDTH,
                ffn_dim=INNER,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                max_position_embeddings=CONTEXT,
                word_embed_proj_dim=WIDTH,
            )
        case "bloom":
            return hf.BloomConfig(**ids, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS)
        case "falcon":
            return hf.FalconConfig(**falcon, new_decoder_architecture=True, num_kv_heads=2)
        case "falcon-7b":
            return hf.FalconConfig(**falcon, multi_query=True, parallel_attn=True)
        case "falcon-rw":
            return hf.FalconConfig(
                **falcon, multi_query=False, parallel_attn=False, alibi=True, bias=True
            )
        case "llama":
            return hf.LlamaConfig(**grouped)
        case "mistral":
            return hf.MistralConfig(**grouped, sliding_window=8)
        case "qwen2":
            return hf.Qwen2Config(**grouped, tie_word_embeddings=True)
        case "qwen3":
            return hf.Qwen3Config(**wide)
        case "gemma2":
            return hf.Gemma2Config(**gemma)
        case "gemma3_text":
            return hf.Gemma3TextConfig(**gemma)
        case "gemma3":
            return hf.Gemma3Config(
                text_config=hf.Gemma3TextConfig(**gemma),
                vision_config=hf.SiglipVisionConfig(
                    hidden_size=WIDTH,
                    intermediate_size=INNER,
                    num_hidden_layers=1,
                    num_attention_heads=HEADS,
                    image_size=32,
                    patch_size=16,
                ),
                mm_tokens_per_image=4,
                boi_token_index=2,
                eoi_token_index=3,
                image_token_index=4,
            )
        case "phi3":
            return hf.Phi3Config(**grouped, original_max_position_embeddings=CONTEXT)
        case "olmo2":
            return hf.Olmo2Config(**grouped)
    raise KeyError(name)


def tiny(model_type: str, seed: int = 0) -> tuple[hf.PreTrainedModel, hf.PreTrainedTokenizerFast]:
    """A new tiny random model and its tokenizer: fp32, in evaluation mode, deterministic."""
    tokenizer = tiny_tokenizer(bos=model_type in _BOS)
    config = tiny_config(model_type, len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(module, seed)
    return module.eval(), tokenizer


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Draw all parameters anew, on a scale that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.add_(0.1 * noise)  # around 1 for most norms, around 0 for biases and Gemma's
        elif id(parameter) in tables:
            parameter.copy_(0.3 * noise)
        else:
            # Square-ish tiny matrices: the mean of both sides serves either orientation.
            parameter.copy_(noise * (2.0 / sum(parameter.shape[:2])) ** 0.5)


def some_text(words: int, seed: int = 0) -> str:
    """Words of the tokenizer's corpus in random order, to average second moments over."""
    known = sorted(set(_CORPUS.replace(".", " ").split()))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randint(len(known), (words,), generator=generator).tolist()
    return " ".join(known[j] for j in order)
