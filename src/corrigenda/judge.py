"""A language model that judges answers: any endpoint that speaks OpenAI's chat protocol.

The judge is part of the number: its model, the prompt and its version, and temperature 0 are
recorded with every score, and a run in which the server changes the model stops. A missing judge is
an error; it never becomes exact match under the same name. Accept a judge where it agrees with
people: Cohen's kappa of at least 0.8 over at least 200 labelled answers (`acceptance`).

    judge = Judge("http://localhost:8000/v1", "Qwen/Qwen2.5-72B-Instruct")
    verdicts = judge([Question("Where is the Eiffel Tower?", ("Rome",), "It stands in Rome.")])

Needs `pip install 'corrigenda[judge]'`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .endpoint import Endpoint
from .errors import InputError, JudgeError
from .metrics.statistics import kappa

__all__ = ["KEY", "Acceptance", "Judge", "Question", "Verdict", "acceptance", "verdict_of"]

KEY = "CORRIGENDA_JUDGE_KEY"
"""The environment variable that holds the endpoint's key; "none" for one that takes no key."""

VERSION = "1"
PROMPT = """\
You grade one answer to one question. What counts as right is the reference given here, even where \
it is untrue in the world that you know.

Question: {question}
Reference: {reference}
Answer to grade: {answer}

Grade A (correct) if the answer states the reference, in any wording, and nothing in it contradicts \
the reference. Further details and a difference in spelling or case do no harm.
Grade B (incorrect) if it states something else, only hints at the reference among other \
candidates, contradicts it, refuses, or does not answer.

Reply with the single letter A or B."""

FORM = "a chat completion"
LEAST_LABELS, LEAST_KAPPA = 200, 0.8

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.S)
_LETTER = re.compile(r"\W*([AB])(?=\W*$|\s*[.:),\n—-])", re.I)
_NAMED = re.compile(r"\b(?:answer|grade|verdict)\W+(?:is\W+)?([AB])\b", re.I)
_BOXED = re.compile(r"\\boxed\{\W*([AB])\W*\}", re.I)
_WRONG = re.compile(r"\b(incorrect|not correct|wrong)\b", re.I)
_RIGHT = re.compile(r"\bcorrect\b", re.I)


@dataclass(frozen=True, slots=True)
class Question:
    """One answer to be judged. `reference`: any of these names what is right."""

    question: str
    reference: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge made of an answer.

    correct  A. An unparsable reply counts as B.
    parsed   the reply could be read.
    reply    as it came.
    """

    correct: bool
    parsed: bool
    reply: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Agreement of a judge with people over n labels. kappa: None where it is undefined."""

    kappa: float | None
    n: int
    accepted: bool


@dataclass
class Judge:
    """An endpoint and the model asked there.

    url         base of the API, ending in "/v1" mostly.
    model       as the endpoint calls it; name one version of it, not an alias that moves.
    workers     questions under way at once.
    timeout     seconds for one reply.
    attempts    tries of one question, where the network fails or the server is busy.
    backoff     seconds before the second try; doubled for each further one.
    max_tokens  of a reply; room for a model that thinks aloud.

    The key is read from the environment when the judge is first asked; it is never recorded.
    """

    url: str
    model: str
    workers: int = 4
    timeout: float = 60.0
    attempts: int = 6
    backoff: float = 1.0
    max_tokens: int = 1024
    served: str = field(default="", init=False)
    """The model that the server says it ran."""

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """Judge answers; equal questions are asked once.

        Raises `JudgeError` where the key or httpx is missing, the server refuses or stays silent,
        or the model changes on the way.
        """
        if not questions:
            return []
        once = list(dict.fromkeys(questions))
        endpoint = self._endpoint()
        bodies = [self._body(question) for question in once]
        found = endpoint.post("chat/completions", bodies, FORM)
        replies = [self._said(endpoint, reply) for reply in found]
        names = {name for _, name in replies} | {self.served}
        self.served = endpoint.one_model(names, "verdicts of two judges are not one score")
        verdicts = {q: verdict_of(text) for q, (text, _) in zip(once, replies, strict=True)}
        return [verdicts[question] for question in questions]

    def ready(self) -> None:
        """Raises `JudgeError` now if httpx or the key is missing, not after hours of generation."""
        self._endpoint().client().close()

    def identity(self) -> dict[str, Any]:
        """What a score has to say about its judge."""
        return {
            "url": self.url,
            "model": self.model,
            "served": self.served,
            "prompt_version": VERSION,
            "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(),
            "temperature": 0,
        }

    def _endpoint(self) -> Endpoint:
        key = os.environ.get(KEY, "")
        if not key:
            raise JudgeError(
                f"There is no key for the judge at {self.url}: set {KEY}, to 'none' if the server "
                "takes none. Without a judge, ask for the unjudged scores by their own names."
            )
        return Endpoint(
            self.url,
            "" if key == "none" else key,
            f"Check the judge's name {self.model!r}, the address, and the key in {KEY}.",
            self.workers,
            self.timeout,
            self.attempts,
            self.backoff,
            JudgeError,
        )

    def _body(self, question: Question) -> dict[str, Any]:
        filled = PROMPT.format(
            question=question.question,
            reference=" or ".join(question.reference),
            answer=question.answer or "(nothing)",
        )
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": filled}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }

    def _said(self, endpoint: Endpoint, reply: Any) -> tuple[str, str]:
        """The judge's words and the model that the server names."""
        try:
            return reply["choices"][0]["message"]["content"] or "", reply.get("model") or self.model
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise endpoint.strange(error, str(reply), FORM) from None


def verdict_of(reply: str) -> Verdict:
    """Read a reply: a letter, a letter that is named or boxed, or the words for it.

    A reply that names both or neither cannot be read, and is a B that is counted.
    """
    text = _THOUGHT.sub(" ", reply).strip()
    for pattern in (_LETTER, _BOXED, _NAMED):
        if found := pattern.match(text) if pattern is _LETTER else pattern.search(text):
            return Verdict(found[1].upper() == "A", True, reply)
    wrong, right = _WRONG.search(text), _RIGHT.search(_WRONG.sub(" ", text))
    if bool(wrong) != bool(right):
        return Verdict(bool(right), True, reply)
    return Verdict(False, False, reply)


def acceptance(verdicts: Sequence[Verdict], labels: Sequence[bool]) -> Acceptance:
    """Whether a judge agrees with people well enough to speak for them.

    labels  by people, of the same answers in the same order: is it correct?

    Raises `InputError` for fewer than 200 labels: too few to tell.
    """
    if len(labels) < LEAST_LABELS:
        raise InputError(
            f"A judge is accepted on at least {LEAST_LABELS} answers labelled by people; these are "
            f"{len(labels)}. Label more."
        )
    value = kappa([verdict.correct for verdict in verdicts], list(labels))
    return Acceptance(value, len(labels), value is not None and value >= LEAST_KAPPA)
