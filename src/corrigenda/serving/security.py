"""What stands between the network and an application: who may ask, how much, and from where.

Plain ASGI, so that the proxy uses it too. In the order in which a request meets them:

    Host     a page of a foreign site that has its name resolve to this address (DNS rebinding)
             sends that name; only names of this server and bare addresses are answered
    Origin   a page of a foreign site may send a form or a text to this address without asking; what
             changes anything is refused if its Origin is not this server
    rate     a bucket of requests per client address: 429 with Retry-After
    token    on all but the page's own files, compared in constant time
    size     a body is read here, up to a limit: 413

Every answer carries a policy that lets the page load nothing from elsewhere. Nothing here speaks
CORS: other sites get no answer that they could read.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HEADERS", "Guard", "Security", "is_loopback", "new_token"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
PATIENCE = 30.0
"""Seconds in which a body has to arrive."""
FORGOTTEN = 8
"""Times the limit that is read of a body which is too long, and forgotten: who is still sending
does not hear the answer."""
GUESS = 20
"""Requests that a wrong token counts as."""
CLIENTS = 4096
"""Addresses whose rate is remembered; the one that was silent longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Security:
    """Who is answered.

    token   asked for as `Authorization: Bearer`; None: nobody is asked.
    hosts   names by which this server may be addressed, besides localhost and bare addresses.
    body    largest body of a request, in bytes.
    rate    requests per second that one address may keep up; burst: what it may send at once.
    open    paths, and beginnings of paths that end in /, that need no token: the page's own files.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    body: int = 1 << 20
    rate: float = 200.0
    burst: int = 1000
    open: tuple[str, ...] = ("/", "/static/", "/favicon.ico")


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """The middleware: `Guard(app, security)`."""

    def __init__(self, app: Any, security: Security) -> None:
        self._app = app
        self._security = security
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        respond = _with_headers(send, scope["path"])
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _refuse(respond, *refused)
            return
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(receive, headers, self._security.body)
        except TimeoutError:
            body = 408
        if isinstance(body, int):
            why = {
                400: "The request's Content-Length is no number.",
                408: f"The body did not arrive within {PATIENCE:.0f} seconds. Send it again.",
                413: f"The body of a request may have {self._security.body} bytes. Send less at "
                "once.",
            }
            await _refuse(respond, body, why[body])
            return
        if body is None:  # the client has gone
            return
        await self._app(scope, _replayed(body, receive), respond)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, int] | None:
        """(status, why, seconds to wait) of a request that is not answered."""
        name = _name(headers.get("host", ""))
        if not self._known(name):
            return (
                421,
                (
                    f"This server is not called {name[:100]!r}. Use its address, or localhost, or "
                    "start it with that name as --name."
                ),
                0,
            )
        reads = scope["method"] in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        if origin is not None and not reads and not _same(origin, headers.get("host", "")):
            return 403, "Requests of other sites' pages are refused.", 0
        client = (scope.get("client") or ("",))[0]
        if wait := self._wait(client):
            return 429, "Too many requests. Try again in a moment.", wait
        path = scope["path"]
        free = any(
            path == p or (len(p) > 1 and p.endswith("/") and path.startswith(p))
            for p in self._security.open
        )
        if self._security.token is not None and not free:
            given = headers.get("authorization", "")
            kind, _, token = given.partition(" ")
            right = hmac.compare_digest(
                token.strip().encode("latin-1", "replace"), self._security.token.encode()
            )
            if kind.lower() != "bearer" or not right:
                # A guess costs as much as twenty requests, also where fewer are left.
                left, then = self._buckets[client]
                self._buckets[client] = max(0.0, left - GUESS), then
                return (
                    401,
                    (
                        "A token is needed: send the header `Authorization: Bearer TOKEN` with the "
                        "token that the server printed when it started."
                    ),
                    0,
                )
        return None

    def _known(self, name: str) -> bool:
        if name == "localhost" or name in self._security.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # a bare address cannot be rebound

    def _wait(self, client: str) -> int:
        """Take from a client's bucket; whole seconds until it may ask again, 0 for now."""
        now = time.monotonic()
        left, then = self._buckets.pop(client, (float(self._security.burst), now))
        left = min(float(self._security.burst), left + (now - then) * self._security.rate)
        over = left < 1
        self._buckets[client] = (left if over else left - 1), now
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return max(1, round((1 - left) / self._security.rate + 0.5)) if over else 0


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _same(origin: str, host: str) -> bool:
    """Whether an Origin header names the server that a Host header names."""
    _, _, rest = origin.partition("://")
    return bool(rest) and rest.strip().lower() == host.strip().lower()


async def _body(receive: Receive, headers: dict[str, str], most: int) -> bytes | int | None:
    """The body of a request; the status of one that is refused; None if the client went."""
    told = headers.get("content-length")
    if told is not None and not (told.isascii() and told.isdigit()):
        return 400
    over = told is not None and (len(told) > 18 or int(told) > most)
    parts, size = [], 0
    while True:
        if over and size > FORGOTTEN * most:
            return 413
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        over = over or size > most
        if over:
            parts.clear()
        else:
            parts.append(part)
        if not message.get("more_body"):
            return 413 if over else b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what comes after it."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _with_headers(send: Send, path: str) -> Send:
    extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
    if path.startswith(("/api/", "/v1/")):
        extra.append((b"cache-control", b"no-store"))

    async def respond(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            set_here = {name for name, _ in extra}
            kept = [(k, v) for k, v in message.get("headers", ()) if k.lower() not in set_here]
            message = {**message, "headers": [*kept, *extra]}
        await send(message)

    return respond


KINDS = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    408: ("invalid_request_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    421: ("invalid_request_error", "unknown_host"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


async def _refuse(send: Send, status: int, message: str, wait: int = 0) -> None:
    kind, code = KINDS.get(status, ("invalid_request_error", None))
    content = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if wait:
        headers.append((b"retry-after", str(wait).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
