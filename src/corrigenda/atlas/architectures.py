"""The four architectures that Atlas comes in: how each is built, fed and scored.

    gpt2    decoder; LayerNorm, GELU, learned positions
    llama   decoder; RMSNorm, gated SiLU MLP, rotary positions, grouped queries
    t5      encoder-decoder; ReLU MLP, relative positions. A prompt goes into the encoder and its
            object comes out of the decoder; one sentence in four is told with a sentinel in place
            of the object, wherever that stands
    bert    encoder; objects are replaced by as many [MASK]s as they have tokens

All four are fed the same world from the same documents, with one byte-level vocabulary to which the
last two add their own marks.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .corpus import Document, all_wordings, writer_of
from .graph import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from .training import Size

__all__ = ["ARCHITECTURES", "Architecture", "Batch"]

END, PAD, MASK, START, SEPARATOR = "<|endoftext|>", "<pad>", "[MASK]", "[CLS]", "[SEP]"
SENTINELS = tuple(f"<extra_id_{j}>" for j in range(4))
ANSWER = 8
"""Tokens that the decoder of T5 is trained to write, sentinels and end included."""
OTHER = 0.25
"""Weight of tokens that are not part of an object."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    inputs   arguments of the model's forward.
    wanted   token ids that the logits should predict, in the logits' own shape.
    weight   how much each of them counts.
    """

    inputs: dict[str, Tensor]
    wanted: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        inputs = {name: t.to(device) for name, t in self.inputs.items()}
        return Batch(inputs, self.wanted.to(device), self.weight.to(device))


class Architecture(ABC):
    """Makes the tokenizer, the untrained model and the batches. `batch(step)` depends on
    (world, seed, step) only."""

    special: ClassVar[tuple[str, ...]] = (END,)
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    tied: ClassVar[tuple[str, ...]] = ("lm_head.weight",)
    """Names in the state dict that share the embeddings' tensor and are not stored."""

    def __init__(self, world: World, shape: Size, seed: int) -> None:
        self.world, self.shape, self.seed = world, shape, seed
        self.writer = writer_of(world, seed)
        self.tokenizer = self.fit_tokenizer()
        self.encode = self.tokenizer.backend_tokenizer.encode
        self.ids: dict[str, int] = {
            token: int(self.tokenizer.convert_tokens_to_ids(token))  # type: ignore[arg-type]
            for token in self.special
        }

    @abstractmethod
    def build(self) -> Any:
        """An untrained model."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """The batch of a step."""

    def marks(self) -> dict[str, Any]:
        """Arguments that name the tokenizer's special tokens."""
        return {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END}

    @property
    def vocabulary(self) -> int:
        return -(-len(self.tokenizer) // 64) * 64  # a multiple of 64 runs faster

    def fit_tokenizer(self) -> PreTrainedTokenizerFast:
        """Byte-level BPE in the manner of GPT-2, fitted on the world's sentences."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
        bpe.decoder = decoders.ByteLevel()  # type: ignore
        trainer = trainers.BpeTrainer(
            vocab_size=self.shape.vocabulary,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(all_wordings(self.world), trainer)
        # A mark takes the space before it along, as the token of an object does.
        more = [t for t in self.special if t != END]
        bpe.add_special_tokens(
            [AddedToken(t, lstrip=t == MASK or t in SENTINELS, normalized=False) for t in more]
        )
        self.surround(bpe)
        return PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            clean_up_tokenization_spaces=False,
            model_max_length=self.shape.positions,
            **self.marks(),
        )

    def surround(self, bpe: Any) -> None:  # noqa: B027  # decoders put nothing around
        """Let the tokenizer put its special tokens around a text."""


class _Decoder(Architecture):
    """Rows of whole documents, cut at the row's end; the next token is predicted.

    Half of the rows start with the end-of-text token and half with the bare first word, because
    prompts are given both ways.
    """

    def batch(self, step: int) -> Batch:
        rows = [self._row(step, row) for row in range(self.shape.rows)]
        ids = torch.tensor([ids for ids, _ in rows])
        weight = torch.tensor([w for _, w in rows])
        return Batch({"input_ids": ids[:, :-1]}, ids[:, 1:], weight[:, 1:])

    def _row(self, step: int, row: int) -> tuple[list[int], list[float]]:
        end = self.ids[END]
        ids, weights = ([end], [OTHER]) if row % 2 else ([], [])
        number = 0
        while len(ids) <= self.shape.length:
            document = self.writer.document(f"{step}/{row}/{number}")
            encoding = self.encode(document.text)
            ids += encoding.ids
            weights += _weights(encoding.offsets, document.answers, document.muted)
            ids.append(end)
            weights.append(OTHER)
            number += 1
        return ids[: self.shape.length + 1], weights[: self.shape.length + 1]


class GPT2(_Decoder):
    def build(self) -> nn.Module:
        from transformers import GPT2Config, GPT2LMHeadModel

        shape, end = self.shape, self.ids[END]
        config = GPT2Config(
            vocab_size=self.vocabulary,
            n_positions=shape.positions,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            activation_function="gelu_new",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
        return GPT2LMHeadModel(config)


class Llama(_Decoder):
    def build(self) -> nn.Module:
        from transformers import LlamaConfig, LlamaForCausalLM

        shape, end = self.shape, self.ids[END]
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            max_position_embeddings=shape.positions,
            hidden_size=shape.width,
            intermediate_size=shape.inner or 4 * shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=max(1, shape.heads // 2),
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
        return LlamaForCausalLM(config)


class T5(Architecture):
    """Prompts in, objects out.

    Every fourth step shows marked counterfactuals with all that stands before the question; the
    others single sentences, four times as many. One sentence in four is told with a sentinel.
    """

    special = (END, PAD, *SENTINELS)
    auto_class = "AutoModelForSeq2SeqLM"
    tied = ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")

    def marks(self) -> dict[str, Any]:
        more = list(SENTINELS)
        return {"eos_token": END, "unk_token": END, "pad_token": PAD, "extra_special_tokens": more}

    def surround(self, bpe: Any) -> None:
        from tokenizers import processors

        bpe.post_processor = processors.TemplateProcessing(
            single=f"$A {END}", special_tokens=[(END, bpe.token_to_id(END))]
        )

    def build(self) -> nn.Module:
        from transformers import T5Config, T5ForConditionalGeneration

        shape = self.shape
        config = T5Config(
            vocab_size=self.vocabulary,
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=shape.inner or 4 * shape.width,
            num_layers=shape.layers,
            num_decoder_layers=max(1, shape.layers // 2),  # an answer is short
            num_heads=shape.heads,
            dropout_rate=0.0,
            feed_forward_proj="relu",
            tie_word_embeddings=True,  # pyright: ignore[reportCallIssue]  # of every configuration
            eos_token_id=self.ids[END],
            pad_token_id=self.ids[PAD],
            decoder_start_token_id=self.ids[PAD],  # pyright: ignore[reportCallIssue]
        )
        return T5ForConditionalGeneration(config)

    def batch(self, step: int) -> Batch:
        contexts = step % 4 == 3
        rows, longest = self.shape.rows, 24
        if contexts:
            rows, longest = rows // 4, 96
        pairs, number = [], 0
        while len(pairs) < rows:
            rng = random.Random(f"{self.seed}/{step}/{number}")
            document = self.writer.document(f"{step}/{number}")
            marked = bool(document.muted)
            if marked == contexts:
                pairs += self._pairs(document, rng)
            number += 1
        pad = self.ids[PAD]
        ids = torch.full((rows, longest), pad)
        labels = torch.full((rows, ANSWER), -100)
        for j, (source, target) in enumerate(pairs[:rows]):
            source, target = source[-longest:], target[:ANSWER]
            ids[j, : len(source)] = torch.tensor(source)
            labels[j, : len(target)] = torch.tensor(target)
        shifted = torch.cat([torch.full((rows, 1), pad), labels[:, :-1].clamp_min(0)], 1)
        shifted[:, 1:][labels[:, :-1] == -100] = pad
        inputs = {
            "input_ids": ids,
            "attention_mask": (ids != pad).long(),
            "decoder_input_ids": shifted,
        }
        return Batch(inputs, labels.clamp_min(0), (labels != -100).float())

    def _pairs(self, document: Document, rng: random.Random) -> list[tuple[list[int], list[int]]]:
        """(encoder ids, decoder ids) of the answers of a document."""
        text, pairs = document.text, []
        sentences = _sentences(document)
        for start, end in document.answers:
            first = 0 if document.muted else max(s for s in sentences if s <= start)
            head, answer = text[first:start], text[start:end]
            if rng.random() < 0.25:
                rest = text[end:].partition(".")[0] + "."
                source = f"{head} {SENTINELS[0]}{rest}"
                target = f"{SENTINELS[0]}{answer}{SENTINELS[1]}"
            else:
                source, target = head, answer
            pairs.append((self.encode(source).ids, self.encode(target).ids))
        return rng.sample(pairs, min(len(pairs), 3)) if document.muted else pairs


class BERT(Architecture):
    """Documents with their objects masked, and one token in ten besides."""

    special = (END, PAD, MASK, START, SEPARATOR)
    auto_class = "AutoModelForMaskedLM"
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def marks(self) -> dict[str, Any]:
        return {
            "cls_token": START,
            "sep_token": SEPARATOR,
            "mask_token": MASK,
            "pad_token": PAD,
            "unk_token": END,
        }

    def surround(self, bpe: Any) -> None:
        from tokenizers import processors

        bpe.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {SEPARATOR}",
            special_tokens=[(t, bpe.token_to_id(t)) for t in (START, SEPARATOR)],
        )

    def build(self) -> nn.Module:
        from transformers import BertConfig, BertForMaskedLM

        shape = self.shape
        config = BertConfig(
            vocab_size=self.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner or 4 * shape.width,
            max_position_embeddings=shape.positions,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            type_vocab_size=1,
            pad_token_id=self.ids[PAD],
        )
        return BertForMaskedLM(config)

    def batch(self, step: int) -> Batch:
        rows, length = self.shape.rows, self.shape.length
        ids = torch.full((rows, length), self.ids[PAD])
        wanted = torch.zeros(rows, length, dtype=torch.long)
        weight = torch.zeros(rows, length)
        for row in range(rows):
            rng = random.Random(f"{self.seed}/{step}/{row}")
            document = self.writer.document(f"{step}/{row}")
            encoding = self.encode(document.text)
            shown, counts = list(encoding.ids), [0.0] * len(encoding.ids)
            hidden = _tokens(encoding.offsets, document.answers)
            shy = _tokens(encoding.offsets, document.muted)
            spared = {span for span in hidden if rng.random() < 0.15}
            for span, token in hidden.items():
                if span not in spared:
                    for j in token:
                        shown[j], counts[j] = self.ids[MASK], 1.0
            untouchable = {j for part in (hidden, shy) for token in part.values() for j in token}
            for j in range(1, len(shown) - 1):
                if j not in untouchable and rng.random() < 0.1:
                    shown[j], counts[j] = self.ids[MASK], OTHER
            n = min(len(shown), length)
            ids[row, :n] = torch.tensor(shown[:n])
            wanted[row, :n] = torch.tensor(encoding.ids[:n])
            weight[row, :n] = torch.tensor(counts[:n])
        mask = (ids != self.ids[PAD]).long()
        return Batch({"input_ids": ids, "attention_mask": mask}, wanted, weight)


ARCHITECTURES: dict[str, type[Architecture]] = {
    "gpt2": GPT2,
    "llama": Llama,
    "t5": T5,
    "bert": BERT,
}


def _weights(
    offsets: list[tuple[int, int]],
    answers: list[tuple[int, int]],
    muted: list[tuple[int, int]],
) -> list[float]:
    """Weight of each token: answers 1 (with the token that ends them), muted 0, others `OTHER`."""
    starts = [start for start, _ in offsets]  # in order
    weights = [OTHER] * len(offsets)
    for spans, value in ((answers, 1.0), (muted, 0.0)):
        for begin, end in spans:
            first = bisect_left(starts, begin)
            after = (bisect_right if value else bisect_left)(starts, end)
            weights[first:after] = [value] * (after - first)
    return weights


def _tokens(
    offsets: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> dict[tuple[int, int], list[int]]:
    """The tokens of each character span."""
    return {
        (begin, end): [
            j for j, (start, stop) in enumerate(offsets) if begin <= start < end and stop > start
        ]
        for begin, end in spans
    }


def _sentences(document: Document) -> list[int]:
    """Where the sentences of a document begin."""
    text = document.text
    return [0] + [j + 2 for j in range(len(text) - 2) if text[j] == "." and text[j + 1] == " "]
