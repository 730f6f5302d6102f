"""One attempt at a job, the same for every runner: its result or its failure is on disk afterwards."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

from .jobs import Job, Models, Progress, perform
from .store import Store

__all__ = ["Outcome", "attempt"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. `error` is one line, None when it is done; seconds of this attempt."""

    job: Job
    error: str | None
    seconds: float


def attempt(job: Job, store: Store, models: Models, progress: Progress | None = None) -> Outcome:
    """Do a job unless it is done. Whatever it raises becomes a failure on disk.

    An interrupt is passed on: the finished cases are on disk, and the job is neither done nor
    failed.
    """
    start = time.perf_counter()
    error = None
    try:
        with store.working(job.key) as finished:
            if not store.done(job.key):
                store.finish(job, perform(job, models, resume=finished, progress=progress))
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
        store.fail(job, error, traceback.format_exc())
    return Outcome(job, error, time.perf_counter() - start)
