"""`corrigenda sweep` and `query`: a grid of evaluations, and SQL over what came out."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import InputError
from . import console

if TYPE_CHECKING:
    from ..sweep.attempt import Outcome
    from ..sweep.jobs import Job
    from ..sweep.store import Store

__all__ = ["query", "sweep"]

SHOWN = 5  # failures in the summary


def sweep(
    grid: Annotated[
        Path, typer.Argument(metavar="GRID.toml", help="What to combine.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Results go here.")
    ] = Path("sweep"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip what is done in DIR and go on.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs, and stop.")] = False,
    runner: Annotated[
        Literal["local", "ray"],
        typer.Option(help="One process, or workers side by side on Ray."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Of Ray.", show_default="one per accelerator or two processors"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT", help="A Ray cluster that runs.", show_default="a local one"
        ),
    ] = None,
    gpus_per_job: Annotated[
        float | None,
        typer.Option(min=0, help="0.5 lets two jobs share one.", show_default="1 if there are any"),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a job whose worker died is begun again.")
    ] = 2,
    as_json: bool = False,
) -> None:
    """Measure every combination of editors, models, data sets, seeds and sizes of a grid.

    Results are kept as they come. A job that fails is noted with its traceback and the others go
    on; the exit code is then 1. `corrigenda report DIR` makes the page, `corrigenda query DIR`
    answers SQL.
    """
    with console.waiting("Reading the grid"):
        from ..sweep.grid import Grid
        from ..sweep.store import Store
        from ..sweep.tables import check_installed

        check_installed()
        jobs = Grid.read(grid).jobs()
        store = Store(out)
        done = {job.key for job in jobs if store.done(job.key)}
    if dry_run:
        _list(jobs, done, as_json)
        return
    if runner == "local":
        _only_ray(workers=workers, address=address, gpus_per_job=gpus_per_job)
    if store.exists and not resume:
        raise InputError(
            f"{out} holds a sweep, with {len(done)} of these {len(jobs)} jobs done. Go on with "
            "--resume, or name another directory with -o."
        )
    store.begin(jobs, grid.read_text(encoding="utf-8"), _command())
    todo = [job for job in jobs if job.key not in done]
    console.note(f"{len(jobs)} jobs, {len(done)} of them done")
    try:
        with _Bars(len(jobs), len(done)) as bars:
            for outcome in _outcomes(todo, store, bars, runner, workers, address, gpus_per_job,
                                     retries):  # fmt: skip
                bars.ended(outcome)
    except KeyboardInterrupt:
        left = sum(not store.done(job.key) for job in jobs)
        raise console.failed(
            f"interrupted; {left} of {len(jobs)} jobs are left. The same command with --resume "
            "goes on from the last finished case.",
            console.INTERRUPTED,
        ) from None
    _summary(jobs, store, as_json)


def _outcomes(
    todo: Sequence[Job],
    store: Store,
    bars: _Bars,
    runner: str,
    workers: int | None,
    address: str | None,
    gpus_per_job: float | None,
    retries: int,
) -> Iterator[Outcome]:
    if not todo:
        return iter(())
    if runner == "local":
        from ..sweep import local

        return local.run(todo, store, bars.under_way)
    from ..sweep import cluster

    return cluster.run(
        todo, store, bars.under_way,
        workers=workers, address=address, gpus_per_job=gpus_per_job, retries=retries,
    )  # fmt: skip


def _only_ray(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} belongs to --runner ray; the runner here is local.")


def _command() -> str:
    return shlex.join(["corrigenda", *sys.argv[1:]])


def _list(jobs: Sequence[Job], done: set[str], as_json: bool) -> None:
    if as_json:
        rows = [{"key": j.key, "done": j.key in done, "title": j.title} | j.to_dict() for j in jobs]
        console.emit(rows)
        return
    cells = [
        (
            job.key[:8], job.label or job.editor, job.model, job.data, job.mode,
            "all" if job.size is None else str(job.size), str(job.seed),
            "done" if job.key in done else "",
        )
        for job in jobs
    ]  # fmt: skip
    columns = ("job", "method", "model", "data", "mode", "size", "seed", "")
    console.out().print(console.table(f"{len(jobs)} jobs", columns, cells))


class _Bars:
    """Progress on stderr: one bar for the sweep, one for each job that is being done."""

    def __init__(self, total: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
        )
        self.bar = Progress(*columns, console=console.err(), transient=True)
        self.bar.disable = not self.bar.console.is_terminal
        self.total, self.count = total, done
        self.whole = self.bar.add_task("jobs", total=total, completed=done)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self.bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.bar.stop()

    def under_way(self, job: Job, stage: str, done: int, total: int) -> None:
        """A job is at `done` of `total` of a stage."""
        said = f"  {job.title}: {stage}"
        if job.key not in self.tasks:
            self.tasks[job.key] = self.bar.add_task(said, total=total)
        self.bar.update(self.tasks[job.key], description=said, completed=done, total=total)

    def ended(self, outcome: Outcome) -> None:
        """A job is done or has failed."""
        self.count += 1
        with contextlib.suppress(KeyError):
            self.bar.remove_task(self.tasks.pop(outcome.job.key))
        self.bar.update(self.whole, completed=self.count)
        said = f"{self.count} of {self.total}: {outcome.job.title}, {outcome.seconds:.0f} s"
        if outcome.error is None:
            console.note(said)
        else:
            console.note(f"{said}: failed. {outcome.error}", "yellow")


def _summary(jobs: Sequence[Job], store: Store, as_json: bool) -> None:
    """What is done and what failed, from what is on the disk."""
    failures = store.failures()
    done = [job for job in jobs if store.done(job.key)]
    if as_json:
        console.emit(
            {
                "directory": str(store.folder),
                "jobs": len(jobs),
                "done": [{"key": job.key, "title": job.title} for job in done],
                "failed": [
                    {"key": job.key, "title": job.title, "error": failures[job.key]["error"]}
                    for job in jobs
                    if job.key in failures
                ],
            }
        )
    else:
        console.out().print(f"{len(done)} of {len(jobs)} jobs are done, in {store.folder}")
    if not failures:
        return
    told = [f"{job.title}: {failures[job.key]['error']}" for job in jobs if job.key in failures]
    more = f" (and {len(told) - SHOWN} more)" if len(told) > SHOWN else ""
    raise console.failed(
        f"{len(told)} of {len(jobs)} jobs failed{more}; tracebacks are in "
        f"{store.folder / 'failures'}. --resume tries them again.\n  " + "\n  ".join(told[:SHOWN]),
        console.MISSED,
    )


def query(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of a sweep.", show_default=False)],
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help="Over probes, scores, failures.", show_default=False),
    ],
    as_json: bool = False,
) -> None:
    """Ask the results of a sweep in SQL.

    There are three views: probes (a row per job, record and probe), scores (a row per job and
    score, costs too), and failures. `describe probes` lists the columns.
    """
    from ..sweep.store import Store
    from ..sweep.tables import query as ask

    columns, rows = ask(Store(folder), sql)
    if as_json:
        console.emit([dict(zip(columns, row, strict=True)) for row in rows])
        return
    cells = [["" if value is None else _cell(value) for value in row] for row in rows]
    console.out().print(console.table("", columns, cells))


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
