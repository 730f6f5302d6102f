"""Changes of the prompt: what the model is given in place of the user's text.

    Prefix     passages are put in front of the prompt                         IKE, definitions
    Retrieval  the same, for those nearest to the prompt, if any is near       SERAC, IKE with RAG
    Dialogue   the model asks itself subquestions and looks their answers up   MeLLo

A change of this kind answers `given(prompts, model)`: for every prompt the text to use, and the
model that is to go on from it (almost always the same one). It may ask the model about the prompts
first; the model then runs without any change of the prompt.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import DeltaError, ModelError

__all__ = ["CONTEXTS", "MARKS", "Context", "Dialogue", "Given", "Prefix", "Retrieval"]


class Given(NamedTuple):
    """What becomes of a prompt: the text, and the model that answers it (None: the edited one)."""

    text: str
    by: Any = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """Changes the input: passages of text are put in front of the prompt.

    passages  one text per edited fact, each ending where the next text may begin.
    query     how the user's prompt is written after them; holds `{}` once.
    limit     at most this many passages, those sharing most words with the prompt, where a word
              counts less the more passages hold it, the newer passage wins a tie, and the best
              one stands last; 0 means all.
    head      text in front of all passages that belongs to no fact, such as demonstrations.
    """

    passages: tuple[str, ...]
    query: str = "{}"
    limit: int = 0
    head: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "passages", tuple(self.passages))
        if self.query.count("{}") != 1:
            raise DeltaError(f"A prefix's query needs {{}} once; got {self.query!r}.")

    def given(self, prompts: Sequence[str], model: Any) -> list[Given]:
        return [Given(self.wrap(prompt)) for prompt in prompts]

    def wrap(self, prompt: str) -> str:
        """The text that the model is given in place of `prompt`."""
        chosen = self.passages
        if self.limit and len(chosen) > self.limit:
            asked, told = _words(prompt), [_words(p) for p in chosen]
            common = Counter(word for words in told for word in words)
            overlap = [sum(1 / common[word] for word in words & asked) for words in told]
            best = sorted(range(len(chosen)), key=lambda j: (-overlap[j], -j))[: self.limit]
            chosen = tuple(chosen[j] for j in reversed(best))
        return self.head + "".join(chosen) + self.query.replace("{}", prompt, 1)

    def like(self, other: object) -> bool:
        """Whether both are written in the same form, so that they can be added."""
        return isinstance(other, Prefix) and (self.query, self.limit) == (other.query, other.limit)

    def plus(self, other: Prefix) -> Prefix:
        if not self.like(other):
            raise DeltaError("Prefixes with different query forms or limits cannot be added.")
        head = self.head if other.head in self.head else self.head + other.head
        return replace(self, passages=self.passages + other.passages, head=head)

    @property
    def numel(self) -> int:
        return 0

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {
            "passages": list(self.passages),
            "query": self.query,
            "limit": self.limit,
            "head": self.head,
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Prefix:
        return cls(**settings)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


# -- what is near -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Changes the input: the passages nearest to the prompt are put in front of it.

    passages  one text per edited fact.
    keys      (n, d) an embedding for each: a passage is near a prompt if its key is.
    query     how the user's prompt is written after them; holds `{}` once.
    head      text in front of all passages that belongs to no fact.
    limit     at most this many passages, the nearest one last; of equally near ones the newer.
    least     smallest score with which a passage is shown. A prompt near none stays as it is,
              and is answered as if there were no memory. None: the nearest are always shown.
    metric    (r, d) a learned map P: the score is exp(-‖P(q - k)‖²). Empty: the cosine.
    encoder   name of a sentence encoder; empty: the model's own states.
    weights   of a language model with the same tokens that answers prompts in scope, and
    config    its configuration. Empty: the edited model answers.
    """

    passages: tuple[str, ...]
    keys: Tensor
    query: str = "{}"
    head: str = ""
    limit: int = 1
    least: float | None = None
    metric: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    encoder: str = ""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "passages", tuple(self.passages))
        object.__setattr__(self, "keys", _frozen(self.keys))
        object.__setattr__(self, "metric", _frozen(self.metric))
        object.__setattr__(self, "weights", {n: _frozen(t) for n, t in self.weights.items()})
        if self.query.count("{}") != 1 or self.limit < 1:
            raise DeltaError(
                f"A retrieval's query needs {{}} once and its limit is at least 1; got "
                f"{self.query!r} and {self.limit}."
            )
        if self.keys.ndim != 2 or len(self.keys) != len(self.passages):
            raise DeltaError(
                f"Every passage has one key; got {len(self.passages)} passages and keys of shape "
                f"{tuple(self.keys.shape)}."
            )

    def scores(self, queries: Tensor) -> Tensor:
        """(b, n) how near each query (b, d) is to each key, to four digits."""
        if self.metric.numel():
            apart = torch.cdist(queries @ self.metric.T, self.keys @ self.metric.T)
            found = (-apart.square()).exp()
        else:
            unit = torch.nn.functional.normalize
            found = unit(queries, dim=1) @ unit(self.keys, dim=1).T
        return found.mul(1e4).round() / 1e4

    def given(self, prompts: Sequence[str], model: Any) -> list[Given]:
        if not prompts or not self.passages:
            return [Given(prompt) for prompt in prompts]
        found = []
        for prompt, row in zip(
            prompts, self.scores(model.embed(prompts, self.encoder)).tolist(), strict=True
        ):
            best = sorted(range(len(row)), key=lambda j: (-row[j], -j))[: self.limit]
            near = [j for j in reversed(best) if self.least is None or row[j] >= self.least]
            if not near:
                found.append(Given(prompt))
                continue
            told = self.head + "".join(self.passages[j] for j in near)
            found.append(Given(told + self.query.replace("{}", prompt, 1), self._answers(model)))
        return found

    def _answers(self, model: Any) -> Any:
        """The model that answers in scope, made once for each base model."""
        if not self.weights:
            return None
        return model.remembered(f"answers/{self._mark}", lambda: self._made(model))

    def _made(self, model: Any) -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM

        config: Any = AutoConfig.for_model(**self.config)
        if config.vocab_size != (wanted := model.module.config.get_text_config().vocab_size):
            raise ModelError(
                f"The model that answers in scope has {config.vocab_size} tokens and {model.id} "
                f"has {wanted}; they must share their vocabulary. Fit one for {model.id}."
            )
        module = AutoModelForCausalLM.from_config(config)
        missing = set(module.state_dict()) - set(self.weights) - set(_tied(module))
        if missing:
            raise ModelError(f"The model that answers in scope lacks {', '.join(sorted(missing))}.")
        module.load_state_dict(dict(self.weights), strict=False)
        return type(model).of(module.eval(), model.tokenizer, f"{model.id}, counterfactual model")

    @cached_property
    def _mark(self) -> str:
        """sha256 of the answering model's weights, and of the metric."""
        digest = hashlib.sha256(repr(sorted(self.config.items())).encode())
        for name, tensor in sorted([*self.weights.items(), ("metric", self.metric)]):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def like(self, other: object) -> bool:
        """Whether both look texts up in one way, so that they can be added."""
        return (
            isinstance(other, Retrieval)
            and all(
                getattr(self, name) == getattr(other, name)
                for name in ("query", "limit", "least", "encoder")
            )
            and self._mark == other._mark
        )

    def plus(self, other: Retrieval) -> Retrieval:
        if not self.like(other):
            raise DeltaError(
                "Retrievals that look texts up or tell them in different ways cannot be added."
            )
        head = self.head if other.head in self.head else self.head + other.head
        keys = torch.cat([self.keys, other.keys])
        return replace(self, passages=self.passages + other.passages, keys=keys, head=head)

    @property
    def numel(self) -> int:
        return sum(t.numel() for t in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        own = {"keys": self.keys, "metric": self.metric}
        return own | {f"weights.{name}": t for name, t in self.weights.items()}

    def settings(self) -> dict[str, Any]:
        names = ("query", "head", "limit", "least", "encoder")
        return {
            "passages": list(self.passages),
            "config": dict(self.config),
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Retrieval:
        cut = len("weights.")
        weights = {n[cut:]: t for n, t in tensors.items() if n.startswith("weights.")}
        return cls(keys=tensors["keys"], metric=tensors["metric"], weights=weights, **settings)


def _tied(module: Any) -> list[str]:
    """Names of tensors that are other names' tensors."""
    first: dict[int, str] = {}
    return [n for n, t in module.state_dict().items() if first.setdefault(t.data_ptr(), n) != n]


def _frozen(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()


# -- asking in steps --------------------------------------------------------------------------

MARKS = {
    "question": "Question:",
    "sub": "Subquestion:",
    "tentative": "Tentative answer:",
    "retrieved": "Retrieved fact:",
    "decision": "So the answer is:",
    "final": "Final answer:",
}
"""The words that a dialogue is read by."""


@dataclass(frozen=True, eq=False)
class Dialogue:
    """Changes the input: the model first takes the question apart, in writing.

    It writes a subquestion and a tentative answer; the fact nearest to the subquestion is added;
    it says whether the two agree and what the answer is; and so on, until it asks for no more.
    What it wrote is what the prompt becomes, up to "Final answer:". Without facts nothing is
    looked up, and the dialogue is a chain of thought.

    passages  one sentence per edited fact.
    keys      (n, d) their embeddings.
    head      demonstrations of the form; `plain` are the same without retrieved facts.
    hops      at most this many facts are looked up.
    tokens    at most so many new tokens between two of them.
    encoder   as in `Retrieval`.
    """

    passages: tuple[str, ...]
    keys: Tensor
    head: str = ""
    plain: str = ""
    hops: int = 4
    tokens: int = 64
    encoder: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "passages", tuple(self.passages))
        object.__setattr__(self, "keys", _frozen(self.keys))
        if len(self.keys) != len(self.passages):
            raise DeltaError(
                f"Every fact has one key; got {len(self.passages)} and {len(self.keys)}."
            )

    def given(self, prompts: Sequence[str], model: Any) -> list[Given]:
        head = self.head if self.passages else self.plain
        asked = dict.fromkeys(prompts)
        texts = {p: f"{head}{MARKS['question']} {p.strip()}\n{MARKS['sub']}" for p in asked}
        open_ = dict.fromkeys(p for p in asked if self._fits(texts[p], model))
        hops = dict.fromkeys(asked, 0)
        for _ in range(self.hops + 1):
            if not open_:
                break
            written = model.generate([texts[p] for p in open_], max_new_tokens=self.tokens)
            wondering = {}
            for prompt, more in zip(list(open_), written, strict=True):
                turn, mark = self._turn(more)
                texts[prompt] += turn
                if mark == MARKS["retrieved"] and hops[prompt] < self.hops:
                    hops[prompt] += 1
                    wondering[prompt] = _subquestion(texts[prompt])
                elif mark or not self._fits(texts[prompt], model):
                    del open_[prompt]
            if wondering:
                for prompt, fact in zip(
                    wondering, self._nearest(list(wondering.values()), model), strict=True
                ):
                    texts[prompt] += f" {fact}\n"
                    if not self._fits(texts[prompt], model):
                        del open_[prompt]
        return [Given(_closed(texts[p])) for p in prompts]

    def _turn(self, written: str) -> tuple[str, str]:
        """What the model wrote up to the first mark that ends its turn, and the mark."""
        ends = [MARKS["final"], f"\n{MARKS['question']}", "\n\n"]
        ends += [MARKS["retrieved"]] if self.passages else []
        found = [(at, mark) for mark in ends if (at := written.find(mark)) >= 0]
        if not found:
            return written, ""
        at, mark = min(found)
        kept = at + len(mark) if mark in (MARKS["final"], MARKS["retrieved"]) else at
        return written[:kept], mark

    def _nearest(self, questions: Sequence[str], model: Any) -> list[str]:
        queries = model.embed(questions, self.encoder)
        scores = (queries @ self.keys.T).mul(1e4).round()
        newest = len(self.passages) - 1 - scores.flip(1).argmax(1)  # of equal ones
        return [self.passages[j] for j in newest.tolist()]

    def _fits(self, text: str, model: Any) -> bool:
        """Whether a further turn has room in the model's context."""
        limit = getattr(model.module.config.get_text_config(), "max_position_embeddings", None)
        return limit is None or len(model.ids(text)) + 2 * self.tokens <= limit

    def like(self, other: object) -> bool:
        return isinstance(other, Dialogue) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("head", "plain", "hops", "tokens", "encoder")
        )

    def plus(self, other: Dialogue) -> Dialogue:
        if not self.like(other):
            raise DeltaError("Dialogues of different forms cannot be added.")
        keys = torch.cat([self.keys, other.keys])
        return replace(self, passages=self.passages + other.passages, keys=keys)

    @property
    def numel(self) -> int:
        return self.keys.numel()

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys}

    def settings(self) -> dict[str, Any]:
        names = ("head", "plain", "hops", "tokens", "encoder")
        return {"passages": list(self.passages), **{name: getattr(self, name) for name in names}}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Dialogue:
        return cls(keys=tensors["keys"], **settings)


def _subquestion(text: str) -> str:
    """The newest subquestion in a dialogue."""
    asked = text.rpartition(MARKS["sub"])[2].strip()
    return asked.splitlines()[0] if asked else text


def _closed(text: str) -> str:
    """A dialogue that ends where the final answer begins."""
    text = text.rstrip().removesuffix(MARKS["retrieved"]).rstrip()
    return text if text.endswith(MARKS["final"]) else f"{text}\n{MARKS['final']}"


Context = Prefix | Retrieval | Dialogue
CONTEXTS: dict[str, Any] = {kind.__name__: kind for kind in (Prefix, Retrieval, Dialogue)}
"""The kinds of change of the prompt, by name."""
