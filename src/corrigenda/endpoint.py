"""An endpoint that speaks OpenAI's protocol, asked politely: many requests at once, in order, with
patience where the network fails or the server is busy.

The judge (`judge.py`) and black-box models (`blackbox/client.py`) are asked through it. A request
that is refused ends the others at once. Needs `pip install 'corrigenda[judge]'`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from .errors import CorrigendaError, EndpointError

if TYPE_CHECKING:
    import httpx

__all__ = ["LONGEST_WAIT", "Endpoint"]

LONGEST_WAIT = 60.0  # seconds, whatever the server asks for


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently.

    url       base of the API, ending in "/v1" mostly.
    key       sent as a bearer token; empty: none is.
    hint      what to check where a request is refused, for the error's text.
    workers   requests under way at once.
    timeout   seconds for one reply.
    attempts  tries of one request.
    backoff   seconds before the second try; doubled for each further one.
    raises    the error for whatever goes wrong.
    """

    url: str
    key: str = ""
    hint: str = "Check the model's name, the address and the key."
    workers: int = 4
    timeout: float = 60.0
    attempts: int = 6
    backoff: float = 1.0
    raises: type[CorrigendaError] = EndpointError

    def get(self, path: str) -> Any:
        """What stands at a path, as JSON."""
        with self.client() as client:
            return self._read(self._tried(lambda: client.get(path), Event()), "JSON")

    def post(self, path: str, bodies: Sequence[Mapping[str, Any]], form: str = "JSON") -> list[Any]:
        """The replies to several requests, as JSON, in their order.

        form  what they should be, for the error's text.

        Raises the endpoint's error where the server refuses, stays silent, or speaks otherwise.
        """
        if not bodies:
            return []
        halt, failures = Event(), []
        with self.client() as client, ThreadPoolExecutor(self.workers) as pool:

            def one(body: Mapping[str, Any]) -> Any:
                try:
                    return self._read(self._tried(lambda: client.post(path, json=body), halt), form)
                except Exception as error:
                    failures.append(error)
                    halt.set()  # nobody waits for the rest, nor asks it
                    raise

            try:
                return list(pool.map(one, bodies))
            except BaseException as error:
                halt.set()
                pool.shutdown(cancel_futures=True)
                # What failed first is the reason; those after it were only cut short.
                raise (
                    failures[0] if failures and isinstance(error, Exception) else error
                ) from None

    def answers(self, path: str) -> bool:
        """Whether the server knows a path: it answers an empty request other than "not found"."""
        with self.client() as client:
            try:
                return client.post(path, json={}).status_code not in (404, 405, 501)
            except self._transport_error() as error:
                raise self.raises(
                    f"{self.url} cannot be reached ({type(error).__name__}: {error}). Check that "
                    "the server runs."
                ) from None

    def client(self) -> httpx.Client:
        """A connection. Raises the endpoint's error where httpx is not installed."""
        try:
            import httpx
        except ImportError:
            raise self.raises(
                f"Asking {self.url} needs httpx: pip install 'corrigenda[judge]'"
            ) from None
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            return httpx.Client(
                base_url=self.url.rstrip("/") + "/", headers=headers, timeout=self.timeout
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise self.raises(
                f"{self.url!r} with its key cannot be asked: {error}. Give the base of an "
                "OpenAI-compatible API, such as http://localhost:8000/v1."
            ) from None

    def one_model(self, names: Collection[str], why: str) -> str:
        """The one model that the server says it ran, of all its replies; "" stands for none said.

        why  it matters, for the error where there are several.
        """
        served = sorted(set(names) - {""})
        if len(served) > 1:
            raise self.raises(
                f"{self.url} answered as {' and as '.join(served)} in one run, and {why}. Pin a "
                "version of the model and start again."
            )
        return served[0] if served else ""

    def strange(self, error: Exception, found: str, form: str) -> CorrigendaError:
        """The error for a reply of another form."""
        return self.raises(
            f"{self.url} did not answer in the form of {form} ({type(error).__name__}: "
            f"{found[:200]!r}). Give the base of an OpenAI-compatible API, such as "
            "http://localhost:8000/v1."
        )

    def _read(self, response: httpx.Response, form: str) -> Any:
        try:
            return response.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self.strange(error, response.text, form) from None

    def _tried(self, send: Callable[[], httpx.Response], halt: Event) -> httpx.Response:
        """Try until the server answers, the attempts are used up, or another request failed."""
        last = ""
        for attempt in range(self.attempts):
            wait = self.backoff * 2**attempt
            try:
                response = send()
            except self._transport_error() as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return response
                last = f"HTTP {response.status_code}: {response.text[:200]}"
                if response.status_code not in (408, 409, 429) and response.status_code < 500:
                    raise self.raises(f"{self.url} refuses the request ({last}). {self.hint}")
                wait = _asked_to_wait(response.headers.get("retry-after"), wait)
            if attempt + 1 < self.attempts and _paused(halt, min(wait, LONGEST_WAIT)):
                break
        raise self.raises(
            f"{self.url} did not answer in {self.attempts} attempts ({last}). Check that the server "
            "runs and can be reached, or ask it with fewer workers. A run with --resume keeps what "
            "was finished."
        )

    @staticmethod
    def _transport_error() -> type[Exception]:
        import httpx

        return httpx.TransportError


def _paused(halt: Event, seconds: float) -> bool:
    """Wait, and say whether it was cut short."""
    return halt.wait(seconds)


def _asked_to_wait(header: str | None, otherwise: float) -> float:
    """Seconds in a Retry-After header; dates are not read."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return otherwise
