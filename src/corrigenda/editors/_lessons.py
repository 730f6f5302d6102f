"""What a meta-learned editor is trained on: lessons, and the loss of a change that was made for them.

A lesson is an edit with other wordings of the same question and with unrelated prompts. A change of
linear maps is had in factored form, Δ = u v with u (o, n) and v (n, i), and judged by

    NLL(target | the edit and other wordings; W + Δ)      KL(p_W ‖ p_{W+Δ}) on unrelated prompts
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..edit import Case, Rewrite
from ..errors import DataError
from ..model import Site
from ..models.asked import Asked
from ..models.text import TextModel
from ..numerics.gradients import nll_at
from ._finetune import rerouted

__all__ = ["Changes", "Lesson", "changed", "lessons_from", "outer_loss"]

Changes = Mapping[Site, tuple[Tensor, Tensor]]
"""By linear map the factors u (o, n) and v (n, i) of a change; both may need gradients."""

WORDINGS, UNRELATED = 2, 3
"""Questions of a lesson in one step: the edit itself and another wording; unrelated prompts."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the network is trained on.

    wordings   other prompts that ask for the edited fact.
    unrelated  prompts whose answers should stay, each with its answer, or "" if it is not known.
    """

    edit: Rewrite
    wordings: tuple[str, ...] = ()
    unrelated: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, given: Case | Rewrite) -> Lesson:
        """Of a case: its paraphrases and its locality probes."""
        if isinstance(given, Rewrite):
            return cls(given)
        return cls(
            given.rewrite,
            tuple(p.prompt for p in given.on("generalization")),
            tuple((p.prompt, p.answers[0] if p.answers else "") for p in given.on("locality")),
        )

    def to_json(self) -> str:
        return json.dumps([self.edit.to_dict(), self.wordings, self.unrelated], ensure_ascii=False)


def lessons_from(cases: Sequence[Case | Rewrite]) -> list[Lesson]:
    """Lessons; where a case names no unrelated prompt, those of other edits serve.

    Raises `DataError` when there are fewer than two: nothing would be unrelated.
    """
    lessons = [Lesson.of(case) for case in cases]
    if len(lessons) < 2:
        raise DataError(
            f"A network is trained on many edits; {len(lessons)} were given. Give hundreds, best "
            "with paraphrases and with prompts whose answers should stay."
        )
    prompts = [lesson.edit.text for lesson in lessons]
    found = []
    for j, lesson in enumerate(lessons):
        near = tuple((p, "") for p in prompts[j + 1 : j + 9] + prompts[max(0, j - 8) : j])
        others = tuple(pair for pair in near if pair[0] != lesson.edit.text)
        found.append(lesson if lesson.unrelated else replace(lesson, unrelated=others))
    if any(not lesson.unrelated for lesson in found):
        raise DataError("All edits have the same prompt, so none of them is unrelated to another.")
    return found


def _drawn(
    model: TextModel, lesson: Lesson, draw: random.Random
) -> tuple[list[Asked], list[Asked]]:
    """As many questions of either kind for every lesson, so that groups of lessons are alike."""
    edit = lesson.edit
    wanted = [model.asked(edit.text, edit.target, edit.following)]
    for _ in range(WORDINGS - 1):
        if lesson.wordings:
            wanted.append(model.asked(draw.choice(lesson.wordings), edit.target))
        else:
            wanted.append(wanted[0])
    pairs = [draw.choice(lesson.unrelated) for _ in range(UNRELATED)]
    return wanted, [model.asked(p, a) if a else model.opening(p) for p, a in pairs]


@contextmanager
def changed(model: TextModel, groups: Sequence[Changes]) -> Iterator[None]:
    """The model computes with W + Δ_g on the g-th of as many equal parts of a batch of questions."""
    with ExitStack() as stack:
        for site in groups[0]:
            u, v = _stacked([group[site] for group in groups])

            def output(x: Tensor, own: Tensor, u: Tensor = u, v: Tensor = v) -> Tensor:
                parts = x.reshape(len(u), -1, x.shape[-1]).to(u.dtype)  # (g, tokens, i)
                u, v = u.to(x.device), v.to(x.device)
                added = parts @ v.transpose(1, 2) @ u.transpose(1, 2)
                return own + added.reshape(own.shape).to(own.dtype)

            stack.enter_context(rerouted(model.linear(site), output))
        yield


def _stacked(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """u (g, o, n) and v (g, n, i), with columns of zeros where a change has fewer."""
    most = max(v.shape[0] for _, v in pairs)
    pad = nn.functional.pad
    return (
        torch.stack([pad(u, (0, most - u.shape[1])) for u, _ in pairs]),
        torch.stack([pad(v, (0, 0, 0, most - v.shape[0])) for _, v in pairs]),
    )


def outer_loss(
    model: TextModel,
    groups: Sequence[Changes],
    lessons: Sequence[Sequence[Lesson]],
    draw: random.Random,
    before: Changes = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """How well changes answer (mean NLL of the targets) and what they do elsewhere (mean KL of the
    model without any change to that with it); differentiable scalars.

    lessons  of every group, as many for each.
    before   the change that every group comes on top of.
    """
    drawn = [_drawn(model, lesson, draw) for group in lessons for lesson in group]
    rows = [row for wanted, unrelated in drawn for row in (*wanted, *unrelated)]
    elsewhere = [row for _, unrelated in drawn for row in unrelated]
    with torch.no_grad():
        told = model.target_logits(model.force(elsewhere)).log_softmax(-1)  # (m, V)
    with changed(model, [before]), changed(model, groups):
        questions = model.force(rows)
        logits = model.target_logits(questions)
    owner = questions.row.to(logits.device)
    edited = owner % (WORDINGS + UNRELATED) < WORDINGS
    wanted = torch.tensor([t for w, _ in drawn for row in w for t in row.wanted])
    kept = nll_at(logits[edited], wanted.to(logits.device), owner[edited], len(rows))
    nll = kept.sum() / (len(drawn) * WORDINGS)
    now = logits[~edited].log_softmax(-1)
    return nll, (told.exp() * (told - now)).sum(-1).mean()
