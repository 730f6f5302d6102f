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
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from .errors import InputError, JudgeError
from .metrics.statistics import kappa

if TYPE_CHECKING:
    import httpx

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

LEAST_LABELS, LEAST_KAPPA = 200, 0.8
LONGEST_WAIT = 60.0  # seconds, whatever the server asks for

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
        halt = Event()
        with self._client() as client, ThreadPoolExecutor(self.workers) as pool:
            try:
                replies = list(pool.map(lambda one: self._reply(client, one, halt), once))
            except BaseException:
                halt.set()  # nobody waits for the rest, nor asks it
                pool.shutdown(cancel_futures=True)
                raise
        served = sorted({name for _, name in replies} | ({self.served} - {""}))
        if len(served) > 1:
            raise JudgeError(
                f"{self.url} answered as {' and as '.join(served)} in one run, and verdicts of two "
                "judges are not one score. Pin a version of the model and judge all of it again."
            )
        self.served = served[0]
        found = {q: verdict_of(text) for q, (text, _) in zip(once, replies, strict=True)}
        return [found[question] for question in questions]

    def ready(self) -> None:
        """Raises `JudgeError` now if httpx or the key is missing, not after hours of generation."""
        self._client().close()

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

    def _client(self) -> httpx.Client:
        try:
            import httpx
        except ImportError:
            raise JudgeError(
                "Asking a judge needs httpx: pip install 'corrigenda[judge]'"
            ) from None
        key = os.environ.get(KEY, "")
        if not key:
            raise JudgeError(
                f"There is no key for the judge at {self.url}: set {KEY}, to 'none' if the server "
                "takes none. Without a judge, ask for the unjudged scores by their own names."
            )
        headers = {} if key == "none" else {"Authorization": f"Bearer {key}"}
        return httpx.Client(
            base_url=self.url.rstrip("/") + "/", headers=headers, timeout=self.timeout
        )

    def _reply(self, client: httpx.Client, question: Question, halt: Event) -> tuple[str, str]:
        """The judge's words and the model that the server names."""
        filled = PROMPT.format(
            question=question.question,
            reference=" or ".join(question.reference),
            answer=question.answer or "(nothing)",
        )
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": filled}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        response = self._posted(lambda: client.post("chat/completions", json=body), halt)
        try:
            data = response.json()
            return data["choices"][0]["message"]["content"] or "", data.get("model") or self.model
        except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise JudgeError(
                f"{self.url} did not answer in the form of a chat completion "
                f"({type(error).__name__}: {response.text[:200]!r}). Give the base of an "
                "OpenAI-compatible API, such as http://localhost:8000/v1."
            ) from None

    def _posted(self, post: Callable[[], httpx.Response], halt: Event) -> httpx.Response:
        """Try until the server answers, the attempts are used up, or another question failed."""
        import httpx

        last = ""
        for attempt in range(self.attempts):
            wait = self.backoff * 2**attempt
            try:
                response = post()
            except httpx.TransportError as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return response
                last = f"HTTP {response.status_code}: {response.text[:200]}"
                if response.status_code not in (408, 409, 429) and response.status_code < 500:
                    raise JudgeError(
                        f"{self.url} refuses the judge's question ({last}). Check the model's name "
                        f"{self.model!r}, the address, and the key in {KEY}."
                    )
                wait = _asked_to_wait(response.headers.get("retry-after"), wait)
            if attempt + 1 < self.attempts and _paused(halt, min(wait, LONGEST_WAIT)):
                break
        raise JudgeError(
            f"{self.url} did not answer in {self.attempts} attempts ({last}). Check that the server "
            "runs and can be reached, or ask it with fewer workers. A run with --resume keeps what "
            "was generated."
        )


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


def _paused(halt: Event, seconds: float) -> bool:
    """Wait, and say whether it was cut short."""
    return halt.wait(seconds)


def _asked_to_wait(header: str | None, otherwise: float) -> float:
    """Seconds in a Retry-After header; dates are not read."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return otherwise
