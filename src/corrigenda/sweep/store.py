"""The directory of a sweep. A job is done when its report is there; everything is written whole.

    sweep.json              the jobs asked for last, and the command
    grid.toml               the file that declared them
    running/KEY.jsonl       finished cases of a job that is not done
    reports/KEY.json        the report of a job that is done
    probes/KEY.parquet      the same as a table: a row per record and probe
    scores/KEY.parquet      a row per score of the job
    failures/KEY.json       why a job failed, with its traceback, until it is done

KEY is the beginning of a job's key. A job's files are its own, so jobs on many machines need no
more than this directory in common. A process that works on a job holds the lock of its file of
finished cases.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..disk import PART, write_atomic
from ..errors import DataError, InputError
from ..report import Report
from .jobs import Job
from .tables import NAME, table_path, write_tables

__all__ = ["PLAN", "Store"]

SCHEMA = "corrigenda.sweep/1"
PLAN = "sweep.json"


class Store:
    """Results of a sweep by job. Any number of processes may hold one on the same directory."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()

    @property
    def exists(self) -> bool:
        return (self.folder / PLAN).is_file()

    def begin(self, jobs: Sequence[Job], grid: str, command: str) -> None:
        """Make the directory and note the jobs. Raises `InputError` for a place that is a file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file. Name a directory for the results.")
        for name in ("running", "reports", "probes", "scores", "failures"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.rglob(f".*{PART}"):
            leftover.unlink(missing_ok=True)
        plan = {
            "schema": SCHEMA,
            "command": command,
            "created": _now(),
            "jobs": {job.key: job.to_dict() for job in jobs},
        }
        write_atomic(self.folder / "grid.toml", grid.encode())
        self._write_json(self.folder / PLAN, plan)

    # -- the plan ----------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """What was asked for last. Raises `DataError` if this is no directory of a sweep."""
        try:
            plan = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
            if plan["schema"] != SCHEMA:
                raise ValueError(plan["schema"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.folder} holds no sweep ({type(error).__name__}). Give the directory that "
                "`corrigenda sweep -o` wrote."
            ) from None
        return plan

    def jobs(self) -> dict[str, Job]:
        """The jobs asked for last, by key."""
        return {key: Job.from_dict(row) for key, row in self.plan()["jobs"].items()}

    # -- one job -----------------------------------------------------------------------------

    def done(self, key: str) -> bool:
        return self._report(key).is_file()

    def running(self, key: str) -> Path:
        """The file of a job's finished cases."""
        return self.folder / "running" / f"{key[:NAME]}.jsonl"

    @contextmanager
    def working(self, key: str, wait: float = 60.0) -> Iterator[Path]:
        """Hold the job: yields the file of its finished cases.

        A worker whose driver was killed may live a little longer, so the lock is waited for.
        Raises `InputError` when it is not free within `wait` seconds.
        """
        path = self.running(key)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _acquire(lock, path, wait)
            yield path
        finally:
            os.close(lock)  # drops the lock

    def finish(self, job: Job, report: Report) -> None:
        """Keep the result. The report comes last: what it stands beside is whole by then."""
        write_tables(self.folder, job, report)
        write_atomic(self._report(job.key), report.to_json().encode())
        for leftover in (
            self._failure(job.key), self.running(job.key),
            self.running(job.key).with_suffix(".lock"),
        ):  # fmt: skip
            leftover.unlink(missing_ok=True)

    def fail(self, job: Job, error: str, traceback: str) -> None:
        """Keep why a job failed. Its finished cases stay for the next attempt."""
        told = {"job": job.to_dict(), "error": error, "traceback": traceback, "time": _now()}
        self._write_json(self._failure(job.key), told)

    # -- results -----------------------------------------------------------------------------

    def report(self, key: str) -> Report:
        """The report of a job that is done."""
        return Report.from_json(self._report(key).read_text(encoding="utf-8"))

    def reports(self) -> list[Report]:
        """Of the jobs asked for last those that are done, in the order of the grid and under the
        labels that it gives them."""
        found = []
        for key, job in self.jobs().items():
            if self.done(key):
                report = self.report(key)
                report.environment["label"] = job.label or job.editor
                found.append(report)
        return found

    def failures(self) -> dict[str, Mapping[str, Any]]:
        """Of the jobs asked for last those that failed, by key."""
        found = {}
        for key in self.jobs():
            path = self._failure(key)
            if path.is_file() and not self.done(key):
                found[key] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def tables(self, name: str) -> list[Path]:
        """The Parquet files of jobs that are done. name  "probes" or "scores"."""
        return [table_path(self.folder, name, key) for key in self.jobs() if self.done(key)]

    # -- files -------------------------------------------------------------------------------

    def _report(self, key: str) -> Path:
        return self.folder / "reports" / f"{key[:NAME]}.json"

    def _failure(self, key: str) -> Path:
        return self.folder / "failures" / f"{key[:NAME]}.json"

    @staticmethod
    def _write_json(path: Path, value: Any) -> None:
        write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1).encode())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _acquire(lock: int, path: Path, wait: float) -> None:
    try:
        import fcntl
    except ImportError:
        return  # no locks on this system: jobs there run in one process
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise InputError(
                    f"Another process is working on {path.name} and did not end within {wait:g} s. "
                    "Is the same sweep running twice? Wait for it, or end it."
                ) from None
            time.sleep(0.1)
