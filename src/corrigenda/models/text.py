"""A language model as editors and metrics see it.

Wraps a Hugging Face causal LM with its tokenizer; `EncoderDecoder` and `Masked` beside this file do
the same for the other two kinds, by overriding how a prompt becomes tokens and an answer text. The
wrapper adds no parameters and changes no weights; edits go through `live`, and every text goes
through one tokenisation path.
"""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as hf_logging

from ..edit import Rewrite
from ..errors import EditError, InputError, ModelError
from ..experts import stacks
from ..live import Live
from ..model import Site
from ..numerics.gradients import nll_at
from ..storage import device_of, packed
from .asked import Asked, Forced
from .hooks import selected_input
from .layouts import Layout, layout_of
from .linear import matrix, transposed
from .tokens import Batch, batch, pieces

__all__ = ["TargetScore", "TextModel"]

T = TypeVar("T")
Until = Callable[[str], bool] | None


@dataclass(frozen=True, slots=True)
class TargetScore:
    """Teacher-forced scores of one target.

    logprobs  (L,) fp32 log-probability of each target token given those before it.
    correct   (L,) whether the token is the argmax (ties go to the lowest id).
    """

    ids: tuple[int, ...]
    logprobs: Tensor
    correct: Tensor
    boundary_merge: bool = False

    @property
    def mean(self) -> float:
        """Mean log-probability per token; -inf when a logit was not finite."""
        value = float(self.logprobs.mean())
        return value if value == value else float("-inf")

    @property
    def total(self) -> float:
        """Log-probability of the whole target."""
        value = float(self.logprobs.sum())
        return value if value == value else float("-inf")


class TextModel:
    """A causal LM, or the base of the other kinds. Make one with `load`, or from a module in memory
    with `TextModel.of`, which picks the kind."""

    kind: ClassVar[str] = "causal"

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        id: str = "model",
        layout: Layout | None = None,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{id} has a slow tokenizer, which gives no character offsets. "
                "Load a fast one: AutoTokenizer.from_pretrained(..., use_fast=True)."
            )
        self.id = id
        self._module = module
        self.tokenizer = tokenizer
        self.layout = layout or layout_of(module)
        self.live = Live(self, module)
        self._hashed: tuple[tuple[Any, ...], str] | None = None
        self._memory: dict[str, Any] = {}
        module.eval()
        parameters = inspect.signature(module.forward).parameters
        self._takes_positions = "position_ids" in parameters

    @classmethod
    def of(
        cls,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        id: str = "model",
        layout: Layout | None = None,
    ) -> TextModel:
        """The wrapper that fits the module's kind."""
        from .encoder_decoder import EncoderDecoder  # these import this file
        from .masked import Masked

        layout = layout or layout_of(module)
        kinds: dict[str, type[TextModel]] = {k.kind: k for k in (TextModel, EncoderDecoder, Masked)}
        model = kinds[layout.kind](module, tokenizer, id, layout)
        if any(packed(part) for part in module.modules()):
            # Kernels may pack such weights anew at the first pass, and round their scales when these
            # are next read. What is hashed, and what undo comes back to, is the state after that.
            model.next_logprobs(["."])
            module.state_dict()
            model.next_logprobs(["."])
        return model

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.id!r}, {self.layout.model_type}, {self.n_layers} layers)"
        )

    # -- anatomy ------------------------------------------------------------------------------

    @property
    def module(self) -> PreTrainedModel:
        return self._module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """All blocks in the order in which they run; an encoder's come before its decoder's."""
        return self._module.get_submodule(self.layout.blocks)  # type: ignore[return-value]

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def prompt_layers(self) -> range:
        """The layers that read the prompt, where a fact about its subject can be looked up."""
        return range(self.n_layers)

    @property
    def stacks(self) -> dict[str, bool]:
        """Path of each stack of blocks that is called by itself -> whether it reads the prompt."""
        return {"": True}

    def row(self, layer: int) -> tuple[Layout, int]:
        """The layout row of the stack that a layer is in, and its index there."""
        return self.layout, layer

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return self._module.config.get_text_config().hidden_size

    @property
    def device(self) -> torch.device:
        """Where tokens go in: the device of the embedding that reads the prompt. A model may be
        spread over several; accelerate moves what passes between them."""
        return device_of(self._module.get_submodule(self.row(0)[0].embedding))

    @property
    def side_path(self) -> bool:
        """Whether changes of linear maps act beside their weights, in fp32, whatever the dtype of
        these: a small change of bfloat16 weights then loses nothing to rounding. Quantised weights
        and those that are away always are changed so. Raises `DeltaError` when set while deltas
        are active."""
        return self.live.side_path

    @side_path.setter
    def side_path(self, wanted: bool) -> None:
        self.live.side_path = wanted

    @property
    def dtype(self) -> torch.dtype:
        return self._module.dtype

    def block(self, layer: int) -> nn.Module:
        """Raises `InputError` for a layer that the model does not have."""
        if not 0 <= layer < self.n_layers:
            raise InputError(
                f"Layer {layer} does not exist: {self.id} has layers 0 to {self.n_layers - 1}."
            )
        return self.blocks[layer]

    def mlp(self, layer: int) -> nn.Module:
        """The module whose output is the MLP's, before the residual sum."""
        return self.block(layer).get_submodule(self.row(layer)[0].mlp)

    def attention(self, layer: int) -> nn.Module:
        """The module whose output is (self-)attention's, before the residual sum."""
        return self.block(layer).get_submodule(self.row(layer)[0].attention)

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last block; None where each block ends in one."""
        path = self.layout.final_norm
        return None if path is None else self._module.get_submodule(path)

    @property
    def head(self) -> nn.Module:
        """What maps final hidden states to logits."""
        return self._module.get_submodule(self.layout.head)

    def path_of(self, module: nn.Module) -> str:
        """The module's dotted path."""
        return next(name for name, part in self._module.named_modules() if part is module)

    def site(self, role: str, layer: int) -> Site:
        """The linear map of that role ("down", "up", "q", ...) in a block.

        Raises `InputError` if the architecture has no such map.
        """
        self.block(layer)
        row, index = self.row(layer)
        if role not in row.linears:
            raise InputError(
                f"{row.model_type} has no linear map {role!r}; "
                f"it has {', '.join(sorted(row.linears))}."
            )
        path = f"{row.blocks}.{index}.{row.linears[role]}"
        module = self._module.get_submodule(path)
        if names := stacks(module):
            return Site(path, layer, weight=names[0])
        return Site(path, layer, transposed(module))

    def linear(self, site: Site) -> nn.Module:
        return self._module.get_submodule(site.module)

    def weight(self, site: Site) -> Tensor:
        """The current weight with shape (o, i), whatever the storage: a view; a copy of experts,
        of what is quantised or away, and where changes act beside it (then in fp32 at least)."""
        found = matrix(self.linear(site)).detach()
        change = self.live.change_beside(site.parameter)
        if change is None:
            return found
        exact = torch.promote_types(found.dtype, torch.float32)
        return found.to(exact) + change.matrix().to(found.device)

    @property
    def is_atlas(self) -> bool:
        """Whether this is a model of the embedded world, whose text and facts are at hand."""
        return self.id.startswith("atlas")

    def embed(self, texts: Sequence[str], encoder: str = "") -> Tensor:
        """(n, d) fp32 unit vectors of texts: the pristine model's own states, or those of a
        sentence encoder by its hub id. Raises `ModelError` where that library is missing."""
        from .embed import embed, sentence_encoder  # imports this file

        if not encoder:
            return embed(self, texts)
        return self.remembered(f"encoder/{encoder}", lambda: sentence_encoder(encoder))(texts)

    # -- identity -----------------------------------------------------------------------------

    def weights_hash(self) -> str:
        """sha256 over all pristine weights, each tensor once (tied weights are one tensor).

        Computed again only when the sum or a sample of some tensor has changed: a sequence of
        edits asks for it at every step.
        """
        names = {name for name, _ in self._module.named_parameters()}
        names |= {f"{path}.weight" for path, m in self._module.named_modules() if packed(m)}
        mark = tuple(_glance(self.live.writable(name)) for name in sorted(names))
        if self._hashed is None or self._hashed[0] != mark:
            digest = hashlib.sha256()
            for name in sorted(names):
                digest.update(f"{name} {self.live.pristine_hash(name)}\n".encode())
            self._hashed = mark, digest.hexdigest()
        return self._hashed[1]

    def remembered(self, key: str, make: Callable[[], T]) -> T:
        """What `make` returned for this key before, kept as long as the model is."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def latest(self, slot: str, key: str, make: Callable[[], T]) -> T:
        """What `make` returned for this key, if that was the last one asked for in this slot. Only
        that one is kept: for what is needed many times, then never again."""
        kept = self._memory.get(slot)
        if kept is None or kept[0] != key:
            kept = self._memory[slot] = key, make()
        return kept[1]

    @cached_property
    def tokenizer_hash(self) -> str:
        """sha256 over the fast tokenizer's full definition."""
        text: str = self.tokenizer.backend_tokenizer.to_str()  # type: ignore[attr-defined]
        return hashlib.sha256(text.encode()).hexdigest()

    def forget(self, key: str) -> None:
        """Let `remembered` make this again."""
        self._memory.pop(key, None)

    # -- running ------------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode and no gradients on parameters; both restored afterwards."""
        module = self._module
        modes = [(m, m.training) for m in module.modules() if m.training]
        wanted = [(p, p.requires_grad) for p in module.parameters()]
        module.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)
            for part, mode in modes:
                part.training = mode

    @property
    def start_id(self) -> int | None:
        """The BOS token, or the EOS token where text begins with that, or None."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        return None

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if isinstance(pad, int) else self.start_id or 0

    def ids(self, text: str) -> list[int]:
        """Token ids of a text with the special tokens that this tokenizer puts around it."""
        return list(self.tokenizer(text)["input_ids"])

    def chat(self, turns: Sequence[Mapping[str, str]], *, opened: bool = True) -> str:
        """Turns of a conversation in the model's chat template, without the BOS that the tokenizer
        adds to every text.

        turns   {"role": "user" or "assistant" or "system", "content": text} in order.
        opened  the assistant's next turn is begun.

        Raises `InputError` for a model without a chat template.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(
                f"The tokenizer of {self.id} has no chat template, so its questions cannot be put "
                "as chat. Put them as plain text, or load the tokenizer of a chat model."
            )
        text = str(
            self.tokenizer.apply_chat_template(
                [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=opened
            )
        )
        bos = self.tokenizer.bos_token
        added = self.ids("a")[:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(bos) if added and isinstance(bos, str) else text

    def batch(self, rows: Sequence[Sequence[int]], side: str = "left") -> Batch:
        return batch(rows, self.pad_id, self.device, side)

    def encode(self, texts: Sequence[str], *, side: str = "left") -> Batch:
        """Tokenise and pad. (b, t) tensors on the model's device."""
        return self.batch([self.ids(t) for t in texts], side)

    def forward(self, rows: Batch, **options: Any) -> Any:
        """Run the model on padded rows; positions do not depend on the padding."""
        if self._takes_positions:
            options["position_ids"] = rows.positions + self.layout.position_offset
        options.setdefault("use_cache", False)
        return self._module(input_ids=rows.ids, attention_mask=rows.mask, **options)

    @torch.no_grad()
    def logits_at(self, rows: Batch, row: Tensor, column: Tensor) -> Tensor:
        """(n, V) fp32 logits at the given places of padded rows, computing only those."""
        with selected_input(self.head, row.to(self.device), column.to(self.device)):
            return self.forward(rows).logits[0].float()

    # -- questions ----------------------------------------------------------------------------

    def asked(self, prompt: str, target: str, after: str = "", *, eos: bool = False) -> Asked:
        """A prompt and its target in tokens.

        after  text that follows the target. A model that reads left to right does not see it.
        eos    the target ends with the EOS token, if the tokenizer has one.

        Raises `EditError` for an empty target, and for one with nothing in front of it.
        """
        if not prompt.strip():
            raise EditError(
                f"{self.id} reads from left to right, and nothing stands before {target!r}. Word "
                "the edit so that its target comes last, or edit a masked model or T5."
            )
        cut = pieces(self.tokenizer, prompt, target)
        ending: Any = self.tokenizer.eos_token_id if eos else None
        ids = cut.ids if ending is None else (*cut.ids, ending)
        reads = tuple(range(cut.start - 1, len(ids) - 1))
        merge = cut.boundary_merge
        return Asked(ids[:-1], reads, ids[cut.start :], cut.start - 1, boundary_merge=merge)

    def sentence(self, prompt: str, target: str, after: str) -> str:
        """The text that `asked` puts into tokens, without the target."""
        return prompt

    def opening(self, prompt: str) -> Asked:
        """A prompt of which the next token is read, with none wanted."""
        ids = tuple(self.ids(prompt))
        return Asked(ids, (len(ids) - 1,), (), len(ids) - 1)

    def force(self, rows: Sequence[Asked], side: Literal["left", "right"] = "right") -> Forced:
        """Questions as a batch for `target_logits`."""
        padded = self.batch([row.ids for row in rows], side)
        answers = self.batch([row.decoder for row in rows], "right") if rows[0].decoder else None
        read_in = padded if answers is None else answers
        shift, offset = read_in.offset.tolist(), padded.offset
        device = self.device
        return Forced(
            padded,
            torch.tensor([j for j, r in enumerate(rows) for _ in r.reads], device=device),
            torch.tensor([shift[j] + at for j, r in enumerate(rows) for at in r.reads]).to(device),
            torch.tensor([t for r in rows for t in r.wanted], device=device, dtype=torch.long),
            offset + torch.tensor([_end(r) for r in rows], device=device),
            answers,
        )

    def target_logits(self, questions: Forced, **options: Any) -> Tensor:
        """(n, V) fp32 logits where the targets are predicted, and nowhere else; differentiable."""
        if questions.decoder is not None:
            options["decoder"] = questions.decoder
        with (
            self.live.asking(questions.ends),
            selected_input(self.head, questions.row, questions.column),
        ):
            return self.forward(questions.rows, **options).logits[0].float()

    def nll(self, rows: Sequence[Asked], side: Literal["left", "right"] = "right") -> Tensor:
        """(b,) mean negative log-likelihood per target token of each question; differentiable."""
        questions = self.force(rows, side)
        logits = self.target_logits(questions)
        device = logits.device
        return nll_at(logits, questions.wanted.to(device), questions.row.to(device), len(rows))

    # -- answers ------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 16,
        batch_size: int = 64,
        until: Until = None,
    ) -> list[str]:
        """Greedy continuations (without the prompts), ended by EOS or by the token limit.

        Live changes of the prompt are made first. Equal prompts are run once. Raises `InputError`
        for an empty prompt or one that leaves no room in the context.

        until  a continuation also ends with the token after which this holds of its text.
        """
        return self._answers([(p, "") for p in prompts], max_new_tokens, batch_size, until)

    def _answers(
        self,
        asked: Sequence[tuple[str, str]],
        max_new_tokens: int,
        batch_size: int,
        until: Until = None,
    ) -> list[str]:
        """Answers to (prompt, what follows the answer)."""
        given = self.live.given([prompt.rstrip(" ") for prompt, _ in asked])
        answers: list[str] = [""] * len(asked)
        for by in dict.fromkeys(one.by for one in given):
            mine = [j for j, one in enumerate(given) if one.by is by]
            texts = [(given[j].text, asked[j][1]) for j in mine]
            if by is None:
                if any(not (prompt.strip() or after.strip()) for prompt, after in texts):
                    raise InputError("A prompt is empty. Give the model some text to continue.")
                found = self._generated(texts, max_new_tokens, batch_size, until)
            else:
                found = by.generate(
                    [t for t, _ in texts],
                    max_new_tokens=max_new_tokens,
                    batch_size=batch_size,
                    until=until,
                )
            for j, answer in zip(mine, found, strict=True):
                answers[j] = answer
        return answers

    def _generated(
        self, asked: Sequence[tuple[str, str]], max_new_tokens: int, batch_size: int, until: Until
    ) -> list[str]:
        """`_answers` for final texts."""
        rows = {one: list(self._shown(*one)) for one in dict.fromkeys(asked)}
        limit = self._context_left(max_new_tokens)
        if limit:
            for (text, _), ids in rows.items():
                if len(ids) > limit:
                    raise InputError(
                        f"A prompt of {len(ids)} tokens and {max_new_tokens} new ones do not fit "
                        f"into {self.id}'s context: {text[:60]!r}… Shorten the prompt, "
                        "or for in-context editing lower the number of passages."
                    )
        # Rows of like length share a batch, so that little is spent on padding.
        order = sorted(rows, key=lambda one: len(rows[one]))
        answers: dict[tuple[str, str], str] = {}
        for at in range(0, len(order), batch_size):
            chunk = order[at : at + batch_size]
            texts = self._decoded([rows[one] for one in chunk], max_new_tokens, until)
            answers.update(zip(chunk, texts, strict=True))
        return [answers[one] for one in asked]

    def _shown(self, prompt: str, after: str) -> Sequence[int]:
        """The tokens that a prompt is put in."""
        return self.ids(prompt)

    @property
    def context(self) -> int | None:
        """Largest number of tokens in a text; None where the architecture sets no limit."""
        config = self._module.config.get_text_config()
        return getattr(config, "max_position_embeddings", None)

    def _context_left(self, max_new_tokens: int) -> int | None:
        """Largest number of prompt tokens with so many new ones."""
        return None if self.context is None else self.context - max_new_tokens

    def _decoded(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, until: Until
    ) -> list[str]:
        """Greedy answers to one batch of token rows."""
        padded = self.batch(rows)
        ends = None if until is None else _Ends(self, padded, until)
        with _quiet():
            out = self._module.generate(  # type: ignore[operator]
                input_ids=padded.ids,
                attention_mask=padded.mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.pad_id,
                use_cache=True,
                stopping_criteria=None if ends is None else StoppingCriteriaList([ends]),
            )
        new = self._new(out, padded)
        at = ends.at if ends is not None else [None] * len(new)
        texts = [row[:end].tolist() for row, end in zip(new, at, strict=True)]
        return self.tokenizer.batch_decode(texts, skip_special_tokens=True)

    def _new(self, out: Tensor, padded: Batch) -> Tensor:
        """The part of generated ids that is new."""
        return out[:, padded.ids.shape[1] :]

    @torch.no_grad()
    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 64) -> list[TargetScore]:
        """Teacher-forced scores of targets after prompts, with live changes of the prompt.

        Raises `EditError` for an empty target.
        """
        given = self.live.given([prompt.rstrip(" ") for prompt, _ in pairs])
        scores: list[Any] = [None] * len(pairs)
        for by in dict.fromkeys(one.by for one in given):
            mine = [j for j, one in enumerate(given) if one.by is by]
            texts = [(given[j].text, pairs[j][1]) for j in mine]
            found = self._scored(texts, batch_size) if by is None else by.score(texts)
            for j, score in zip(mine, found, strict=True):
                scores[j] = score
        return scores

    def _scored(self, pairs: Sequence[tuple[str, str]], batch_size: int) -> list[TargetScore]:
        return self.answered([self.asked(prompt, target) for prompt, target in pairs], batch_size)

    @torch.no_grad()
    def answered(self, rows: Sequence[Asked], batch_size: int = 64) -> list[TargetScore]:
        """Scores of what each question wants, in the tokens that it stands in already."""
        scores: list[Any] = [None] * len(rows)
        for chunk in _by_length(rows, batch_size):
            questions = self.force([rows[j] for j in chunk])
            logits, wanted = self.target_logits(questions).cpu(), questions.wanted.cpu()
            logprobs = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
            right = logits.argmax(-1) == wanted
            sizes = [len(rows[j].wanted) for j in chunk]
            for j, lp, ok in zip(chunk, logprobs.split(sizes), right.split(sizes), strict=True):
                scores[j] = TargetScore(rows[j].wanted, lp, ok, rows[j].boundary_merge)
        return scores

    def read(
        self,
        texts: Sequence[str],
        *,
        without: Sequence[Sequence[tuple[int, int]]] | None = None,
        batch_size: int = 16,
    ) -> list[TargetScore]:
        """Scores of whole texts: of each token but the first, given those before it.

        without  character spans of each text whose tokens are not scored.

        Models that do not read from left to right are asked for the last word of each sentence
        instead, given what stands before it; `without` does not concern them.

        A text longer than the context is read in windows, each of which predicts all its tokens but
        the first. A memory decides in the middle of a window and acts on the rest. Live changes of
        the prompt are made first; what they put around a text is not scored. Raises `InputError`
        for a text of a single token.
        """
        given = self.live.given(texts)
        spans = without or [()] * len(texts)
        questions: list[tuple[TextModel, list[Asked]]] = []
        for text, one, skipped in zip(texts, given, spans, strict=True):
            reader: TextModel = self if one.by is None else one.by
            at = one.text.rfind(text)
            if at < 0:
                raise InputError(
                    f"A live change of the prompt rewords the text {text[:60]!r}…, so it cannot "
                    "be read as it stands. Remove that change, or read the text without it."
                )
            moved = [(at + a, at + b) for a, b in skipped]
            rows = reader.windows(one.text, (at, at + len(text)), moved)
            if not rows:
                raise InputError(f"There is nothing to predict in {text!r}. Give a longer text.")
            questions.append((reader, rows))
        parts: list[list[TargetScore]] = [[] for _ in texts]
        for reader in dict.fromkeys(one for one, _ in questions):
            mine = [j for j, (one, _) in enumerate(questions) if one is reader]
            rows = [(j, row) for j in mine for row in questions[j][1]]
            for (j, _), score in zip(
                rows, reader.answered([row for _, row in rows], batch_size), strict=True
            ):
                parts[j].append(score)
        return [_joined(found) for found in parts]

    def windows(
        self, text: str, span: tuple[int, int], without: Sequence[tuple[int, int]] = ()
    ) -> list[Asked]:
        """The questions that read the characters [start, end) of a text; see `read`."""
        begin, end = span
        # Put into tokens by themselves, so that they are the same whatever stands in front.
        own = self.tokenizer(
            text[begin:end], return_offsets_mapping=True, add_special_tokens=not begin
        )
        front = pieces(self.tokenizer, "", text[:begin]).ids if text[:begin].strip() else ()
        ids = [*front, *own["input_ids"]]
        offsets = [(0, 0)] * len(front) + [(begin + a, begin + b) for a, b in own["offset_mapping"]]
        inside = [j for j in range(len(front), len(ids)) if offsets[j][1] > offsets[j][0]]
        wanted = {
            j
            for j in inside[1:]
            if not any(offsets[j][0] < b and offsets[j][1] > a for a, b in without)
        }
        size = self.context or len(ids)
        rows = []
        for start in range(0, len(ids), size):
            part = range(start, min(start + size, len(ids)))
            reads = tuple(j - 1 - start for j in part[1:] if j in wanted)
            if reads:
                targets = tuple(ids[start + j + 1] for j in reads)
                shown = tuple(ids[j] for j in part[:-1])
                rows.append(Asked(shown, reads, targets, len(shown) // 2))
        return rows

    @torch.no_grad()
    def next_logprobs(self, prompts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """(n, V) fp32 log-probabilities of the token after each prompt: the answer's first."""
        given = self.live.given([prompt.rstrip(" ") for prompt in prompts])
        found: list[Tensor] = [torch.empty(0)] * len(given)
        own = [j for j, one in enumerate(given) if one.by is None]
        rows = {j: self.opening(given[j].text) for j in own}
        for chunk in _by_length([rows[j] for j in own], batch_size):
            # Padded on the left, as generation does it: its first step, in the same arithmetic.
            questions = self.force([rows[own[j]] for j in chunk], "left")
            logprobs = self.target_logits(questions).log_softmax(-1).cpu()
            for j, row in zip(chunk, logprobs, strict=True):
                found[own[j]] = row
        for j, one in enumerate(given):
            if one.by is not None:
                found[j] = one.by.next_logprobs([one.text])[0]
        return torch.stack(found) if found else torch.empty(0, 0)

    def says(self, edits: Sequence[Rewrite]) -> list[tuple[bool, str]]:
        """Whether the greedy continuation of each edit's prompt begins with its target."""
        longest = max(len(self.asked(e.text, e.target, e.following).wanted) for e in edits)
        with torch.no_grad():
            answers = self._answers([(e.text, e.following) for e in edits], longest + 2, 64)
        return [
            (_begins_with(answer, edit.target), answer.strip())
            for edit, answer in zip(edits, answers, strict=True)
        ]


def _joined(parts: Sequence[TargetScore]) -> TargetScore:
    return TargetScore(
        tuple(token for part in parts for token in part.ids),
        torch.cat([part.logprobs for part in parts]),
        torch.cat([part.correct for part in parts]),
    )


def _end(row: Asked) -> int:
    return len(row.ids) - 1 if row.end is None else row.end


def _by_length(rows: Sequence[Asked], batch_size: int) -> list[list[int]]:
    """Indices in chunks of rows of like length, so that little is spent on padding."""
    order = sorted(range(len(rows)), key=lambda j: (len(rows[j].ids), len(rows[j].decoder)))
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


class _Ends(StoppingCriteria):
    """Ends each row of a batch with the token after which `until` holds of its text.

    at  of each row how many new tokens it has then; None while it goes on.
    """

    def __init__(self, model: TextModel, padded: Batch, until: Callable[[str], bool]) -> None:
        self._model, self._padded, self._until = model, padded, until
        self.at: list[int | None] = [None] * len(padded.ids)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        new = self._model._new(input_ids, self._padded)
        going = [j for j, at in enumerate(self.at) if at is None]
        texts = self._model.tokenizer.batch_decode(new[going], skip_special_tokens=True)
        for j, text in zip(going, texts, strict=True):
            if self._until(text):
                self.at[j] = new.shape[1]
        return torch.tensor([at is not None for at in self.at], device=input_ids.device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice about masks: when rows end at different times it sees padding
    in the tokens of rows that are done, and warns although the mask was given."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)


def _glance(tensor: Tensor | None) -> tuple[float, float]:
    """A mark of a tensor's values; of one that nothing here writes, always the same."""
    if tensor is None:
        return 0.0, 0.0
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // 257)].double()
    weight = torch.arange(1, len(sample) + 1, dtype=torch.float64, device=sample.device)
    return float(flat.sum(dtype=torch.float64)), float(sample @ weight)


def _begins_with(answer: str, target: str) -> bool:
    """The answer starts with the target as whole words, whatever the case and punctuation."""
    blank = str.maketrans(dict.fromkeys(string.punctuation, " "))
    got, wanted = (t.lower().translate(blank).split() for t in (answer, target))
    return got[: len(wanted)] == wanted
