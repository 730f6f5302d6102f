"""Context distillation: a model learns to write as it would with a definition before its eyes.

Padmanabhan, Onoe, Zhang, Durrett, Choi 2023, 2306.09306.

A transfer set is sampled from the model with the definition in its context: continuations y of
openings that mention the subject. Then a copy without the context (student) is trained to predict
every token of them as the unchanged model with it (teacher) does:

    min_Δ  T² · mean_t KL( p_T(y_t | definition, opening, y_<t; W) ‖ p_T(y_t | opening, y_<t; W + Δ) )

with p_T the softmax at temperature T. Teacher and student read the same token ids, counted from
the right; nothing is tokenised twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..model import Site
from ..models.asked import Asked
from ..models.text import TextModel
from ._finetune import FineTuneEditor, linear_sites, read_logits

__all__ = ["ContextDistillation"]


@dataclass(frozen=True)
class Lesson:
    """An opening with its continuation, and the teacher's log-probabilities (n, V) for it."""

    student: Asked
    teacher: Tensor


@dataclass(frozen=True)
class ContextDistillation(FineTuneEditor):
    """Distil the edits' statements into all linear maps. See `FineTuneEditor` for other fields.

    layers       None: all blocks.
    roles        which linear maps of a block; None: all.
    context      what the teacher reads before the opening; `{}` is the edit's statement. Empty:
                 nothing, so there is nothing to learn.
    openings     how transfer texts begin, in turn: "{prompt}" is the edit's, "{subject}" its name.
    sentences    transfer texts per edit.
    length       tokens of each continuation at most.
    warmth       temperature at which they are sampled.
    temperature  T of the distillation.
    tolerance    a batch whose loss is below this takes no step.
    batch_size   transfer texts per step.
    """

    tolerance: float = 1e-5
    batch_size: int = 5
    roles: tuple[str, ...] | None = None
    context: str | None = None
    openings: tuple[str, ...] = ("{subject}", "{prompt}")
    sentences: int = 5
    length: int = 24
    warmth: float = 0.9
    temperature: float = 2.0

    name: ClassVar[str] = "context-distillation"
    title: ClassVar[str] = "Context distillation"
    paper: ClassVar[str] = "Padmanabhan et al. 2023, 2306.09306"
    kinds: ClassVar[tuple[str, ...]] = ("causal",)
    paper_values: ClassVar[dict[str, Any]] = {"steps": 5, "lr": 1e-4, "context": "{}.\n"}

    def sites(self, model: TextModel) -> list[Site]:
        return linear_sites(model, self.layers or (), self.roles)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        lessons = self.lessons(model, edits)

        def loss(rows: list[Lesson]) -> Tensor:
            logits, owner = read_logits(model, [row.student for row in rows])
            return _divergence(rows, logits / self.temperature, owner) * self.temperature**2

        found = self.dense(model, lessons, bias=True, shuffle=True, loss=loss)
        rows = [[*row.student.ids, row.student.wanted[-1]] for row in lessons]
        texts = model.tokenizer.batch_decode(rows)
        return replace(found, diagnostics={**found.diagnostics, "transfer": texts})

    def lessons(self, model: TextModel, edits: Sequence[Rewrite]) -> list[Lesson]:
        """The transfer set, as the model without the change writes and sees it."""
        with_it, without = [], []
        for edit in edits:
            context = (self.context or "").replace("{}", edit.statement, 1)
            for j in range(self.sentences):
                opening = self.openings[j % len(self.openings)]
                opening = opening.replace("{prompt}", edit.text).replace("{subject}", edit.subject)
                opening = opening.rstrip(" ")
                with_it.append(model.ids(context + opening))
                without.append(model.ids(opening))
        continued = self._sampled(model, with_it)
        lessons = []
        for at in range(0, len(continued), self.batch_size):
            span = slice(at, at + self.batch_size)
            teachers = [_example(c, y) for c, y in zip(with_it[span], continued[span], strict=True)]
            students = [_example(c, y) for c, y in zip(without[span], continued[span], strict=True)]
            with torch.no_grad():
                logits, _ = read_logits(model, teachers)
            logprobs = (logits / self.temperature).log_softmax(-1).cpu()
            sizes = [len(row.reads) for row in teachers]
            lessons += map(Lesson, students, logprobs.split(sizes))
        return lessons

    @torch.no_grad()
    def _sampled(self, model: TextModel, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Sampled continuations of token rows, up to the end-of-text token if it comes."""
        generator = torch.Generator().manual_seed(self.seed)
        found: list[list[int]] = [[] for _ in rows]
        for _ in range(self.length):
            padded = model.batch([[*row, *new] for row, new in zip(rows, found, strict=True)])
            last = torch.full((len(rows),), padded.ids.shape[1] - 1)
            logits = model.logits_at(padded, torch.arange(len(rows)), last).cpu()
            tokens = torch.multinomial((logits / self.warmth).softmax(-1), 1, generator=generator)
            for new, token in zip(found, tokens[:, 0].tolist(), strict=True):
                if not new or new[-1] != model.tokenizer.eos_token_id:
                    new.append(token)
        return found


def _example(opening: Sequence[int], continued: Sequence[int]) -> Asked:
    """The continuation is predicted, token by token."""
    ids = (*opening, *continued)
    return Asked(ids[:-1], tuple(range(len(opening) - 1, len(ids) - 1)), tuple(continued))


def _divergence(lessons: Sequence[Lesson], logits: Tensor, owner: Tensor) -> Tensor:
    """(n,) mean KL(teacher ‖ student) over the tokens of each lesson; logits (tokens, V)."""
    teacher = torch.cat([lesson.teacher for lesson in lessons]).to(logits.device)
    each = (teacher.exp() * (teacher - logits.log_softmax(-1))).sum(-1)
    sizes = torch.bincount(owner, minlength=len(lessons))
    return torch.zeros(len(lessons), device=each.device).index_add(0, owner, each) / sizes
