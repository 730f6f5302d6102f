"""MeLLo: the model takes a question apart and checks each step against a memory of edited facts.

Zhong, Wu, Manning, Potts, Chen 2023, 2305.14795. No weight changes. For every prompt the model
writes, after a few demonstrations of the form,

    Subquestion: ...                  what has to be known first
    Tentative answer: ...             what it would say itself
    Retrieved fact: ...               added: the edited fact nearest to the subquestion
    So the answer is: ...             the fact's answer if it contradicts, its own if not
    ...                               at most four times
    Final answer: ...

so an edit reaches what follows from it. With an empty memory the same form without retrieved facts
is a chain of thought. A dialogue that loses the form, or its room in the context, is asked for its
final answer where it stands. The form takes a model that can follow demonstrations; small ones
rarely do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..context import MARKS, Dialogue
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..models.text import TextModel
from ._retrieval import RetrievalEditor

__all__ = ["MeLLo"]


class Step(NamedTuple):
    """One hop of a demonstration.

    question   `{}` is the answer of the step before.
    tentative  what the model would say itself, after that answer.
    fact       what is looked up; answer: what it says, or "" where it does not contradict.
    alone      what the model would say itself in a chain of thought, if that differs.
    """

    question: str
    tentative: str
    fact: str
    answer: str = ""
    alone: str = ""


DEMONSTRATIONS: tuple[tuple[str, tuple[Step, ...]], ...] = (
    (
        "Which language is spoken in the country where the Atacama Desert lies?",
        (
            Step("In which country does the Atacama Desert lie?", "Chile",
                 "The Atacama Desert lies in Norway", "Norway"),
            Step("Which language is spoken in {}?", "Norwegian",
                 "The capital of Canada is Lima", alone="Spanish"),
        ),
    ),
    (
        "In which city does the club of the goalkeeper Iker Soler play?",
        (
            Step("For which club does Iker Soler play?", "Valencia CF",
                 "Ada Brandt plays the violin"),
            Step("In which city does {} play?", "Valencia",
                 "Valencia CF plays in the city of Turin", "Turin"),
        ),
    ),
    (
        "The inventor of the telephone was born in",
        (
            Step("Who invented the telephone?", "Alexander Graham Bell",
                 "The steam engine was invented by Marie Curie"),
            Step("Where was {} born?", "Edinburgh",
                 "Alexander Graham Bell was born in Oslo", "Oslo"),
        ),
    ),
)  # fmt: skip
"""Questions with the steps to their answers. Half of what is looked up is beside the point."""


@dataclass(frozen=True)
class MeLLo(RetrievalEditor):
    """Answer in steps that are checked against the edits. See `RetrievalEditor` for other fields.

    demonstrations  how many of the three are shown, if half of the context holds them.
    hops            at most this many facts are looked up for a prompt.
    tokens          new tokens that the model may write between two of them.
    """

    demonstrations: int = 3
    hops: int = 4
    tokens: int = 64

    name: ClassVar[str] = "mello"
    title: ClassVar[str] = "MeLLo"
    paper: ClassVar[str] = "Zhong et al. 2023, 2305.14795"
    change: ClassVar[str] = "Prefix"
    kinds: ClassVar[tuple[str, ...]] = ("causal",)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        head = plain = ""
        number = 0
        for number in range(min(self.demonstrations, len(DEMONSTRATIONS)), 0, -1):
            shown = DEMONSTRATIONS[:number]
            head = "".join(rendered(*one) for one in shown)
            plain = "".join(rendered(*one, looked_up=False) for one in shown)
            if _fits(model, head):
                break
            head = plain = ""
        few = min(self.demonstrations, 3) and not head
        warning = f"{model.id} has no room for demonstrations, which MeLLo's form is learned from."
        facts = tuple(e.statement for e in edits)
        found = Dialogue(
            facts, self.keys(model, edits), head, plain, self.hops, self.tokens, self.encoder
        )
        return Solution(
            {"context": found},
            diagnostics={"demonstrations": number if head else 0},
            warnings=(warning,) if few else (),
        )


def rendered(question: str, steps: Sequence[Step], *, looked_up: bool = True) -> str:
    """A demonstration as text; without what is looked up it is a chain of thought."""
    lines, answer = [f"{MARKS['question']} {question}"], ""
    for step in steps:
        lines.append(f"{MARKS['sub']} {step.question.replace('{}', answer)}")
        own = step.tentative if looked_up else step.alone or step.tentative
        answer = (step.answer or own) if looked_up else own
        lines.append(f"{MARKS['tentative']} {own}")
        if looked_up:
            verdict = "contradicts" if step.answer else "does not contradict"
            lines += [f"{MARKS['retrieved']} {step.fact}", f"The fact {verdict} the answer."]
        lines.append(f"{MARKS['decision']} {answer}")
    return "\n".join([*lines, f"{MARKS['final']} {answer}"]) + "\n\n"


def _fits(model: TextModel, text: str) -> bool:
    """Whether a text takes no more than half of the model's context."""
    limit = getattr(model.module.config.get_text_config(), "max_position_embeddings", None)
    return limit is None or 2 * len(model.ids(text)) <= limit
