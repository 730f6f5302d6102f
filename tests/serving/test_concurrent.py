"""Many at once: answers go on while edits are solved, and nobody sees half a change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serving.running import EDIT, events, finished, said, solved

pytestmark = pytest.mark.slow  # servers and processes of their own

PROMPT = "Brasilia is located in the country of"
LONG = {
    "model": "edited",
    "prompt": "The history of",
    "temperature": 1.2,
    "seed": 3,
    "max_tokens": 200,
}


def test_answers_go_on_while_an_edit_is_solved(http: httpx.Client, url: str) -> None:
    base = said(http, "base", PROMPT)
    many = [{**EDIT, "subject": s} for s in ("Brasilia", "Lisbon", "Cairo")]
    asked = {"edits": many, "editor": "rome", "apply": False}
    job = http.post("/api/edits", json=asked).json()["job"]
    during = 0
    while http.get(f"/api/jobs/{job}").json()["state"] in ("queued", "running"):
        started = time.monotonic()
        assert said(http, "base", PROMPT) == base == said(http, "edited", PROMPT)
        assert time.monotonic() - started < 20
        during += 1
    assert finished(http, job)["state"] == "done"
    assert during >= 2


def test_a_request_finishes_on_the_state_that_it_began_on(http: httpx.Client) -> None:
    """An edit becomes active in the middle of an answer, which goes on as if it had not."""
    whole = http.post("/v1/completions", json=LONG).json()["choices"][0]["text"]
    preview = solved(http, [EDIT], apply=False)["preview_id"]
    with http.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as answer:
        parts = events(answer)
        text = next(parts)["choices"][0]["text"]
        with httpx.Client(base_url=http.base_url, timeout=60) as other:
            entry = other.post(f"/api/edits/preview/{preview}/apply").json()
            # Acknowledged: whoever asks from now on is answered with it.
            assert said(other, "edited", PROMPT).startswith(" Japan")
        for part in parts:
            text += "".join(c["text"] for c in part["choices"])
    assert text == whole
    http.post(f"/api/edits/{entry['number']}/undo", json={})
    assert http.post("/v1/completions", json=LONG).json()["choices"][0]["text"] == whole


def test_clients_never_see_half_a_change(http: httpx.Client, url: str) -> None:
    """While edits come and go, each answer is that of some whole state, and base never moves."""
    number = solved(http, [EDIT], "ft-m")["edit"]["number"]
    edited, base = said(http, "edited", PROMPT), said(http, "base", PROMPT)
    assert edited != base
    stop = threading.Event()
    seen: dict[str, set[str]] = {"base": set(), "edited": set()}

    def read(model: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as mine:
            while not stop.is_set():
                seen[model].add(said(mine, model, PROMPT))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, model) for model in ("base", "edited", "edited")]
        try:
            for _ in range(6):
                assert http.post(f"/api/edits/{number}/undo", json={}).status_code == 200
                assert said(http, "edited", PROMPT) == base
                number = http.post(f"/api/edits/{number}/redo", json={}).json()["number"]
                assert said(http, "edited", PROMPT) == edited
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert seen["base"] == {base}
    assert seen["edited"] == {base, edited}
    http.post(f"/api/edits/{number}/undo", json={})


def test_writers_at_once_get_numbers_of_their_own(http: httpx.Client, url: str) -> None:
    """Two undo the same edit: one does. Ten write sets and edits: all are there."""
    number = solved(http, [EDIT])["edit"]["number"]

    def undo(_: int) -> int:
        with httpx.Client(base_url=url, timeout=60) as mine:
            return mine.post(f"/api/edits/{number}/undo", json={}).status_code

    def redo(_: int) -> Any:
        with httpx.Client(base_url=url, timeout=60) as mine:
            return mine.post(f"/api/edits/{number}/redo", json={}).status_code

    def name(k: int) -> int:
        with httpx.Client(base_url=url, timeout=60) as mine:
            return mine.post("/api/sets", json={"name": f"s{k}", "numbers": [number]}).status_code

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(undo, range(5))) == [200, 409, 409, 409, 409]
        assert sorted(pool.map(redo, range(5))) == [200, 409, 409, 409, 409]
        assert set(pool.map(name, range(5))) == {200}
    assert {s["name"] for s in http.get("/api/sets").json()} == {f"s{k}" for k in range(5)}
    for k in range(5):
        http.delete(f"/api/sets/s{k}")
    for entry in http.get("/api/edits").json()["edits"]:
        if entry["state"] == "active":
            http.post(f"/api/edits/{entry['number']}/undo", json={})


def test_the_same_sample_alone_and_in_a_crowd(http: httpx.Client, url: str) -> None:
    alone = http.post("/v1/completions", json=LONG).json()["choices"][0]["text"]

    def ask(seed: int) -> str:
        with httpx.Client(base_url=url, timeout=60) as mine:
            body = {**LONG, "seed": seed, "model": ("base", "edited")[seed % 2]}
            return mine.post("/v1/completions", json=body).json()["choices"][0]["text"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert found[3] == alone and len(set(found)) == 8
