"""Whatever is sent to the routes that the server describes, it does not fail."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.serving.running import EDIT, running, solved

schemathesis: Any = pytest.importorskip("schemathesis")

EXAMPLES = 12
METHODS = ("ft-m", "ike", "no-such-method")
"""Quick ones: what is looked for is a request that breaks the server, not a slow edit."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_the_server_fail(atlas_model: Any, tmp_path: Path) -> None:
    from corrigenda.serving.security import Security

    security = Security(rate=1e6, burst=10**6)
    with (
        running(atlas_model, tmp_path, security=security) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        solved(http, [EDIT])
        schema = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
        tried: dict[str, int] = {}
        for found in schema.get_all_operations():
            operation = found.ok()
            attempt(operation, http, tried)
        assert len(tried) > 25
        assert 200 in tried.values() and http.get("/api/status").status_code == 200


def attempt(operation: Any, http: httpx.Client, tried: dict[str, int]) -> None:
    """Send some requests of one kind."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        body = case.body
        if isinstance(body, dict):
            if "editor" in body:
                body["editor"] = METHODS[len(str(body)) % len(METHODS)]
            if isinstance(body.get("max_tokens"), int):
                body["max_tokens"] = min(body["max_tokens"], 8)
        sent = case.as_transport_kwargs(base_url=str(http.base_url))
        sent = {k: v for k, v in sent.items() if k in SENT}
        request = http.build_request(**sent)
        answer = http.send(request)
        tried[f"{operation.method} {operation.path}"] = answer.status_code
        assert answer.status_code < 500 or answer.status_code == 503, (
            f"{answer.status_code} for {request.method} {request.url}: {request.content[:400]!r}"
        )
        if answer.status_code >= 400:
            assert set(answer.json()) == {"error"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one()


SENT = ("method", "url", "params", "json", "data", "headers")
