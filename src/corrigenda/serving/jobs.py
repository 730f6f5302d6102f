"""Long work: queued, watched, cancelled, and remembered on disk.

    jobs/<id>.json   one job: what was asked, how it stands, what came of it

A job's file is replaced in one step when the job is queued, begins and ends, so after a crash the
next start finds what was finished, and marks as interrupted what was not. Such a job can be started
again: what was asked is in its file. Progress in between is kept in memory alone.

Work runs in lanes, one thread each, one job after another. It is told to stop between two events of
progress; what it does until then must be safe to abandon.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..disk import PART, write_atomic
from ..errors import CorrigendaError
from .refusals import Busy, Conflict, Unknown
from .schemas import ErrorBody, Job

__all__ = ["Cancelled", "Jobs", "Progress", "finite"]

log = logging.getLogger("corrigenda.serving")

KEPT, QUEUED = 200, 32
"""Finished jobs that are remembered, and jobs of a lane that may wait."""


class Cancelled(BaseException):
    """Raised in the thread of a job that is to stop. No error, so that no work takes it for one."""


class Progress:
    """What a job's work is handed: a place to say how far it is, where it learns that it is to stop."""

    def __init__(self, record: _Record) -> None:
        self._record = record

    def check(self) -> None:
        """Raises `Cancelled` if the job is to stop."""
        if self._record.stop.is_set():
            raise Cancelled

    def tell(self, share: float, message: str) -> None:
        """How far the work is, from 0 to 1, and what it does. Raises `Cancelled`, as `check`."""
        self.check()
        share = share if math.isfinite(share) else 0.0
        self._record.progress = min(1.0, max(self._record.progress, share))
        self._record.message = message
        self._record.version += 1


Work = Callable[[Progress, dict[str, Any]], dict[str, Any]]


@dataclass
class _Record:
    """A job in memory. `version` grows with every change."""

    id: str
    kind: str
    request: dict[str, Any]
    created: str
    state: str = "queued"
    progress: float = 0.0
    message: str = ""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    interrupted: bool = False
    version: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def shown(self) -> Job:
        return Job(
            id=self.id,
            kind=self.kind,
            state=self.state,  # type: ignore[arg-type]
            progress=self.progress,
            message=self.message,
            result=self.result,
            error=ErrorBody(**self.error) if self.error else None,
            created=self.created,
            interrupted=self.interrupted,
        )


class Jobs:
    """The jobs of one server. kinds: name -> (lane, work)."""

    def __init__(self, directory: Path, kinds: Mapping[str, tuple[str, Work]]) -> None:
        self._directory = directory
        self._kinds = dict(kinds)
        self._lock = threading.RLock()
        self._records: dict[str, _Record] = {}
        self._closing = False
        directory.mkdir(parents=True, exist_ok=True)
        self._read()
        self._lanes: dict[str, queue.Queue[_Record | None]] = {}
        self._threads: list[threading.Thread] = []
        for lane in dict.fromkeys(lane for lane, _ in self._kinds.values()):
            waiting: queue.Queue[_Record | None] = queue.Queue()
            self._lanes[lane] = waiting
            thread = threading.Thread(target=self._run, args=(waiting,), name=lane, daemon=True)
            thread.start()
            self._threads.append(thread)

    # -- asking -------------------------------------------------------------------------------

    def start(self, kind: str, request: dict[str, Any]) -> str:
        """Queue work and return its id; it is on disk by then. Raises `Busy` if many wait."""
        lane = self._lanes[self._kinds[kind][0]]
        with self._lock:
            if self._closing or lane.qsize() >= QUEUED:
                raise Busy(f"{lane.qsize()} jobs are waiting already. Try again when one is done.")
            record = _Record(_new_id(), kind, request, _now())
            self._keep(record)
            self._records[record.id] = record
            self._prune()
        lane.put(record)
        return record.id

    def again(self, id: str) -> str:
        """Start what a finished job did once more, as a new job."""
        record = self._record(id)
        if not record.over:
            raise Conflict(f"The job {id} is {record.state}; it can be started again once over.")
        return self.start(record.kind, record.request)

    def get(self, id: str) -> Job:
        return self._record(id).shown()

    def version(self, id: str) -> int:
        """A number that grows with every change of a job."""
        return self._record(id).version

    def list(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            return [r.shown() for r in sorted(self._records.values(), key=lambda r: r.id)[::-1]]

    def cancel(self, id: str) -> Job:
        """Let a job stop: at once if it waits, at its next event if it runs."""
        with self._lock:
            record = self._record(id)
            record.stop.set()
            if record.state == "queued":
                self._end(record, "cancelled", message="cancelled before it began")
            return record.shown()

    def close(self) -> None:
        """Stop all work. What runs is found interrupted at the next start."""
        with self._lock:
            self._closing = True
            for record in self._records.values():
                record.stop.set()
        for lane in self._lanes.values():
            lane.put(None)
        for thread in self._threads:
            thread.join(timeout=10)

    # -- the lanes ----------------------------------------------------------------------------

    def _run(self, waiting: queue.Queue[_Record | None]) -> None:
        while (record := waiting.get()) is not None:
            with self._lock:
                if record.over or self._closing:
                    continue
                record.state, record.message = "running", "begins"
                record.version += 1
                self._keep(record)
            self._work(record)

    def _work(self, record: _Record) -> None:
        try:
            result = finite(self._kinds[record.kind][1](Progress(record), record.request))
        except Cancelled:
            if not self._closing:
                self._end(record, "cancelled", message="cancelled")
        except CorrigendaError as error:
            self._end(record, "failed", error=_error(str(error), "invalid_request_error"))
        except BaseException as error:
            log.exception("the job %s failed", record.id)
            what = f"{type(error).__name__}: {error}"
            self._end(record, "failed", error=_error(what, "server_error"))
        else:
            self._end(record, "done", result=result, message="done")

    def _end(self, record: _Record, state: str, **fields: Any) -> None:
        with self._lock:
            for name, value in fields.items():
                setattr(record, name, value)
            if state == "done":
                record.progress = 1.0
            record.state = state
            try:
                self._keep(record)
            except OSError:  # a full disk: the result is told all the same
                log.exception("the job %s cannot be written", record.id)
            record.version += 1

    # -- on disk ------------------------------------------------------------------------------

    def _record(self, id: str) -> _Record:
        with self._lock:
            if id not in self._records:
                raise Unknown(f"There is no job {id[:80]!r}. GET /api/jobs lists those there are.")
            return self._records[id]

    def _keep(self, record: _Record) -> None:
        content = {"request": record.request, "job": record.shown().model_dump(mode="json")}
        data = json.dumps(finite(content), ensure_ascii=False, indent=1, allow_nan=False).encode()
        write_atomic(self._directory / f"{record.id}.json", data)

    def _read(self) -> None:
        for leftover in self._directory.glob(f".*{PART}"):
            leftover.unlink(missing_ok=True)
        for path in sorted(self._directory.glob("*.json")):
            try:
                content = json.loads(path.read_bytes())
                job = Job(**content["job"])
                record = _Record(job.id, job.kind, dict(content["request"]), job.created)
            except (ValueError, KeyError, TypeError, ValidationError):
                log.warning("%s is no job and is left alone", path)
                continue
            if job.kind not in self._kinds or path.stem != job.id:
                continue
            record.state, record.progress, record.message = job.state, job.progress, job.message
            record.result, record.interrupted = job.result, job.interrupted
            record.error = job.error.model_dump() if job.error else None
            if not record.over:
                record.interrupted, record.state, record.message = True, "failed", "interrupted"
                record.error = _error(
                    "The server ended while this job was under way. Start it again.",
                    "server_error",
                    "interrupted",
                )
                self._keep(record)
            self._records[record.id] = record
        self._prune()

    def _prune(self) -> None:
        """Forget the oldest of the finished jobs."""
        over = sorted(id for id, record in self._records.items() if record.over)
        for id in over[: max(0, len(over) - KEPT)]:
            del self._records[id]
            with contextlib.suppress(OSError):
                (self._directory / f"{id}.json").unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """The same, with null for numbers that JSON has no form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def _error(message: str, type: str, code: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": type, "param": None, "code": code}


def _new_id() -> str:
    """Sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(4)}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
