"""Hand a request on to another server and its answer back, byte for byte.

Headers go along except those that belong to one connection (RFC 9110, 7.6.1). Bodies are never
decoded, so a compressed answer stays compressed, and a stream is handed on part by part as it comes.
An answer that breaks off breaks off here too: it must not look whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EndpointError, InputError

if TYPE_CHECKING:
    import httpx

__all__ = ["Refused", "Silent", "Upstream", "passed_on"]

Headers = Sequence[tuple[bytes, bytes]]

OWN = {
    b"connection",
    b"expect",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
"""Headers of one connection."""

CONNECT, SILENCE = 10.0, 600.0
"""Seconds to reach the server, and seconds that it may be silent while it thinks."""


class Silent(EndpointError):
    """The upstream cannot be reached, or breaks off. status: what to answer with."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class Refused(EndpointError):
    """The upstream answered a question of the proxy's own with an error, which goes on as it came."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"The upstream answered with status {status}.")
        self.status, self.headers, self.body = status, headers, body


class Upstream:
    """An OpenAI-compatible server.

    url   base of the API; without a path, "/v1" is added.
    key   sent as a bearer token in place of the client's; None: the client's is handed on.
    hide  the client's Authorization is not handed on, since it was meant for the proxy.
    """

    def __init__(self, url: str, key: str | None = None, *, hide: bool = False) -> None:
        try:
            import httpx
        except ImportError:
            raise EndpointError("The proxy needs httpx: pip install 'corrigenda[proxy]'") from None
        try:
            base = httpx.URL(url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is no address: {error}.") from None
        if base.scheme not in ("http", "https") or not base.host:
            raise InputError(
                f"{url!r} is no address of a server. Give one such as http://localhost:8000/v1."
            )
        if base.path in ("", "/"):
            base = base.copy_with(path="/v1")
        self.url = str(base)
        self._base, self._key, self._hide = base, key, hide
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(SILENCE, connect=CONNECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            follow_redirects=False,
        )

    async def send(
        self, method: str, path: bytes, query: bytes, headers: Headers, body: bytes
    ) -> httpx.Response:
        """The upstream's answer, its body unread. Close it.

        path  raw, beginning with /v1, which stands for the base of the upstream's API.

        Raises `Silent` where it cannot be reached.
        """
        import httpx

        raw = self._base.raw_path + path.removeprefix(b"/v1") + (b"?" + query if query else b"")
        request = httpx.Request(
            method,
            self._base.copy_with(raw_path=raw),
            headers=self._onward(headers),
            content=body or None,
            extensions={"timeout": self._client.timeout.as_dict()},
        )
        if not body and method in ("POST", "PUT", "PATCH"):
            request.headers["Content-Length"] = "0"
        try:
            return await self._client.send(request, stream=True)
        except httpx.TimeoutException as error:
            what = f"{self.url} did not answer in time ({type(error).__name__})."
            raise Silent(what, 504) from error
        except httpx.TransportError as error:
            raise Silent(
                f"{self.url} cannot be reached ({type(error).__name__}: {error}). Check that the "
                "upstream runs."
            ) from error

    async def json(self, path: str, content: Any, headers: Headers) -> Any:
        """A question of the proxy's own. Raises `Refused` and `Silent`."""
        import json

        import httpx

        kept = [
            (k, v) for k, v in headers if k.lower() not in (b"content-type", b"accept-encoding")
        ]
        kept.append((b"content-type", b"application/json"))
        body = json.dumps(content).encode()
        response = await self.send("POST", path.encode(), b"", kept, body)
        try:
            answer = await response.aread()
            if not response.is_success:
                # It is decoded now, so what described its coding goes.
                gone = {b"content-encoding", b"content-length"}
                told = passed_on(response.headers.raw, gone)
                raise Refused(response.status_code, told, answer)
            return json.loads(answer)
        except httpx.TransportError as error:
            raise Silent(f"{self.url} broke off ({type(error).__name__}).") from error
        except ValueError:
            raise Silent(f"{self.url} did not answer in JSON.") from None
        finally:
            await response.aclose()

    async def close(self) -> None:
        await self._client.aclose()

    def _onward(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        gone = {b"host", b"content-length"}
        if self._key is not None or self._hide:
            gone |= {b"authorization"}
        kept = passed_on(headers, gone)
        if self._key is not None:
            kept.append((b"authorization", f"Bearer {self._key}".encode()))
        return kept


def passed_on(
    headers: Iterable[tuple[bytes, bytes]], gone: set[bytes]
) -> list[tuple[bytes, bytes]]:
    """Headers without those of one connection, and those named."""
    listed = [(k, v) for k, v in headers]
    named = {
        part.strip().lower()
        for k, v in listed
        if k.lower() == b"connection"
        for part in v.split(b",")
    }
    return [(k, v) for k, v in listed if k.lower() not in OWN | gone | named]


async def parts(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes over the wire. What breaks off raises."""
    try:
        async for part in response.aiter_raw():
            yield part
    finally:
        await response.aclose()
