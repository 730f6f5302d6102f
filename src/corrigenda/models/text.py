"""A causal language model as editors and metrics see it.

Wraps any Hugging Face causal LM with its tokenizer. The wrapper adds no parameters and changes no
weights; edits go through `live`, and every text goes through one tokenisation path.
"""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from ..edit import Rewrite
from ..errors import InputError, ModelError
from ..live import Live, tensor_hash
from ..model import Site
from .hooks import selected_input
from .layouts import Layout, layout_of
from .linear import transposed
from .tokens import Batch, batch, pieces

__all__ = ["TargetScore", "TextModel"]

T = TypeVar("T")


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
    """A causal LM. Make one with `load`."""

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

    def __repr__(self) -> str:
        return f"TextModel({self.id!r}, {self.layout.model_type}, {self.n_layers} layers)"

    # -- anatomy ------------------------------------------------------------------------------

    @property
    def module(self) -> PreTrainedModel:
        return self._module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self._module.get_submodule(self.layout.blocks)  # type: ignore[return-value]

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return self._module.config.get_text_config().hidden_size

    @property
    def device(self) -> torch.device:
        return self._module.get_parameter(f"{self.layout.embedding}.weight").device

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
        return self.block(layer).get_submodule(self.layout.mlp)

    @property
    def final_norm(self) -> nn.Module:
        return self._module.get_submodule(self.layout.final_norm)

    @property
    def head(self) -> nn.Module:
        return self._module.get_submodule(self.layout.head)

    def site(self, role: str, layer: int) -> Site:
        """The linear map of that role ("down", "up", "q", ...) in a block.

        Raises `InputError` if the architecture has no such map.
        """
        self.block(layer)
        if role not in self.layout.linears:
            raise InputError(
                f"{self.layout.model_type} has no linear map {role!r}; "
                f"it has {', '.join(sorted(self.layout.linears))}."
            )
        path = f"{self.layout.blocks}.{layer}.{self.layout.linears[role]}"
        return Site(path, layer, transposed(self._module.get_submodule(path)))

    def linear(self, site: Site) -> nn.Module:
        return self._module.get_submodule(site.module)

    def weight(self, site: Site) -> Tensor:
        """The current weight as a view of shape (o, i), whatever the storage."""
        weight = self._module.get_parameter(site.parameter).data
        return weight.T if site.transposed else weight

    @property
    def is_atlas(self) -> bool:
        """Whether this is a model of the embedded world, whose text and facts are at hand."""
        return self.id.startswith("atlas")

    # -- identity -----------------------------------------------------------------------------

    def weights_hash(self) -> str:
        """sha256 over all pristine weights, each tensor once (tied weights are one tensor).

        Computed again only when the sum or a sample of some tensor has changed: a sequence of
        edits asks for it at every step.
        """
        tensors = {n: self.live.pristine(n) for n, _ in sorted(self._module.named_parameters())}
        mark = tuple(_glance(t) for t in tensors.values())
        if self._hashed is None or self._hashed[0] != mark:
            digest = hashlib.sha256()
            for name, tensor in tensors.items():
                digest.update(f"{name} {tensor_hash(tensor)}\n".encode())
            self._hashed = mark, digest.hexdigest()
        return self._hashed[1]

    def remembered(self, key: str, make: Callable[[], T]) -> T:
        """What `make` returned for this key before, kept as long as the model is."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

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

    def batch(self, rows: Sequence[Sequence[int]], side: str = "left") -> Batch:
        return batch(rows, self.pad_id, self.device, side)

    def encode(self, texts: Sequence[str], *, side: str = "left") -> Batch:
        """Tokenise and pad. (b, t) tensors on the model's device."""
        return self.batch([self.ids(t) for t in texts], side)

    def forward(self, rows: Batch, **options: Any) -> Any:
        """Run the model on padded rows; positions do not depend on the padding."""
        if self._takes_positions:
            options["position_ids"] = rows.positions
        options.setdefault("use_cache", False)
        return self._module(input_ids=rows.ids, attention_mask=rows.mask, **options)

    @torch.no_grad()
    def logits_at(self, rows: Batch, row: Tensor, column: Tensor) -> Tensor:
        """(n, V) fp32 logits at the given places of padded rows, computing only those."""
        with selected_input(self.head, row.to(self.device), column.to(self.device)):
            return self.forward(rows).logits[0].float()

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, batch_size: int = 64
    ) -> list[str]:
        """Greedy continuations (without the prompts), ended by EOS or by the token limit.

        Live prefixes are put in front of each prompt. Equal prompts are run once. Raises
        `InputError` for an empty prompt or one that leaves no room in the context.
        """
        wrapped = [self.live.wrap(p.rstrip(" ")) for p in prompts]
        if any(not p.strip() for p in wrapped):
            raise InputError("A prompt is empty. Give the model some text to continue.")
        rows = {p: self.ids(p) for p in dict.fromkeys(wrapped)}
        limit = getattr(self._module.config.get_text_config(), "max_position_embeddings", None)
        if limit:
            for text, ids in rows.items():
                if len(ids) + max_new_tokens > limit:
                    raise InputError(
                        f"A prompt of {len(ids)} tokens and {max_new_tokens} new ones do not fit "
                        f"into {self.id}'s context of {limit}: {text[:60]!r}… Shorten the prompt, "
                        "or for in-context editing lower the number of passages."
                    )
        # Rows of like length share a batch, so that little is spent on padding.
        order = sorted(rows, key=lambda p: len(rows[p]))
        answers: dict[str, str] = {}
        for at in range(0, len(order), batch_size):
            chunk = order[at : at + batch_size]
            padded = self.batch([rows[p] for p in chunk])
            with _quiet():
                out = self._module.generate(  # type: ignore[operator]
                    input_ids=padded.ids,
                    attention_mask=padded.mask,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=self.pad_id,
                    use_cache=True,
                )
            new = out[:, padded.ids.shape[1] :]
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            answers.update(zip(chunk, texts, strict=True))
        return [answers[p] for p in wrapped]

    @torch.no_grad()
    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 64) -> list[TargetScore]:
        """Teacher-forced scores of targets after prompts, live prefixes in front.

        Raises `EditError` for an empty target.
        """
        cut = [pieces(self.tokenizer, self.live.wrap(p.rstrip(" ")), t) for p, t in pairs]
        order = sorted(range(len(cut)), key=lambda j: len(cut[j].ids))
        scores: dict[int, TargetScore] = {}
        for at in range(0, len(order), batch_size):
            chunk = order[at : at + batch_size]
            rows = self.batch([cut[j].ids[:-1] for j in chunk], side="right")
            row = torch.cat([torch.full((len(cut[j].target),), r) for r, j in enumerate(chunk)])
            column = torch.cat([torch.arange(cut[j].start - 1, len(cut[j].ids) - 1) for j in chunk])
            wanted = torch.tensor([t for j in chunk for t in cut[j].target])
            logits = self.logits_at(rows, row, column).cpu()
            logprobs = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
            right = logits.argmax(-1) == wanted
            sizes = [len(cut[j].target) for j in chunk]
            for j, lp, ok in zip(chunk, logprobs.split(sizes), right.split(sizes), strict=True):
                scores[j] = TargetScore(cut[j].target, lp, ok, cut[j].boundary_merge)
        return [scores[j] for j in range(len(cut))]

    @torch.no_grad()
    def next_logprobs(self, prompts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """(n, V) fp32 log-probabilities of the token after each prompt."""
        rows = [self.ids(self.live.wrap(p.rstrip(" "))) for p in prompts]
        order = sorted(range(len(rows)), key=lambda j: len(rows[j]))
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for at in range(0, len(order), batch_size):
            chunk = order[at : at + batch_size]
            padded = self.batch([rows[j] for j in chunk])
            last = torch.full((len(chunk),), padded.ids.shape[1] - 1)
            logprobs = self.logits_at(padded, torch.arange(len(chunk)), last).log_softmax(-1).cpu()
            for j, row in zip(chunk, logprobs, strict=True):
                found[j] = row
        return torch.stack(found) if found else torch.empty(0, 0)

    def says(self, edits: Sequence[Rewrite]) -> list[tuple[bool, str]]:
        """Whether the greedy continuation of each edit's prompt begins with its target."""
        longest = max(len(pieces(self.tokenizer, e.text, e.target).target) for e in edits)
        answers = self.generate([e.text for e in edits], max_new_tokens=longest + 2)
        return [
            (_begins_with(answer, edit.target), answer.strip())
            for edit, answer in zip(edits, answers, strict=True)
        ]


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


def _glance(tensor: Tensor) -> tuple[float, float]:
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // 257)].double()
    weight = torch.arange(1, len(sample) + 1, dtype=torch.float64, device=sample.device)
    return float(flat.sum(dtype=torch.float64)), float(sample @ weight)


def _begins_with(answer: str, target: str) -> bool:
    """The answer starts with the target as whole words, whatever the case and punctuation."""
    blank = str.maketrans(dict.fromkeys(string.punctuation, " "))
    got, wanted = (t.lower().translate(blank).split() for t in (answer, target))
    return got[: len(wanted)] == wanted
