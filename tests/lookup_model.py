"""A model without a transformer: prompts are looked up, one linear map answers them.

Each known prompt is a vector over subjects; logits over answers are W x, so an edit of W changes
answers, undoing it brings them back, and edits can damage each other.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from corrigenda.delta import Delta, LowRank, Outcome, Provenance
from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.editor import EditWarning
from corrigenda.errors import UnstableEditError
from corrigenda.live import Live, tensor_hash

ANSWERS = ("Paris", "Rome", "Oslo", "Lima")
WEIGHT = "head.weight"


class LookupModel:
    """Subjects S0, S1, ...: "S3 is in" and "Where is S3?" are about S3, "near S3 is" hardly."""

    id = "lookup"
    kind = "causal"
    is_atlas = False
    tokenizer_hash = "words"

    def __init__(self, subjects: int = 8) -> None:
        self.module = nn.Module()
        self.module.head = nn.Linear(2 * subjects, len(ANSWERS), bias=False)
        with torch.no_grad():
            self.module.head.weight.zero_()
            self.module.head.weight[0] = 5.0  # all is in Paris
        self.live = Live(self, self.module)
        self.subjects = subjects
        self.generated: list[str] = []  # every prompt that was asked

    def weights_hash(self) -> str:
        return tensor_hash(self.live.pristine(WEIGHT))

    def vector(self, prompt: str) -> Tensor:
        """Neighbours have a place of their own and share a little with their subject."""
        number = int(re.findall(r"S(\d+)", prompt)[-1])
        x = torch.zeros(2 * self.subjects)
        if prompt.startswith("near"):
            x[self.subjects + number], x[number] = 1.0, 0.1
        else:
            x[number] = 1.0
        return x

    def logits(self, prompts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return torch.stack([self.vector(p) for p in prompts]) @ self.module.head.weight.T

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 16,
        batch_size: int = 64,
        until: Any = None,
    ) -> list[str]:
        self.generated += prompts
        return [f" {ANSWERS[j]}. And so on" for j in self.logits(prompts).argmax(-1).tolist()]

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 64) -> list[Any]:
        logprobs = self.logits([prompt for prompt, _ in pairs]).log_softmax(-1)
        scores = []
        for row, (_, answer) in zip(logprobs, pairs, strict=True):
            j = ANSWERS.index(answer)
            scores.append(SimpleNamespace(logprobs=row[j : j + 1], correct=row.argmax()[None] == j))
        return scores

    def read(self, texts: Sequence[str], *, without: Any = (), batch_size: int = 64) -> list[Any]:
        """Each text is a prompt and its answer, "near S3 is Paris": one token is predicted."""
        pairs = [tuple(text.rsplit(" ", 1)) for text in texts]
        found = self.score(pairs)  # type: ignore[arg-type]
        return [SimpleNamespace(ids=(0,), logprobs=one.logprobs) for one in found]

    def next_logprobs(self, prompts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        return self.logits(prompts).log_softmax(-1)


def case(number: int, target: str = "Rome") -> Case:
    """An edit about one subject with one probe on every axis, and two neighbours."""
    edit = Rewrite("{} is in", f"S{number}", target, "Paris", "place")
    new = (target,)
    return Case(
        edit,
        (
            Probe(f"S{number} is in", new, "efficacy", "rewrite", "Paris"),
            Probe(f"Where is S{number}?", new, "generalization", "paraphrase", "Paris"),
            Probe(f"Seek S{number} in", new, "generalization", "paraphrase", "Paris", True),
            Probe(f"near S{number} is", ("Paris",), "locality", "neighborhood", target),
            Probe(f"{edit.statement}. near S{number} is", ("Paris",), "locality",
                  "neighborhood+", target),
            Probe(f"The S{number} stands in", new, "portability", "alias"),
            Probe(f"Who is near? S{number} in", new, "portability", "one_hop"),
        ),
        id=f"case-{number}",
        source="lookup",
    )  # fmt: skip


@dataclass(frozen=True)
class Flip:
    """Makes each subject's largest logit that of the target."""

    name: ClassVar[str] = "flip"
    batches: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    strength: float = 10.0

    def arguments(self) -> dict[str, Any]:
        return {"strength": self.strength}

    def __call__(
        self, model: LookupModel, edits: Sequence[Rewrite], onto: Delta | None = None
    ) -> Delta:
        u = torch.zeros(len(ANSWERS), len(edits))
        v = torch.stack([model.vector(edit.text) for edit in edits])
        for j, edit in enumerate(edits):
            u[ANSWERS.index(edit.target), j] = self.strength
        return self.delta(model, edits, LowRank(u, v))

    def delta(self, model, edits, change, took=True) -> Delta:
        return Delta(
            {WEIGHT: change},
            base={WEIGHT: model.live.pristine_hash(WEIGHT)},
            provenance=Provenance(
                editor=self.name,
                edits=tuple(edit.to_dict() for edit in edits),
                outcomes=tuple(Outcome(took=took, answer=edit.target) for edit in edits),
                seconds=0.5 * len(edits),
                precompute_seconds=2.0,
            ),
        )


@dataclass(frozen=True)
class Forgetful(Flip):
    """Each edit wipes out all those before it."""

    name: ClassVar[str] = "forgetful"

    def __call__(self, model, edits, onto=None) -> Delta:
        delta = super().__call__(model, edits, onto)
        if onto is None:
            return delta
        change = delta.weights[WEIGHT]
        return self.delta(model, edits, change.plus(onto.weights[WEIGHT].scaled(-1.0)))


@dataclass(frozen=True)
class Weak(Flip):
    """Warns, changes little, and says that the edit did not take."""

    name: ClassVar[str] = "weak"

    def __call__(self, model, edits, onto=None) -> Delta:
        warnings.warn(f"{edits[0].subject} did not take", EditWarning, stacklevel=2)
        warnings.warn("something else", RuntimeWarning, stacklevel=2)
        weak = Flip(strength=0.1)(model, edits, onto)
        return self.delta(model, edits, weak.weights[WEIGHT], took=False)


@dataclass(frozen=True)
class Refusing(Flip):
    """Raises for some subjects."""

    name: ClassVar[str] = "refusing"
    subjects: tuple[str, ...] = ()
    error: type[BaseException] = UnstableEditError

    def arguments(self) -> dict[str, Any]:
        return Flip().arguments()  # what it refuses is no setting: a run can be resumed without

    def __call__(self, model, edits, onto=None) -> Delta:
        if any(edit.subject in self.subjects for edit in edits):
            raise self.error("refused")
        return super().__call__(model, edits, onto)


@dataclass(frozen=True)
class Breaking(Flip):
    """Edits of some subjects make the model say Lima whatever it is asked."""

    name: ClassVar[str] = "breaking"
    subjects: tuple[str, ...] = ()

    def __call__(self, model, edits, onto=None) -> Delta:
        delta = super().__call__(model, edits, onto)
        if not any(edit.subject in self.subjects for edit in edits):
            return delta
        u = torch.zeros(len(ANSWERS), 1)
        u[ANSWERS.index("Lima")] = 50.0
        everything = LowRank(u, torch.ones(1, 2 * model.subjects))
        return self.delta(model, edits, delta.weights[WEIGHT].plus(everything))


@dataclass(frozen=True)
class Stacking(Flip):
    """Keeps the prompts that it has edited in its state, and says how many it was given."""

    name: ClassVar[str] = "stacking"

    def __call__(self, model, edits, onto=None) -> Delta:
        delta = super().__call__(model, edits, onto)
        keys = torch.stack([model.vector(edit.text) for edit in edits], 1)
        earlier = 0 if onto is None else onto.state["past/keys"].shape[1]
        about = delta.provenance.model_copy(update={"diagnostics": {"earlier": earlier}})
        return Delta(delta.changes, base=delta.base, state={"past/keys": keys}, provenance=about)
