"""The jobs of a sweep side by side on Ray (Moritz et al. 2018, 1712.05889).

Each worker is an actor in a process of its own, with the processors and accelerators that it was
given; Ray sets CUDA_VISIBLE_DEVICES accordingly. A worker writes its results itself, so the
directory of the sweep must be seen by every machine under the same path, and the death of the
driver loses no finished case. A worker that dies is started again, and its job goes on from its
finished cases, as often as `retries` says.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import InputError
from .attempt import Outcome, attempt
from .jobs import Job, Models
from .store import PLAN, Store

__all__ = ["run"]

MEMORY = 100 * 2**20  # bytes that Ray shares among workers, which pass on next to nothing
POLL = 0.5  # seconds between two looks at what the workers do
PASSED_ON = ("CORRIGENDA_DATA", "CORRIGENDA_CACHE", "HF_HUB_OFFLINE", "HF_HOME")
"""Variables of the driver's environment that the workers get too."""


def run(
    jobs: Sequence[Job],
    store: Store,
    watch: Callable[[Job, str, int, int], None] | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    gpus_per_job: float | None = None,
    retries: int = 2,
) -> Iterator[Outcome]:
    """Do the jobs on Ray; yield each as it ends, in the order in which they end.

    watch         called with (job, stage, done, total) while jobs go on.
    workers       how many at a time; by default as many as there are accelerators for, or one for
                  every two processors.
    address       of a cluster that runs ("auto", "ray://host:10001"); None starts one here, which
                  ends with this process.
    gpus_per_job  accelerators of each worker; 0.5 lets two share one. By default one, where there
                  are any.
    retries       how often a job is begun again whose worker died.

    Raises `InputError` where Ray is missing, the cluster cannot be reached or has not what is
    asked for, or a machine does not see the directory of the sweep.
    """
    with _cluster(address, workers, gpus_per_job) as (ray, count, processors, gpus):
        pool = _Pool(ray, store, count, processors, gpus)
        yield from pool.run(deque(jobs), watch, retries)


class _Worker:
    """What an actor does. It holds the model of its last job."""

    def __init__(self, folder: str) -> None:
        self.store, self.models = Store(folder), Models()

    def sees(self, name: str) -> bool:
        """Whether this machine sees the directory of the sweep."""
        return (self.store.folder / name).is_file()

    def work(self, job: Job, board: Any) -> Outcome:
        """One attempt; `board` hears how far it is."""
        last = 0.0

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > POLL or done == total:
                last = time.monotonic()
                board.say.remote(job.key, stage, done, total)

        return attempt(job, self.store, self.models, progress)


class _Board:
    """Where workers say how far they are, for the driver to read."""

    def __init__(self) -> None:
        self.news: dict[str, tuple[str, int, int]] = {}

    def say(self, key: str, stage: str, done: int, total: int) -> None:
        self.news[key] = (stage, done, total)

    def read(self) -> dict[str, tuple[str, int, int]]:
        news, self.news = self.news, {}
        return news


class _Pool:
    """The workers and what each of them does."""

    def __init__(self, ray: Any, store: Store, count: int, processors: int, gpus: float) -> None:
        self.ray, self.store = ray, store
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        if "PYTHONPATH" in os.environ:  # seen from here, wherever a worker starts
            places = os.environ["PYTHONPATH"].split(os.pathsep)
            variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, places))
        # A worker uses the processors it was given, unless the user says how many threads.
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(processors))
        self.make = ray.remote(
            num_cpus=processors, num_gpus=gpus, runtime_env={"env_vars": variables}
        )(_Worker).remote
        self.board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        self.workers = [self.make(str(store.folder)) for _ in range(count)]
        if not all(self._sees()):
            raise InputError(
                f"A machine of the cluster does not see {store.folder}. Put the results on a "
                "file system that all machines share, under one path."
            )

    def _sees(self) -> list[bool]:
        """Of each worker, whether it sees the directory. Starts them."""
        try:
            return self.ray.get([worker.sees.remote(PLAN) for worker in self.workers])
        except self.ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"A worker of the cluster did not start: {lines[-1] if lines else error}. Every "
                "machine needs the version of corrigenda, and of its libraries, that is here."
            ) from None

    def run(
        self,
        todo: deque[Job],
        watch: Callable[[Job, str, int, int], None] | None,
        retries: int,
    ) -> Iterator[Outcome]:
        idle, deaths = list(self.workers), dict.fromkeys((job.key for job in todo), 0)
        under_way: dict[Any, tuple[Job, Any]] = {}
        while todo or under_way:
            while todo and idle:
                worker, job = idle.pop(), todo.popleft()
                under_way[worker.work.remote(job, self.board)] = job, worker
            ended, _ = self.ray.wait(list(under_way), timeout=POLL)
            if watch is not None:
                self._tell(watch, {job.key: job for job, _ in under_way.values()})
            for future in ended:
                job, worker = under_way.pop(future)
                try:
                    yield self.ray.get(future)
                except self.ray.exceptions.RayActorError as error:
                    worker = self.make(str(self.store.folder))
                    deaths[job.key] += 1
                    if deaths[job.key] <= retries:
                        todo.appendleft(job)  # goes on from its finished cases
                    else:
                        yield self._lost(job, error, deaths[job.key])
                idle.append(worker)

    def _lost(self, job: Job, error: Exception, times: int) -> Outcome:
        """A job whose worker died every time."""
        reason = " ".join(str(error).split())
        told = (
            f"The worker died {'once' if times == 1 else f'{times} times'} at this job; too little "
            f"memory, perhaps. Ray says: {reason}"
        )
        self.store.fail(job, told, str(error))
        return Outcome(job, told, 0.0)

    def _tell(self, watch: Callable[[Job, str, int, int], None], jobs: dict[str, Job]) -> None:
        try:
            news = self.ray.get(self.board.read.remote(), timeout=10 * POLL)
        except self.ray.exceptions.RayError:
            return  # the board is being started again; only progress is lost
        for key, (stage, done, total) in news.items():
            if key in jobs:
                watch(jobs[key], stage, done, total)


@contextmanager
def _cluster(
    address: str | None, workers: int | None, gpus: float | None
) -> Iterator[tuple[Any, int, int, float]]:
    """Ray, the number of workers, and the processors and accelerators of each."""
    ray = _ray()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        processors = max(os.cpu_count() or 1, workers or 1)
        options |= {
            "num_cpus": processors, "include_dashboard": False, "object_store_memory": MEMORY,
        }  # fmt: skip
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address} cannot be reached" if address else "did not start on this machine"
        raise InputError(
            f"Ray {where}: {str(error).rstrip('.')}. `ray status` shows a cluster that runs; "
            "without --address one is started here."
        ) from None
    try:
        yield ray, *_shares(ray.cluster_resources(), workers, gpus)
    finally:
        ray.shutdown()


def _shares(
    have: Mapping[str, float], workers: int | None, gpus: float | None
) -> tuple[int, int, float]:
    """How many workers, and the processors and accelerators of each.

    Raises `InputError` if the cluster has not so much.
    """
    processors, accelerators = int(have.get("CPU", 1)), have.get("GPU", 0.0)
    each = (1.0 if accelerators else 0.0) if gpus is None else gpus
    room = min(processors, int(accelerators / each)) if each else processors
    if not room:
        raise InputError(
            f"Each job is to have {each:g} accelerators, and the cluster has {accelerators:g}. "
            "Lower --gpus-per-job."
        )
    count = workers or (room if each else max(1, processors // 2))
    if count > room:
        raise InputError(
            f"{count} workers were asked for, and the cluster has room for {room} ({processors} "
            f"processors, {accelerators:g} accelerators). Lower --workers."
        )
    return count, max(1, processors // count), each


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers that are given no accelerator see what there is, rather than nothing.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "The runner ray needs the library ray, and it is not installed. Install it with "
            "`pip install 'corrigenda[ray]'`, or take --runner local."
        ) from None
    return ray
