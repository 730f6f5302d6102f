"""The wire format of OpenAI's API, as far as it is spoken here: requests, answers, parts, errors.

Only what goes over the wire; who answers is not known here, so the proxy uses it too. A request may
hold fields that are not known: clients send many that mean nothing to another server. A known field
that asks for what cannot be done is refused, so that nobody believes it was.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from .decoding import TokenLogprob

__all__ = [
    "DONE",
    "ChatRequest",
    "CompletionRequest",
    "Message",
    "Models",
    "Part",
    "Usage",
    "chat_answer",
    "chat_chunk",
    "completion_answer",
    "completion_chunk",
    "dumps",
    "error_body",
    "event",
    "model_list",
    "new_id",
    "now",
]

DONE = "data: [DONE]\n\n"
MOST = 16
"""Answers to one request, and alternatives of one token, at most."""


class _Request(BaseModel):
    """What both kinds of request share."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(max_length=500, description="base, edited, or the name of a set of edits")
    temperature: float | None = Field(default=None, ge=0, le=2, description="1 unless given")
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    n: int | None = Field(default=None, ge=1, le=MOST)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings. Raises `InputError` for too many, or an empty one."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(found) > MOST or any(not text or len(text) > 1000 for text in found):
            raise InputError(f"Give at most {MOST} stop strings of 1 to 1000 characters.")
        return tuple(found)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a part that counts tokens."""
        return bool((self.stream_options or {}).get("include_usage"))

    def seeds(self) -> list[int]:
        """One for each answer: the same request with a seed gets the same answers."""
        first = random.getrandbits(62) if self.seed is None else self.seed
        return [first + j for j in range(self.n or 1)]

    def check(self) -> None:
        """Raises `InputError` for what is asked and cannot be done."""
        for name in ("frequency_penalty", "presence_penalty", "logit_bias"):
            if getattr(self, name):
                raise InputError(
                    f"{name} is not supported: it would change what the edited model says. "
                    "Leave it out."
                )


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Its text, also where it comes in parts. Raises `InputError` for other parts."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        texts = []
        for part in self.content:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise InputError(
                    f"A message has a part of type {part.get('type')!r}; only text is read here."
                )
            texts.append(part["text"])
        return "".join(texts)


class ChatRequest(_Request):
    """POST /v1/chat/completions"""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None

    def check(self) -> None:
        super().check()
        if self.tools:
            raise InputError("Tools are not supported here. Leave `tools` out.")
        if (self.response_format or {}).get("type", "text") != "text":
            raise InputError("Only the response_format of type text is supported here.")
        if any(m.role in ("tool", "function") for m in self.messages):
            raise InputError("Messages of tools are not supported here.")
        if not self.messages[-1].text.strip():
            raise InputError("The last message is empty. Give the model something to answer.")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives of each token are told; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def turns(self) -> list[dict[str, str]]:
        """The conversation as a chat template takes it."""
        roles = {"developer": "system"}
        return [{"role": roles.get(m.role, m.role), "content": m.text} for m in self.messages]


class CompletionRequest(_Request):
    """POST /v1/completions"""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    def check(self) -> None:
        super().check()
        for name in ("echo", "suffix"):
            if getattr(self, name):
                raise InputError(f"{name} is not supported here. Leave it out.")
        if self.best_of not in (None, 1, self.n):
            raise InputError("best_of is not supported here. Use n.")
        if not self.prompts:
            raise InputError("There is no prompt.")
        if len(self.prompts) * (self.n or 1) > 8 * MOST:
            raise InputError(f"Ask for at most {8 * MOST} answers at once.")

    @property
    def limit(self) -> int | None:
        return self.max_tokens or 16  # OpenAI's default

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or many, as texts or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


# -- answers ----------------------------------------------------------------------------------


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_dict(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        return {**self.model_dump(), "total_tokens": total}


class Models(BaseModel):
    """GET /v1/models"""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


def model_list(names: Iterable[str], created: int) -> Models:
    return Models(
        data=[
            {"id": name, "object": "model", "created": created, "owned_by": "corrigenda"}
            for name in names
        ]
    )


def now() -> int:
    return int(time.time())


def new_id(prefix: str) -> str:
    """A name for one answer: chatcmpl-..., cmpl-..."""
    return f"{prefix}-{uuid.uuid4().hex}"


Choices = Sequence[tuple[str, str, Sequence[TokenLogprob] | None]]
"""Of each answer: its text, finish reason, and log-probabilities if they were asked for."""


def chat_answer(
    id: str, created: int, model: str, choices: Choices, usage: Usage
) -> dict[str, Any]:
    """A whole answer."""
    told = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if logprobs is None else {"content": _chat_logprobs(logprobs)},
            "finish_reason": finish,
        }
        for index, (text, finish, logprobs) in enumerate(choices)
    ]
    return _head(id, "chat.completion", created, model, told, usage)


def completion_answer(
    id: str, created: int, model: str, choices: Choices, usage: Usage
) -> dict[str, Any]:
    """A whole completion."""
    told = [
        {
            "index": index,
            "text": text,
            "logprobs": None if logprobs is None else _legacy_logprobs(logprobs),
            "finish_reason": finish,
        }
        for index, (text, finish, logprobs) in enumerate(choices)
    ]
    return _head(id, "text_completion", created, model, told, usage)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer.

    index     of the choice; None: a part without choices, which counts.
    role      whether it says who speaks, which the first part of a chat does.
    """

    index: int | None = None
    text: str | None = None
    role: bool = False
    finish: str | None = None
    logprobs: Sequence[TokenLogprob] | None = None
    usage: Usage | None = None


def chat_chunk(id: str, created: int, model: str, part: Part) -> dict[str, Any]:
    """A part of a chat's answer as it goes over the wire."""
    delta: dict[str, Any] = {"role": "assistant"} if part.role else {}
    if part.text is not None:
        delta["content"] = part.text
    choice: dict[str, Any] = {"index": part.index, "delta": delta, "finish_reason": part.finish}
    if part.logprobs is not None:
        choice["logprobs"] = {"content": _chat_logprobs(part.logprobs)}
    told = [] if part.index is None else [choice]
    return _head(id, "chat.completion.chunk", created, model, told, part.usage)


def completion_chunk(id: str, created: int, model: str, part: Part) -> dict[str, Any]:
    """A part of a completion as it goes over the wire."""
    choice = {
        "index": part.index,
        "text": part.text or "",
        "logprobs": None if part.logprobs is None else _legacy_logprobs(part.logprobs),
        "finish_reason": part.finish,
    }
    told = [] if part.index is None else [choice]
    return _head(id, "text_completion", created, model, told, part.usage)


def _head(
    id: str,
    kind: str,
    created: int,
    model: str,
    choices: list[dict[str, Any]],
    usage: Usage | None,
) -> dict[str, Any]:
    """What all answers and parts have."""
    found = {"id": id, "object": kind, "created": created, "model": model, "choices": choices}
    return found if usage is None else {**found, "usage": usage.to_dict()}


def event(content: Mapping[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {dumps(content)}\n\n"


def dumps(content: Mapping[str, Any]) -> str:
    """JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_body(
    message: str,
    type: str = "invalid_request_error",
    *,
    param: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def _chat_logprobs(told: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    def one(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return [
        {**one(t.token, t.logprob), "top_logprobs": [one(*alternative) for alternative in t.top]}
        for t in told
    ]


def _legacy_logprobs(told: Sequence[TokenLogprob]) -> dict[str, Any]:
    offsets, at = [], 0
    for one in told:
        offsets.append(at)
        at += len(one.token)
    return {
        "tokens": [t.token for t in told],
        "token_logprobs": [t.logprob for t in told],
        "top_logprobs": [dict(t.top) for t in told],
        "text_offset": offsets,
    }
