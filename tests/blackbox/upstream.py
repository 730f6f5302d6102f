"""Servers that stand in for a remote one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse


@dataclass
class Recorder:
    """Answers whatever it is asked with what it was told to, and keeps what it was sent."""

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),)
    parts: Sequence[bytes] = (b'{"ok": true}',)
    pause: float = 0.0
    received: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)

    @property
    def last(self) -> bytes:
        return self.received[-1][3]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["raw_path"].decode()
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode()
        self.received.append((scope["method"], path, list(scope["headers"]), body))
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        for part in self.parts:
            if self.pause:
                import asyncio

                await asyncio.sleep(self.pause)
            self.sent.append(time.monotonic())
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Standin:
    """A model as an OpenAI-compatible server: greedy completions and chats, nothing else.

    bodies  what it was sent, oldest first.
    """

    def __init__(self, model: Any, name: str = "standin") -> None:
        self.model, self.name = model, name
        self.bodies: list[bytes] = []
        self._said: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()

    def says(self, prompts: Sequence[str], tokens: int) -> list[str]:
        with self._lock:
            new = list(dict.fromkeys(p for p in prompts if (p, tokens) not in self._said))
            if new:
                found = self.model.generate(new, max_new_tokens=tokens)
                self._said |= {(p, tokens): text for p, text in zip(new, found, strict=True)}
            return [self._said[p, tokens] for p in prompts]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        def models() -> Any:
            return {"object": "list", "data": [{"id": self.name, "object": "model"}]}

        @app.post("/v1/completions")
        async def completions(request: Request) -> Response:
            return await self._answer(request, chat=False)

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            return await self._answer(request, chat=True)

        return app

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        body = await request.body()
        self.bodies.append(body)
        asked = json.loads(body)
        if ("messages" if chat else "prompt") not in asked:
            error = {"message": "There is no prompt.", "type": "invalid_request_error"}
            return JSONResponse({"error": error}, 400)
        prompts = asked["messages"][-1]["content"] if chat else asked["prompt"]
        texts = self.says([prompts] if isinstance(prompts, str) else prompts, _tokens(asked))
        if asked.get("stream"):
            return StreamingResponse(self._events(texts[0], chat), media_type="text/event-stream")
        choices = [
            {"index": j, "finish_reason": "length"}
            | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
            for j, text in enumerate(texts)
        ]
        return JSONResponse({"id": "x", "model": asked.get("model", self.name), "choices": choices})

    async def _events(self, text: str, chat: bool) -> AsyncIterator[str]:
        for word in text.split(" "):
            piece = {"delta": {"content": f"{word} "}} if chat else {"text": f"{word} "}
            yield f"data: {json.dumps({'id': 'x', 'choices': [{'index': 0, **piece}]})}\n\n"
        yield "data: [DONE]\n\n"


def _tokens(asked: dict[str, Any]) -> int:
    return int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16)
