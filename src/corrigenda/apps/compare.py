"""`corrigenda compare`: many editors on the same edits, one table.

Every measurement is a `corrigenda eval` of its own in a process of its own, so that peak memory is
that of one method and a method that fails takes no other with it. Finished cases are on disk; the
same command goes on where it was interrupted. The table is made from the reports that are there.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..disk import write_atomic
from ..errors import InputError, UnknownNameError
from . import console, options
from .side_by_side import side_by_side

if TYPE_CHECKING:
    from ..report import Report

__all__ = ["compare", "markdown", "plot"]

BASELINES = ("none",)
TIMED = "locft-bf"
"""The baseline whose time is 1."""
SCORES = {
    "gen.efficacy": "efficacy",
    "gen.generalization": "generalization",
    "gen.locality": "locality",
    "gen.portability": "portability",
}


@dataclass(frozen=True)
class _Job:
    """One measurement: an editor in a mode on a data set."""

    editor: str
    mode: str
    data: str
    limit: int

    @property
    def name(self) -> str:
        return f"{self.editor}.{self.data}.{self.mode}.{self.limit}"


def compare(
    model: options.ModelName,
    editors: Annotated[
        str,
        typer.Option(help="Names with commas between them, or `all` that support the model."),
    ] = "all",
    limit: Annotated[int, typer.Option(min=1, help="Single edits of the world's facts.")] = 100,
    long: Annotated[
        int, typer.Option(min=0, help="Single edits towards objects of several words.")
    ] = 20,
    sequence: Annotated[int, typer.Option(min=0, help="Edits on top of each other.")] = 100,
    data: Annotated[str, typer.Option(help="Another data set in place of the world's.")] = "atlas",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Reports, table and plot go here.")
    ] = Path("comparison"),
    jobs: Annotated[
        int,
        typer.Option(min=1, help="Side by side; on a GPU times are then not comparable."),
    ] = 1,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: bool = False,
) -> None:
    """Measure many editors on the same edits and write one table.

    The same command goes on where an earlier one stopped. Baselines are always there: the unedited
    model, fine-tuning breadth-first, in-context.
    """
    names = _chosen(model, editors)
    modes = [("single", data, limit)]
    if long and data == "atlas":
        modes.append(("single", "atlas_long", long))
    if sequence:
        modes.append(("sequential", data, sequence))
    wanted = [
        _Job(name, mode, source, n)
        for mode, source, n in modes
        for name in (*BASELINES, *names)
        if not (name in BASELINES and mode == "sequential")
    ]
    out.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    todo = [job for job in wanted if not (out / f"{job.name}.json").exists()]
    try:
        finished = _run_all(model, todo, out, seed, device, jobs)
        for number, (job, problem) in enumerate(finished, start=len(wanted) - len(todo) + 1):
            what = f"{job.editor}, {job.mode}, {job.limit} of {job.data}"
            console.note(f"{number} of {len(wanted)}: {what}")
            if problem:
                failed[job.name] = problem
                console.note(f"{job.editor}: {problem}", "yellow")
    except KeyboardInterrupt:
        raise console.failed(
            f"interrupted; {out} holds what was finished. The same command goes on from there.",
            console.INTERRUPTED,
        ) from None
    reports, refused = _measured(_reports(out, wanted))
    failed |= refused
    command = shlex.join(["corrigenda", *sys.argv[1:]])
    text = markdown(reports, command, failed)
    write_atomic(out / "table.md", text.encode())
    _try_plot(reports, out / "comparison.png")
    if as_json:
        console.emit({"table": _rows(reports), "failed": failed, "command": command})
    else:
        console.out().print(Text(text))


def _chosen(model: str, editors: str) -> list[str]:
    """The editors asked for, with the baselines of every table."""
    from ..edit import Rewrite
    from ..editors import TABLE, editor_class
    from ..models.load import kind_of

    if editors != "all":
        names = [name.strip() for name in editors.split(",") if name.strip()]
        for name in names:
            if name not in TABLE:
                raise UnknownNameError("editor", name, TABLE)
        return list(dict.fromkeys([*names, "locft-bf", "ike"]))
    kind = kind_of(model)
    names = [
        name for name in TABLE if (cls := editor_class(name)).takes is Rewrite and kind in cls.kinds
    ]
    if not names:
        raise InputError(f"No editor supports {kind} models such as {model}.")
    return names


def _run_all(
    model: str, todo: Sequence[_Job], out: Path, seed: int, device: str | None, jobs: int
) -> Iterator[tuple[_Job, str]]:
    """Run the measurements, `jobs` at a time; yield each as it ends, with why it failed if it did."""
    named = {job.name: job for job in todo}
    arguments = {name: _arguments(model, job, out, seed, device) for name, job in named.items()}
    for name, problem in side_by_side(arguments, jobs):
        yield named[name], problem


def _arguments(model: str, job: _Job, out: Path, seed: int, device: str | None) -> list[str]:
    """Of the `corrigenda eval` that makes one measurement."""
    arguments = [
        "eval", model, "--editor", job.editor, "--data", job.data, "--limit", str(job.limit),
        "--mode", job.mode, "--known-only", "--seed", str(seed),
        "--resume", str(out / f"{job.name}.jsonl"), "--out", str(out / f"{job.name}.json"),
    ]  # fmt: skip
    if device is not None:
        arguments += ["--device", device]
    if job.mode == "sequential":
        arguments += ["--checkpoints", ",".join(str(n) for n in (1, 10, 30, 100) if n <= job.limit)]
    return arguments


def _reports(out: Path, jobs: Sequence[_Job]) -> dict[_Job, Report]:
    from ..report import Report

    found = {}
    for job in jobs:
        path = out / f"{job.name}.json"
        if path.exists():
            found[job] = Report.from_json(path.read_text(encoding="utf-8"))
    return found


def _measured(reports: dict[_Job, Report]) -> tuple[dict[_Job, Report], dict[str, str]]:
    """The reports without those in which every edit was refused (a network that was not trained for
    this model, say): no score is one of 0. Second, why those were."""
    refused = {
        job: str(report.rows[0]["error"])
        for job, report in reports.items()
        if report.rows and report.failures.get("raised") == len(report.rows)
    }
    kept = {job: report for job, report in reports.items() if job not in refused}
    return kept, {job.name: why for job, why in refused.items()}


def _rows(reports: dict[_Job, Report]) -> list[dict[str, Any]]:
    return [
        {
            "editor": job.editor,
            "mode": job.mode,
            "data": job.data,
            "n": len(report.rows),
            "scores": {
                name: {"value": score.value, "low": score.low, "high": score.high}
                for name, score in report.scores.items()
                if name.startswith("gen.")
            },
            "teacher_forced_efficacy": _teacher_forced(report),
            "cost": report.cost,
            "failures": report.failures,
        }
        for job, report in reports.items()
    ]


def _teacher_forced(report: Report) -> float | None:
    score = report.scores.get("tf.ES")
    return score.value if score is not None else None


def markdown(reports: dict[_Job, Report], command: str, failed: dict[str, str]) -> str:
    """The tables, with the command that made them."""
    from ..metrics.titles import format_score

    lines = [f"    {command}", ""]
    tables = list(dict.fromkeys((job.mode, job.data, job.limit) for job in reports))
    for mode, data, limit in tables:
        mine = {
            j: r for j, r in reports.items() if (j.mode, j.data, j.limit) == (mode, data, limit)
        }
        unit = next((s for j, r in mine.items() if j.editor == TIMED and (s := _seconds(r))), None)
        kinds = _kinds(mine.values())
        heads = [*SCORES.values(), *(k.rpartition(":")[2].replace("_", " ") for k in kinds)]
        extra = ["retained"] if mode == "sequential" else []
        lines += [
            f"### {_titled(mode, data, limit)}",
            "",
            "| | " + " | ".join([*heads, *extra, "time", "memory", "delta"]) + " |",
            "|:--|" + "--:|" * (len(heads) + len(extra) + 3),
        ]
        for job, report in mine.items():
            cells = [format_score(n, report.scores.get(n)) for n in SCORES]
            cells += [_plain(n, report) for n in kinds]
            cells += (
                [format_score("gen.retained", report.scores.get("gen.retained"))] if extra else []
            )
            cells += _costs(report, unit)
            name = "unedited" if job.editor == "none" else job.editor
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
        if unit:
            lines += ["", f"Time solves one edit (on a CPU: processor time); {TIMED} = 1."]
        lines.append("")
    for name, problem in failed.items():
        lines.append(f"- `{name}` was not measured: {problem}")
    return "\n".join(lines) + "\n"


def _titled(mode: str, data: str, limit: int) -> str:
    what = {"atlas": "facts", "atlas_long": "objects of several words"}.get(
        data, f"cases of {data}"
    )
    return f"{limit} {what}, " + ("each alone" if mode == "single" else "one on top of the other")


def _kinds(reports: Any) -> list[str]:
    """The kinds of consequence, in the order of the first report that has them."""
    return list(
        dict.fromkeys(
            name for r in reports for name in r.scores if name.startswith("gen.portability:")
        )
    )


def _plain(name: str, report: Report) -> str:
    from ..metrics.titles import format_value

    score = report.scores.get(name)
    return format_value(name, score.value) if score is not None else ""


def _seconds(report: Report) -> float | None:
    """Of one edit: the processor's, which other work beside it does not change; a GPU's by the clock."""
    cost = report.cost
    on_gpu = cost.get("peak_cuda_allocated") is not None
    processor = None if on_gpu else cost.get("processor_seconds_per_edit")
    return processor if processor is not None else cost.get("seconds_per_edit")


def _costs(report: Report, unit: float | None) -> list[str]:
    """Time as a ratio (seconds say more about the machine), peak memory, size of the delta."""
    seconds, size = _seconds(report), report.cost.get("bytes_per_edit")
    memory = report.cost.get("peak_resident")
    return [
        f"{seconds / unit:.2g}" if seconds is not None and unit else "",
        f"{memory / 2**30:.2f} GiB" if memory else "",
        console.size(size) if size is not None else "",
    ]


def _try_plot(reports: dict[_Job, Report], path: Path) -> None:
    try:
        plot(reports, path)
    except ImportError:
        console.note("No plot: matplotlib is missing. Install corrigenda[plot] to get one.")


def plot(reports: dict[_Job, Report], path: Path) -> None:
    """Generalization against locality of every editor, single edits and sequence side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    modes = [m for m in ("single", "sequential") if any(j.mode == m for j in reports)]
    if not modes:
        return
    figure, axes = plt.subplots(1, len(modes), figsize=(7 * len(modes), 6), squeeze=False)
    for ax, mode in zip(axes[0], modes, strict=True):
        for job, report in reports.items():
            if job.mode != mode or job.data == "atlas_long" or job.editor == "none":
                continue
            x, y = (report.scores.get(f"gen.{n}") for n in ("locality", "generalization"))
            took = report.scores.get("gen.efficacy")
            if x is None or y is None or took is None:
                continue
            ax.scatter(100 * x.value, 100 * y.value, s=20 + 80 * took.value, alpha=0.6)
            ax.annotate(job.editor, (100 * x.value, 100 * y.value), fontsize=7, xytext=(4, 3),
                        textcoords="offset points")  # fmt: skip
        ax.set_xlabel("locality: answers that stayed, %")
        ax.set_ylabel("generalization: other wordings that follow, %")
        ax.set_title("each edit alone" if mode == "single" else "in sequence")
        # From the tens below the lowest point up to everything.
        ax.set_xlim(min(90, ax.dataLim.x0) // 10 * 10, 103)
        ax.set_ylim(min(90, ax.dataLim.y0) // 10 * 10, 103)
        ax.grid(alpha=0.3)
    figure.text(0.5, 0.01, "size of a point: efficacy; free generation", ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)
