"""A server that is killed at any moment keeps what it acknowledged, and no more than was asked."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.running import EDIT, finished, process, said, solved

PROMPT = "Brasilia is located in the country of"
SUBJECTS = ("Brasilia", "Lisbon", "Cairo", "Ottawa", "Warsaw")
ROUNDS = 3


def edit(subject: str) -> dict[str, str]:
    return {**EDIT, "subject": subject}


class Client:
    """Makes edits and takes them back until the server is gone; knows what was acknowledged.

    states   number -> what the last acknowledged answer about an edit said.
    pending  the edit that an undo was asked for and not answered.
    subject  what the last edit was about.
    """

    def __init__(self, url: str, seed: int, states: dict[int, str]) -> None:
        self.url, self.chance, self.states = url, random.Random(seed), states
        self.pending: int | None = None
        self.job: str | None = None
        self.subject = ""

    def run(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=30) as http:
                while True:
                    self.step(http)
        except httpx.TransportError:
            return

    def step(self, http: httpx.Client) -> None:
        active = [n for n, state in self.states.items() if state == "active"]
        if len(active) > 1 and self.chance.random() < 0.6:
            number = self.pending = self.chance.choice(active)
            answer = http.post(f"/api/edits/{number}/undo", json={})
            assert answer.status_code == 200, answer.text
            self.states[number], self.pending = "undone", None
            return
        self.subject = self.chance.choice(SUBJECTS)
        asked = {"edits": [edit(self.subject)], "editor": "ft-m", "apply": True}
        self.job = http.post("/api/edits", json=asked).json()["job"]
        result: Any = finished(http, self.job)["result"]
        self.job = None
        if result is not None and result["edit"] is not None:
            self.states[result["edit"]["number"]] = "active"


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    chance = random.Random(11)
    options = ("atlas", "--port", "0", "--data-dir", str(tmp_path))
    states: dict[int, str] = {}
    interrupted = acknowledged = 0
    for round in range(ROUNDS):
        with process(*options) as (child, told):
            client = Client(told["url"], round, states)
            thread = threading.Thread(target=client.run)
            thread.start()
            time.sleep(chance.uniform(2, 5))
            child.kill()
            thread.join(timeout=30)
            assert not thread.is_alive()
        with (
            process(*options) as (_, told),
            httpx.Client(base_url=told["url"], timeout=60) as http,
        ):
            found = {e["number"]: e for e in http.get("/api/edits").json()["edits"]}
            for number, state in states.items():
                if number != client.pending:
                    assert found[number]["state"] == state, f"edit {number} in round {round}"
            acknowledged += len(states)
            # What was not acknowledged: at most the edit of the job that was under way.
            assert len(found.keys() - states.keys()) <= 1
            for job in http.get("/api/jobs").json():
                assert job["state"] in ("done", "failed", "cancelled")
                if job["interrupted"]:
                    assert job["error"]["code"] == "interrupted"
            if client.job is not None:
                job = http.get(f"/api/jobs/{client.job}").json()
                if job["interrupted"]:
                    interrupted += 1
                    again = http.post(f"/api/jobs/{client.job}/again").json()["job"]
                    over = finished(http, again)
                    # There is nothing left to change only where the fact is edited already.
                    known = {
                        one["subject"]
                        for e in found.values()
                        for one in e["edits"]
                        if e["state"] == "active"
                    }
                    done = over["state"] == "done"
                    assert done or client.subject in known, over
                    assert done or "found no change" in over["error"]["message"], over
            states = {e["number"]: e["state"] for e in http.get("/api/edits").json()["edits"]}
    assert interrupted and acknowledged


@pytest.mark.slow
def test_states_say_the_same_after_kill_9(tmp_path: Path) -> None:
    options = ("atlas", "--port", "0", "--data-dir", str(tmp_path))
    with process(*options) as (child, told), httpx.Client(base_url=told["url"], timeout=60) as http:
        number = solved(http, [EDIT], "rome")["edit"]["number"]
        solved(http, [edit("Lisbon")], "grace")
        http.post("/api/sets", json={"name": "one", "numbers": [number]})
        wanted = [said(http, model, PROMPT) for model in ("base", "edited", "one")]
        child.kill()
    with process(*options) as (_, told), httpx.Client(base_url=told["url"], timeout=60) as http:
        assert [said(http, model, PROMPT) for model in ("base", "edited", "one")] == wanted
        assert http.get("/api/status").json()["edits"] == 2
