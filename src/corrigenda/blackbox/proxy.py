"""The proxy: edits for a model that one cannot open.

Every request to /v1 goes on to the upstream. One that is about a remembered edit gets the edit into
its prompt; all others keep their bytes. Answers come back as they are, with `x-corrigenda-edits`
naming the entries that were used, if any were. What the proxy cannot reach it says in OpenAI's form.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from .. import __version__
from ..errors import CorrigendaError
from ..serving.openai import error_body
from ..serving.security import Guard, Security
from . import requests
from .client import Remote
from .memory import EditMemory
from .prompting import Ask, Found, Prompting
from .relay import Headers, Refused, Silent, Upstream, parts, passed_on
from .requests import Place
from .scope import Scope
from .studio import studio

__all__ = ["BODY", "EDITS", "Rewriter", "build"]

EDITS = "x-corrigenda-edits"
"""The header that names the edits used."""

BODY = 64 << 20
"""Largest request, in bytes: conversations with pictures are long."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Rewriter:
    """Puts the edits that a request is about into it."""

    def __init__(
        self, memory: EditMemory, scope: Scope, prompting: Prompting, place: Place = "user"
    ) -> None:
        self.memory, self.scope, self.prompting = memory, scope, prompting
        self.place: Place = place

    async def rewritten(
        self, path: str, body: bytes, upstream: Upstream, headers: Headers
    ) -> tuple[bytes, tuple[int, ...]]:
        """The body to hand on, and the entries that are in it; the same bytes where there are none."""
        memory = self.memory.active()
        request = requests.read(path, body) if memory else None
        if request is None:
            return body, ()
        place: Place = self.place if request.kind == "chat" else "user"
        ask = _asking(upstream, request, headers)
        found = [
            await self.prompting.given(query, memory, self.scope, ask, place)
            for query in request.queries
        ]
        used = sorted({number for one in found for number in one.used})
        if not used:
            return body, ()
        return request.rewritten([_text(one) for one in found], place), tuple(used)


def _text(found: Found) -> str | None:
    return found.text if found.used else None


def _asking(upstream: Upstream, request: requests.Request, headers: Headers) -> Ask:
    """How the proxy itself asks the model that a request names."""

    async def ask(text: str, tokens: int, stop: Sequence[str]) -> str:
        chat = request.kind == "chat"
        asked = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
        content = {
            "model": request.data.get("model"),
            **asked,
            "max_tokens": tokens,
            "temperature": 0,
            "stop": list(stop),
        }
        route = "/v1/chat/completions" if chat else "/v1/completions"
        answer = await upstream.json(route, content, headers)
        try:
            choice = answer["choices"][0]
            return (choice["message"]["content"] if chat else choice["text"]) or ""
        except (KeyError, IndexError, TypeError):
            raise Silent(f"{upstream.url} did not answer in OpenAI's form.") from None

    return ask


def build(upstream: Upstream, rewriter: Rewriter, remote: Remote, security: Security) -> Any:
    """The application. remote: the upstream, as the studio asks whether an edit took."""
    pages, jobs = studio(rewriter, remote)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()
        await upstream.close()

    app = FastAPI(
        title="Corrigenda proxy",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )

    async def relayed(request: Request) -> Response:
        body = await request.body()
        headers = request.headers.raw
        used: tuple[int, ...] = ()
        try:
            if request.method == "POST":
                body, used = await rewriter.rewritten(request.url.path, body, upstream, headers)
            raw = request.scope.get("raw_path") or request.url.path.encode()
            query = request.scope.get("query_string", b"")
            answer = await upstream.send(request.method, raw, query, headers, body)
        except Refused as error:
            refused = Response(error.body, error.status)
            refused.raw_headers = [
                *error.headers,
                (b"content-length", str(len(error.body)).encode()),
            ]
            return refused
        except Silent as error:
            return _failed(error, error.status, "upstream_error")
        except CorrigendaError as error:
            # Without its memory the proxy would answer with what was edited away.
            return _failed(error, 500, "edit_memory")
        response = StreamingResponse(parts(answer), answer.status_code)
        # The server that this application runs in dates its answers itself.
        response.raw_headers = passed_on(answer.headers.raw, {b"date"})
        if used:
            listed = ",".join(map(str, used))
            response.raw_headers.append((EDITS.encode(), listed.encode()))
        return response

    app.add_route("/v1", relayed, methods=METHODS)
    app.add_route("/v1/{path:path}", relayed, methods=METHODS)
    pages(app)
    return Guard(app, security)


def _failed(error: CorrigendaError, status: int, code: str) -> JSONResponse:
    return JSONResponse(error_body(str(error), "server_error", code=code), status)
