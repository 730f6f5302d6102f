"""`corrigenda lifelong`: thousands of edits one after the other, and what is left of them.

Each editor in each order is a run of its own, in its own directory, and with several runs in a
process of its own: peak memory is that of one method, and runs can go side by side. Everything is
on disk as it comes; the same command goes on where it was interrupted.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ..disk import write_atomic
from ..errors import InputError, UnknownNameError
from . import console, options
from .side_by_side import side_by_side

if TYPE_CHECKING:
    from ..edit import Case
    from ..lifelong import Course, Summary

__all__ = ["lifelong"]


@dataclass(frozen=True)
class _Job:
    """One run."""

    editor: str
    order: int

    @property
    def name(self) -> str:
        return f"{self.editor}.{self.order}"


def lifelong(
    model: options.ModelName,
    editors: Annotated[
        str, typer.Option(help="Names with commas between them.", show_default=True)
    ] = "alphaedit",
    edits: Annotated[
        int | None,
        typer.Option(min=1, help="How many edits.", show_default="all but the untouched"),
    ] = None,
    step: Annotated[int, typer.Option(min=1, help="Edits per call of the editor.")] = 1,
    orders: Annotated[
        str, typer.Option(help="Seeds of the orders, with commas; 0 is the order of the data.")
    ] = "0",
    data: Annotated[
        str, typer.Option(help="A data set by name (`corrigenda data`), or a file of edits.")
    ] = "atlas",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Runs, report and curves go here.")
    ] = Path("lifelong"),
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs side by side; times are then not comparable.")
    ] = 1,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="10,100,1000",
            help="Edits after which retention is measured.",
            show_default="1, 2, 3, 6, 10, 18, ...",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(min=1, help="Edits asked at a checkpoint beside the oldest and newest tenth."),
    ] = 100,
    untouched: Annotated[
        int, typer.Option(min=0, help="Facts that no edit is about, asked at checkpoints.")
    ] = 100,
    watch: Annotated[int, typer.Option(min=1, help="Look at health every so many edits.")] = 100,
    on_collapse: Annotated[
        Literal["stop", "rollback", "go-on"],
        typer.Option(help="Stop, take the step back that did it, or only record it."),
    ] = "stop",
    max_perplexity: Annotated[
        float,
        typer.Option(help="Alarm: perplexity above this multiple of the unedited model's."),
    ] = 10.0,
    min_retained: Annotated[
        float, typer.Option(help="Alarm: share of sampled edits still answered below this.")
    ] = 0.2,
    health_text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text of the health check.", show_default="one that fits the model"
        ),
    ] = None,
    data_dir: options.DataDir = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts per forward pass.")] = 64,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Only facts that the unedited model knows.")
    ] = False,
    settings: options.Settings = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    only_runs: Annotated[bool, typer.Option("--only-runs", hidden=True)] = False,
    as_json: bool = False,
) -> None:
    """Make long sequences of edits and measure what is retained, and whether the model stays well.

    The same command goes on where an earlier one was interrupted. --set holds for every editor
    that has such a hyperparameter.
    """
    from ..editors import TABLE
    from ..lifelong import Alarm, Plan, divided

    names = list(dict.fromkeys(n.strip() for n in editors.split(",") if n.strip()))
    for name in names:
        if name not in TABLE:
            raise UnknownNameError("editor", name, TABLE)
    wanted = [_Job(name, order) for name in names for order in options.numbers("--orders", orders)]
    if not wanted:
        raise InputError("Name an editor and an order: --editors alphaedit --orders 0,1,2")
    alarm = Alarm(max_perplexity, min_retained)
    out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["corrigenda", *sys.argv[1:]])
    failed: dict[str, str] = {}
    try:
        if len(wanted) > 1:
            todo = {job.name: _arguments(job) for job in wanted}
            for done, (name, problem) in enumerate(side_by_side(todo, jobs), start=1):
                console.note(f"{done} of {len(wanted)}: {name}")
                if problem:
                    failed[name] = problem
                    console.note(f"{name}: {problem}", "yellow")
        else:
            (job,) = wanted
            method = options.editor_from(job.editor, settings, seed=seed)
            pool = None if edits is None else edits + untouched
            found, notes = _cases(data, pool, known_only, seed, data_dir), []
            one = options.loaded(model, device, dtype, seed)
            if known_only:
                found, remark = options.known(one, found, data, pool, max_new_tokens)
                notes.append(remark)
            cases, apart, remarks = divided(found, edits, untouched)
            notes += remarks
            plan = Plan(
                len(cases), step, job.order, tuple(options.numbers("--checkpoints", checkpoints or "")),
                watch=watch, sample=sample, seed=seed,
            )  # fmt: skip
            options.prepare(one, method)
            console.note(
                f"{method.title} on {one.id}: {len(cases)} edits of {data}, {step} per step, "
                f"order {job.order}"
            )
            from ..lifelong import lifelong as run

            with console.stages() as advance:
                run(
                    one, method, cases, plan, out / job.name, untouched=apart, alarm=alarm,
                    on_collapse=on_collapse, text=health_text, max_new_tokens=max_new_tokens,
                    batch_size=batch_size, progress=advance, command=command, notes=notes,
                )  # fmt: skip
    except KeyboardInterrupt:
        raise console.failed(
            f"interrupted; {out} holds what was finished. The same command goes on from there.",
            console.INTERRUPTED,
        ) from None
    if only_runs:
        return
    summary = _summary(out, wanted, command, failed)
    write_atomic(out / "report.json", summary.to_json().encode())
    write_atomic(out / "report.md", summary.to_markdown().encode())
    _try_draw(summary, out)
    if as_json:
        sys.stdout.write(summary.to_json() + "\n")
    else:
        console.out().print(Text(summary.to_markdown()), soft_wrap=True)
    if failed and len(failed) == len(wanted):
        raise console.failed("no run could be made.", console.MISSED)


def _cases(
    data: str, pool: int | None, known_only: bool, seed: int, where: Path | None
) -> list[Case]:
    """Cases to edit and to leave untouched.

    A world makes as many as asked for, and no more than it has facts. A file is read whole, since
    cases that contradict each other are left out.
    """
    from ..benchmarks import MADE, canonical, load_cases

    made = canonical(data) in MADE
    limit = options.pool(data, pool or sys.maxsize, known_only) if made else None
    return load_cases(data, limit=limit, seed=seed, data_dir=where)


def _arguments(job: _Job) -> list[str]:
    """This command for one run: the options that name runs are said again, and the last counts."""
    own = [a for a in sys.argv[1:] if a != "--json"]
    return [*own, "--editors", job.editor, "--orders", str(job.order), "--only-runs"]


def _summary(out: Path, jobs: Sequence[_Job], command: str, failed: dict[str, str]) -> Summary:
    from ..lifelong import Summary

    courses: list[Course] = []
    for job in jobs:
        path = out / job.name / "run.jsonl"
        if path.exists():
            from ..lifelong import Course

            courses.append(Course.read(path))
    return Summary.of(courses, command, failed)


def _try_draw(summary: Summary, out: Path) -> None:
    from ..lifelong.curves import draw

    try:
        for path in draw(summary, out):
            console.note(f"wrote {path}")
    except ImportError:
        console.note("No curves: matplotlib is missing. Install corrigenda[plot] to get them.")
