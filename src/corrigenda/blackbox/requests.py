"""A request to an OpenAI-compatible endpoint: what it asks, and the same request with other text.

Only the prompt changes (of completions) or one message (of chats); every other field, known or not,
stays as it came. A body that cannot be read as such a request asks nothing, and goes on untouched.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .scope import Query

__all__ = ["Place", "Request", "read"]

Place = Literal["user", "system"]
"""Where edits enter a chat: before the user's last message, or as a system message."""


@dataclass(frozen=True)
class Request:
    """A request that asks something.

    kind     which of the two routes it came by.
    data     its body.
    queries  what it asks: one for a chat, one per prompt for completions.
    """

    kind: Literal["chat", "completions"]
    data: dict[str, Any] = field(repr=False)
    queries: tuple[Query, ...] = ()

    def rewritten(self, texts: Sequence[str | None], place: Place = "user") -> bytes:
        """The body with these texts in place of what was asked; None leaves one as it is.

        place  "system": of a chat, the text is a system message of its own.
        """
        data = copy.copy(self.data)
        if self.kind == "completions":
            asked = self.data["prompt"]
            new = [
                query.text if text is None else text
                for query, text in zip(self.queries, texts, strict=True)
            ]
            data["prompt"] = new[0] if isinstance(asked, str) else new
        elif texts[0] is not None:
            data["messages"] = _told(list(self.data["messages"]), texts[0], place)
        return json.dumps(data).encode()


def read(path: str, body: bytes) -> Request | None:
    """The request in a body; None where it asks nothing that can be read: another route, no JSON,
    tokens in place of text, no message of a user."""
    kind = path.rstrip("/").rpartition("/v1/")[2]
    if kind not in ("completions", "chat/completions"):
        return None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    if kind == "completions":
        prompt = data.get("prompt")
        prompts = prompt if isinstance(prompt, list) else [prompt]
        texts = [one for one in prompts if isinstance(one, str)]
        if not texts or len(texts) < len(prompts):
            return None
        return Request("completions", data, tuple(Query(one) for one in texts))
    messages = data.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        return None
    last = _last_user(messages)
    if last is None or not (text := _text(messages[last])):
        return None
    before = "\n".join(filter(None, map(_text, _turn_before(messages[:last]))))
    return Request("chat", data, (Query(text, before),))


def _last_user(messages: Sequence[dict[str, Any]]) -> int | None:
    found = [j for j, one in enumerate(messages) if one.get("role") == "user"]
    return found[-1] if found else None


def _turn_before(messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The user's message before, and what was answered to it."""
    start = _last_user(messages)
    turn = messages[start:] if start is not None else []
    return [one for one in turn if one.get("role") in ("user", "assistant")]


def _text(message: dict[str, Any]) -> str:
    """The text of a message, also where it comes in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if _is_text(part))


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _told(messages: list[dict[str, Any]], text: str, place: Place) -> list[dict[str, Any]]:
    last = _last_user(messages)
    assert last is not None  # `read` has seen it
    if place == "system":
        # After the application's own system messages, so that it is the last word on facts.
        at = next((j for j, one in enumerate(messages) if one.get("role") not in _LEADING), 0)
        return [*messages[:at], {"role": "system", "content": text}, *messages[at:]]
    content = messages[last]["content"]
    if isinstance(content, str):
        changed: Any = text
    else:
        # The texts of a message in parts become one, where the first of them stood.
        first = next(j for j, part in enumerate(content) if _is_text(part))
        kept = [part for j, part in enumerate(content) if j <= first or not _is_text(part)]
        changed = [{**part, "text": text} if _is_text(part) else part for part in kept]
    messages[last] = {**messages[last], "content": changed}
    return messages


_LEADING = ("system", "developer")
