"""The jobs of a sweep one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .attempt import Outcome, attempt
from .jobs import Job, Models
from .store import Store

__all__ = ["run"]


def run(
    jobs: Sequence[Job],
    store: Store,
    watch: Callable[[Job, str, int, int], None] | None = None,
) -> Iterator[Outcome]:
    """Do the jobs; yield each as it ends.

    watch  called with (job, stage, done, total) while a job goes on.
    """
    models = Models()
    for job in jobs:

        def progress(stage: str, done: int, total: int, job: Job = job) -> None:
            if watch is not None:
                watch(job, stage, done, total)

        yield attempt(job, store, models, progress)
