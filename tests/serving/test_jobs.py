"""Jobs: in order, with progress, cancelled, bounded, and found again after a crash."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from corrigenda.errors import InputError
from corrigenda.serving import jobs as module
from corrigenda.serving.jobs import Jobs, Progress, finite
from corrigenda.serving.refusals import Busy, Conflict, Unknown


def ended(jobs: Jobs, id: str, seconds: float = 10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (job := jobs.get(id)).state in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.01)
    raise AssertionError(f"the job did not end: {jobs.get(id)}")


class Works:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()

    def wait(self, progress: Progress, request: dict) -> dict:
        self.begun.set()
        while not self.go.wait(0.005):
            progress.tell(0.5, "waiting")
        return {"got": request["n"], "odd": float("nan")}

    @staticmethod
    def fail(progress: Progress, request: dict) -> dict:
        if request.get("bad"):
            raise InputError("this is wrong; do that")
        raise ZeroDivisionError("a secret place")

    @property
    def kinds(self) -> dict:
        return {"wait": ("a", self.wait), "fail": ("b", self.fail)}


def test_work_runs_in_turn_and_its_result_is_kept(tmp_path: Path) -> None:
    works = Works()
    jobs = Jobs(tmp_path, works.kinds)
    first, second = jobs.start("wait", {"n": 1}), jobs.start("wait", {"n": 2})
    works.begun.wait(5)
    assert jobs.get(first).state == "running" and jobs.get(second).state == "queued"
    works.go.set()
    assert ended(jobs, second).result == {"got": 2, "odd": None}
    assert [job.id for job in jobs.list()] == [second, first]
    jobs.close()
    again = Jobs(tmp_path, works.kinds)
    assert again.get(first).result == {"got": 1, "odd": None} and again.get(first).progress == 1
    again.close()


def test_errors_are_told_and_do_not_end_the_lane(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, Works().kinds)
    wrong, broken = jobs.start("fail", {"bad": True}), jobs.start("fail", {})
    assert ended(jobs, wrong).error.message == "this is wrong; do that"
    assert ended(jobs, broken).error.type == "server_error"
    assert ended(jobs, jobs.start("fail", {"bad": True})).state == "failed"
    with pytest.raises(Unknown):
        jobs.get("../secrets")
    jobs.close()


def test_cancelling_what_waits_and_what_runs(tmp_path: Path) -> None:
    works = Works()
    jobs = Jobs(tmp_path, works.kinds)
    first, second = jobs.start("wait", {"n": 1}), jobs.start("wait", {"n": 2})
    works.begun.wait(5)
    assert jobs.cancel(second).state == "cancelled"
    jobs.cancel(first)
    assert ended(jobs, first).state == "cancelled"
    assert jobs.cancel(first).state == "cancelled"
    third = jobs.again(second)
    with pytest.raises(Conflict, match="once over"):
        jobs.again(third)
    works.go.set()
    assert ended(jobs, third).result["got"] == 2
    jobs.close()


def test_what_a_crash_interrupted_is_marked_and_starts_again(tmp_path: Path) -> None:
    works = Works()
    jobs = Jobs(tmp_path, works.kinds)
    running, waiting = jobs.start("wait", {"n": 1}), jobs.start("wait", {"n": 2})
    works.begun.wait(5)
    jobs.close()  # leaves on disk what a crash would
    (tmp_path / ".torn.json.1.part").write_text("{")
    (tmp_path / "foreign.json").write_text("{}")
    works.go.set()
    again = Jobs(tmp_path, works.kinds)
    for id, n in ((running, 1), (waiting, 2)):
        job = again.get(id)
        assert job.state == "failed" and job.interrupted and job.error.code == "interrupted"
        assert ended(again, again.again(id)).result["got"] == n
    assert not list(tmp_path.glob(".*.part")) and (tmp_path / "foreign.json").exists()
    again.close()


def test_history_and_queue_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    monkeypatch.setattr(module, "QUEUED", 2)
    works = Works()
    jobs = Jobs(tmp_path, works.kinds)
    ids = [jobs.start("wait", {"n": 0})]
    works.begun.wait(5)
    ids += [jobs.start("wait", {"n": n}) for n in (1, 2)]
    with pytest.raises(Busy):
        jobs.start("wait", {"n": 3})
    works.go.set()
    ended(jobs, ids[-1])
    for n in range(4):
        ended(jobs, jobs.start("wait", {"n": n}))
    jobs.start("wait", {"n": 9})
    assert len(jobs.list()) <= 4 and len(list(tmp_path.glob("*.json"))) <= 4
    with pytest.raises(Unknown):
        jobs.get(ids[0])
    jobs.close()


def test_numbers_that_json_lacks_become_null() -> None:
    value = {"a": [1.5, float("inf"), {"b": float("nan")}], "c": (float("-inf"), "x", None, True)}
    assert finite(value) == {"a": [1.5, None, {"b": None}], "c": [None, "x", None, True]}
    json.dumps(finite(value), allow_nan=False)
