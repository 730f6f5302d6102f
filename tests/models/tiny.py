"""Tiny random models of every supported architecture, for tests.

`tiny(name)` gives a module of 3 blocks (and 2 more in the decoder of an encoder-decoder), width 32,
and a tokenizer, in a few milliseconds and always the same bits for the same seed. All parameters
are random, biases and norms too, so that a test notices a forgotten bias or norm. Tokenizers are of
the kind that the family has and put the same special tokens around a text: byte-level BPE for most,
with a BOS for some; a unigram model with sentinels for T5; word pieces of lower case for BERT.
`model_of(name)` wraps both.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import torch
import transformers as hf
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import nn

from corrigenda.models.text import TextModel

CAUSAL = (
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
MOE = ("mixtral", "qwen3_moe")
ENCODER_DECODER = ("t5", "bart")
MASKED = ("bert", "roberta")
FAMILIES = (*CAUSAL, *MOE, *ENCODER_DECODER, *MASKED)
"""One name per supported `model_type`."""
KIND = {
    **dict.fromkeys((*CAUSAL, *MOE), "causal"),
    **dict.fromkeys(ENCODER_DECODER, "encoder-decoder"),
    **dict.fromkeys(MASKED, "masked"),
}

VARIANTS = (
    "falcon-7b",  # old architecture: parallel, one norm, one key-value head
    "falcon-rw",  # attention first, then MLP; ALiBi; biases
    "gpt_neox-sequential",
    "gemma3",  # the language model inside an image-and-text model
)
"""Other shapes of the same causal families, which `tiny` makes as well."""

T5_GATED = "t5-gated"  # T5 1.1 and FLAN-T5

WIDTH, LAYERS, DECODER_LAYERS, HEADS, INNER, CONTEXT = 32, 3, 2, 4, 64, 128
SENTINELS = tuple(f"<extra_id_{j}>" for j in range(4))

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


def _surrounded(tokenizer: Tokenizer, first: str | None, last: str) -> None:
    marks = [(t, tokenizer.token_to_id(t)) for t in (first, last) if t]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first or ''} $A {last}".strip(), special_tokens=marks
    )


@cache
def _bart() -> str:
    """Byte-level BPE with the special tokens of BART and RoBERTa, under their ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    _surrounded(tokenizer, "<s>", "</s>")
    return tokenizer.to_str()


def _some_words() -> list[str]:
    """Two in three words of the corpus, so that the others have several tokens. The libraries'
    own trainers give another vocabulary in each process."""
    words = sorted(set(re.findall(r"\w+", _CORPUS)))
    return [word for j, word in enumerate(words) if j % 3 or word in ("Rome", "Paris")]


@cache
def _t5() -> str:
    """A unigram model as SentencePiece makes it, with an EOS after every text and sentinels."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    letters = [(chr(c), -12.0) for c in range(33, 127)]
    words = [(f"▁{word}", -5.0 - 0.01 * j) for j, word in enumerate(_some_words())]
    tokenizer = Tokenizer(models.Unigram([*special, ("▁", -8.0), *letters, *words], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SENTINELS))
    _surrounded(tokenizer, None, "</s>")
    return tokenizer.to_str()


@cache
def _bert() -> str:
    """Word pieces of lower-case text between [CLS] and [SEP]."""
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    pieces += sorted({word.lower() for word in _some_words()} - set(letters))
    vocabulary = {piece: j for j, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _surrounded(tokenizer, "[CLS]", "[SEP]")
    return tokenizer.to_str()


def tokenizer_of(family: str) -> hf.PreTrainedTokenizerFast:
    """A new fast tokenizer of the kind that the family has."""
    usual = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if family in ("t5", T5_GATED):
        usual.pop("bos_token")
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_t5()),
            extra_special_tokens=list(SENTINELS),
            **usual,
        )
    if family in ("bart", "roberta"):
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_bart()),
            mask_token=AddedToken("<mask>", lstrip=True, normalized=False),
            cls_token="<s>",
            sep_token="</s>",
            **usual,
        )
    if family == "bert":
        names = ("pad", "unk", "cls", "sep", "mask")
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_bert()),
            **{f"{name}_token": f"[{name.upper()}]" for name in names},
        )
    return tiny_tokenizer(bos=family in _BOS)


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
        case "mixtral":
            experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
            return hf.MixtralConfig(**{**grouped, "intermediate_size": 16}, **experts)
        case "qwen3_moe":
            experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
            return hf.Qwen3MoeConfig(**wide, **experts)
        case "t5" | "t5-gated":
            return hf.T5Config(
                vocab_size=vocabulary,
                d_model=WIDTH,
                d_kv=WIDTH // HEADS,
                d_ff=INNER,
                num_layers=LAYERS,
                num_decoder_layers=DECODER_LAYERS,
                num_heads=HEADS,
                relative_attention_num_buckets=8,
                relative_attention_max_distance=16,
                feed_forward_proj="relu" if name == "t5" else "gated-gelu",
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
            )
        case "bart":
            return hf.BartConfig(
                vocab_size=vocabulary,
                d_model=WIDTH,
                encoder_layers=LAYERS,
                decoder_layers=DECODER_LAYERS,
                encoder_attention_heads=HEADS,
                decoder_attention_heads=HEADS,
                encoder_ffn_dim=INNER,
                decoder_ffn_dim=INNER,
                max_position_embeddings=CONTEXT,
                pad_token_id=1,
                bos_token_id=0,
                eos_token_id=2,
                decoder_start_token_id=2,
            )
        case "bert":
            special = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
            return hf.BertConfig(**{**usual, **special})
        case "roberta":
            special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
            # As in the real one, two positions are never used.
            more = {"max_position_embeddings": CONTEXT + 2, "type_vocab_size": 1}
            return hf.RobertaConfig(**{**usual, **special, **more})
    raise KeyError(name)


def _auto(name: str) -> Any:
    if name in (*ENCODER_DECODER, T5_GATED):
        return hf.AutoModelForSeq2SeqLM
    return hf.AutoModelForMaskedLM if name in MASKED else hf.AutoModelForCausalLM


def tiny(model_type: str, seed: int = 0) -> tuple[hf.PreTrainedModel, hf.PreTrainedTokenizerFast]:
    """A new tiny random model and its tokenizer: fp32, in evaluation mode, deterministic."""
    tokenizer = tokenizer_of(model_type)
    config = tiny_config(model_type, len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _auto(model_type).from_config(config, dtype=torch.float32)
    randomise(module, seed)
    return module.eval(), tokenizer


def model_of(name: str, seed: int = 0) -> TextModel:
    """`tiny(name)` as editors see it."""
    return TextModel.of(*tiny(name, seed), name)


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
        elif parameter.ndim == 3:  # experts
            parameter.copy_(noise * (2.0 / sum(parameter.shape[1:])) ** 0.5)
        else:
            # Square-ish tiny matrices: the mean of both sides serves either orientation.
            parameter.copy_(noise * (2.0 / sum(parameter.shape[:2])) ** 0.5)


def some_text(words: int, seed: int = 0) -> str:
    """Words of the tokenizer's corpus in random order, to average second moments over."""
    known = sorted(set(_CORPUS.replace(".", " ").split()))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randint(len(known), (words,), generator=generator).tolist()
    return " ".join(known[j] for j in order)
