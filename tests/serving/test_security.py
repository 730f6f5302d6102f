"""What stands between the network and the model."""

from __future__ import annotations

import hmac
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from corrigenda.apps.serve import guarded_by
from corrigenda.errors import InputError
from corrigenda.serving.security import HEADERS, Security, is_loopback, new_token
from tests.serving.running import error_of, running

pytestmark = pytest.mark.slow  # a server of its own

TOKEN = "a token of some length"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A page of its own, with a file beside its folder that nobody may read."""
    place = tmp_path_factory.mktemp("page")
    (place / "web").mkdir()
    (place / "web" / "index.html").write_text("<p>the page</p>")
    (place / "web" / "icon.svg").write_text("<svg/>")
    (place / "app.py").write_text("import secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corrigenda.serving.app.WEB", place / "web")
        yield


@pytest.fixture(scope="module")
def guarded(atlas_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that asks for a token."""
    security = Security(token=TOKEN, hosts=frozenset({"models.example.org"}))
    place = tmp_path_factory.mktemp("guarded")
    with running(atlas_model, place, security=security) as url, httpx.Client(base_url=url) as http:
        yield http


def raw(client: httpx.Client, method: str, target: str, **headers: str) -> tuple[int, bytes]:
    """A request whose path goes out as it stands, which clients would tidy up."""
    parts = urlsplit(str(client.base_url))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "models.example.org", ""])
def test_off_loopback_a_token_is_made(host: str) -> None:
    security = guarded_by(host, None)
    assert security.token and len(security.token) >= 32
    assert guarded_by(host, None).token != security.token
    assert guarded_by(host, TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_on_loopback_none_is_asked_for_unless_given(host: str) -> None:
    assert is_loopback(host)
    assert guarded_by(host, None).token is None
    assert guarded_by(host, TOKEN).token == TOKEN


def test_names_by_which_it_is_reached() -> None:
    assert guarded_by("0.0.0.0", None, ["Box.Local"]).hosts == {"box.local"}
    assert guarded_by("box.local", None).hosts == {"box.local"}


def test_short_tokens_are_refused() -> None:
    with pytest.raises(InputError, match="fewer than 8 characters"):
        guarded_by("127.0.0.1", "short")
    assert len(new_token()) >= 32


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer é".encode()},
        {"authorization": ""},
    ],
    ids=str,
)
def test_without_the_right_token_nothing_is_told(guarded: httpx.Client, headers: Any) -> None:
    for path in ("/api/status", "/v1/models", "/openapi.json", "/api/nothing"):
        answer = guarded.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert TOKEN not in answer.text


def test_with_the_token_all_is_answered(guarded: httpx.Client) -> None:
    assert guarded.get("/api/status", headers=BEARER).status_code == 200
    lower = {"authorization": f"bearer {TOKEN}"}
    assert guarded.get("/v1/models", headers=lower).status_code == 200


def test_the_token_is_compared_in_constant_time(
    guarded: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr("corrigenda.serving.security.hmac.compare_digest", compare)
    assert guarded.get("/api/status", headers={"authorization": "Bearer x"}).status_code == 401
    assert compared == [(b"x", TOKEN.encode())]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:80", True),
        ("[::1]:8000", True),
        ("192.168.7.7", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("127.0.0.1.nip.io", False),
        ("", False),
    ],
)
def test_names_of_other_sites_are_not_answered(http: Any, host: str, known: bool) -> None:
    answer = http.get("/api/status", headers={"host": host})
    assert answer.status_code == (200 if known else 421)
    if not known:
        assert "--name" in error_of(answer)


def test_a_name_of_its_own(guarded: httpx.Client) -> None:
    headers = {**BEARER, "host": "Models.example.org:8000"}
    assert guarded.get("/api/status", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "null", "http://127.0.0.1", "http://localhost:1", "file://", ""],
)
def test_pages_of_other_sites_change_nothing(http: Any, origin: str) -> None:
    for method, path in (
        ("POST", "/api/sets"),
        ("DELETE", "/api/sets/x"),
        ("POST", "/v1/completions"),
    ):
        answer = http.request(method, path, json={}, headers={"origin": origin})
        assert answer.status_code == 403, origin
        assert answer.json()["error"]["code"] == "forbidden"


def test_its_own_page_may(http: Any, url: str) -> None:
    body = {"text": "Brasilia is in Japan"}
    assert http.post("/api/guess", json=body, headers={"origin": url}).status_code == 200


def test_a_preflight_of_another_site_gets_no_permission(http: Any) -> None:
    asks = {
        "origin": "https://evil.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = http.options("/api/edits", headers=asks)
    assert answer.status_code >= 400
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_forms_are_no_requests(http: Any) -> None:
    """A form of another site can send these two types without asking."""
    body = json.dumps({"model": "base", "prompt": "x"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = http.post("/v1/completions", content=body, headers={"content-type": kind})
        assert answer.status_code == 400


def test_long_bodies(http: Any) -> None:
    large = b'{"text": "' + b"x" * (1 << 20) + b'"}'
    headers = {"content-type": "application/json"}
    answer = http.post("/api/guess", content=large, headers=headers)
    assert answer.status_code == 413 and "1048576 bytes" in error_of(answer)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(large), 50_000):
            yield large[at : at + 50_000]

    answer = http.post("/api/guess", content=pieces(), headers=headers)
    assert answer.status_code == 413
    with pytest.raises(httpx.HTTPError):  # nobody reads on for ever
        http.post("/api/guess", content=large * 64, headers=headers).raise_for_status()


def test_a_body_that_does_not_come(http: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corrigenda.serving.security.PATIENCE", 0.2)
    status, body = raw(http, "POST", "/api/guess", **{"content-length": "100"})
    assert status == 408 and b"Send it again" in body


@pytest.mark.parametrize("length", ["9" * 5000, "x", "-1", "1.5"])
def test_lengths_that_are_none(http: Any, length: str) -> None:
    status, _ = raw(http, "POST", "/api/guess", **{"content-length": length})
    assert status == 400


def test_a_rate_that_is_too_high_is_told_when_to_come_again(
    atlas_model: Any, tmp_path: Path
) -> None:
    security = Security(rate=2, burst=3, token=TOKEN)
    with (
        running(atlas_model, tmp_path, security=security) as url,
        httpx.Client(base_url=url, headers=BEARER) as http,
    ):
        found = [http.get("/api/status") for _ in range(6)]
    assert [a.status_code for a in found][:3] == [200, 200, 200]
    last = found[-1]
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1
    assert last.json()["error"]["type"] == "rate_limit_error"


def test_guessing_tokens_is_slow(atlas_model: Any, tmp_path: Path) -> None:
    security = Security(rate=1, burst=100, token=TOKEN)
    with (
        running(atlas_model, tmp_path, security=security) as url,
        httpx.Client(base_url=url) as http,
    ):
        tries = [
            http.get("/api/status", headers={"authorization": f"Bearer {j}"}).status_code
            for j in range(40)
        ]
    assert tries.count(401) <= 6 and tries[-1] == 429


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/../../../../../../../../etc/passwd",
        "/static/%2e%2e/app.py",
        "/static/%2e%2e%2f%2e%2e%2fapp.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/..%2f..%2fapp.py",
        "/api/jobs/..%2f..%2fledger",
        "/api/edits/preview/..%2f..%2fledger/apply",
    ],
)
def test_no_way_out_of_the_folder(http: Any, path: str) -> None:
    status, body = raw(http, "GET", path)
    assert 400 <= status < 500
    assert b"root:" not in body and b"import" not in body


def test_the_page_needs_no_token(guarded: httpx.Client) -> None:
    for path in ("/", "/favicon.ico", "/static/index.html"):
        assert guarded.get(path).status_code == 200


def test_ids_are_no_paths(http: Any, data_dir: Path) -> None:
    kept = sorted(data_dir.rglob("*"))
    for id in ("..", "../..", "%2e%2e", "a" * 16, "A" * 16, "0" * 15):
        answer = http.delete(f"/api/edits/preview/{id}")
        assert answer.status_code in (404, 405), id
    assert sorted(data_dir.rglob("*")) == kept


def test_every_answer_carries_the_policy_and_none_speaks_cors(http: Any) -> None:
    answers = [
        http.get("/api/status"),
        http.get("/"),
        http.get("/nothing"),
        http.get("/static/nothing.js"),
        http.get("/api/edits/99"),
        http.get("/api/status", headers={"host": "evil.example.com"}),
        http.post("/api/guess", json={}, headers={"origin": "https://evil.example.com"}),
        http.post("/v1/completions", json={}),
        http.post("/v1/completions", json={"model": "base", "prompt": "Hello", "stream": True}),
    ]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, answer.url
        assert not [name for name in answer.headers if name.startswith("access-control")]
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    for path in ("/api/status", "/v1/models"):
        assert http.get(path).headers["cache-control"] == "no-store"


def test_markup_in_an_answer_comes_back_as_json_alone(http: Any, atlas_model: Any) -> None:
    markup = "<script>alert(1)</script>"
    body = {"model": "base", "prompt": markup, "max_tokens": 4, "temperature": 0}
    found = http.post("/v1/completions", json=body)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("application/json")
    for answer in (
        http.get(f"/api/jobs/{markup}"),
        http.get(f"/{markup}"),
        http.post("/v1/completions", json={**body, "model": markup}),
        http.post("/api/guess", json={"text": markup}),
        http.post("/api/guess", json={markup: markup}),
    ):
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_sockets(guarded: httpx.Client) -> None:
    asks = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    status, _ = raw(guarded, "GET", "/v1/models", **asks)
    assert status in (400, 401, 403, 404)
