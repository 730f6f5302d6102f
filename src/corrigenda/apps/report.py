"""`corrigenda report`: any results as a page, or as tables for a paper."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..disk import write_atomic
from ..errors import DataError, InputError
from . import console

if TYPE_CHECKING:
    from ..report import Report
    from ..reporting.boards import Board
    from ..reporting.lifelong import Lifelong

__all__ = ["report"]

FORMATS = {".html": "html", ".md": "md", ".tex": "tex"}


@dataclass
class _Found:
    """What was read: reports, long sequences, and how a sweep was declared."""

    reports: list[Report] = field(default_factory=list)
    lifelong: list[Lifelong] = field(default_factory=list)
    grid: str = ""
    command: str = ""
    remarks: list[str] = field(default_factory=list)


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|FILE...",
            help="Of a sweep, a comparison or a lifelong run; or reports that eval wrote.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to.", show_default="stdout"),
    ] = None,
    form: Annotated[
        Literal["html", "md", "tex"] | None,
        typer.Option("--format", help="A page, or tables.", show_default="by the suffix, or html"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="Others are tested against it.", show_default="the first one"
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Of the page.", show_default="what is compared")
    ] = None,
    as_json: bool = False,
) -> None:
    """Make a self-contained page, or Markdown or LaTeX tables, from any set of results.

    Methods on the same model, data and mode stand on one board, with intervals and paired tests.
    """
    from ..reporting.boards import boards

    found = _read(results)
    if as_json:
        console.emit([_json(board) for board in boards(found.reports, baseline)])
        if out is None:
            return
    wanted = form or (FORMATS.get(out.suffix, "html") if out else "html")
    text = _written(found, wanted, baseline, title)
    if out is None:
        sys.stdout.write(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text.encode())
    console.note(f"wrote {out}: {len(found.reports)} reports")


def _written(found: _Found, form: str, baseline: str | None, title: str | None) -> str:
    if form == "html":
        from ..reporting.page import page

        return page(
            found.reports, title=title, baseline=baseline, lifelong=found.lifelong,
            grid=found.grid, command=found.command, remarks=found.remarks,
        )  # fmt: skip
    from ..reporting import tables
    from ..reporting.boards import boards

    if not found.reports:
        raise InputError(
            "Long sequences are drawn on a page only. Leave out --format, or use html."
        )
    made = boards(found.reports, baseline)
    return tables.markdown(made) if form == "md" else tables.tex(made)


# -- reading ----------------------------------------------------------------------------------


def _read(paths: Sequence[Path]) -> _Found:
    """Raises `DataError` for what holds no results, naming the file."""
    found = _Found()
    for path in paths:
        if path.is_dir():
            _read_folder(path, found)
        elif path.is_file():
            if not _read_file(path, found):
                raise DataError(
                    f"{path} is no report. Give a JSON file that `corrigenda eval -o` wrote, or the "
                    "directory of a sweep or comparison."
                )
        else:
            raise InputError(f"There is no {path}. Give results: a directory, or JSON files.")
    if not found.reports and not found.lifelong:
        raise DataError(f"No result is finished in {', '.join(map(str, paths))}.")
    return found


def _read_folder(path: Path, found: _Found) -> None:
    from ..sweep.store import PLAN, Store

    if (path / PLAN).is_file():
        store = Store(path)
        jobs, failed = store.jobs(), store.failures()
        done = store.reports()
        found.reports += done
        found.grid = (path / "grid.toml").read_text(encoding="utf-8")
        found.command = store.plan()["command"]
        for key, failure in failed.items():
            found.remarks.append(f"Failed: {jobs[key].title}. {failure['error']}")
        if left := len(jobs) - len(done) - len(failed):
            found.remarks.append(f"{left} of {len(jobs)} jobs of this sweep are not done yet.")
        return
    files = sorted(path.glob("*.json"), key=lambda one: one.stat().st_mtime_ns)
    if not [one for one in files if _read_file(one, found)]:
        raise DataError(
            f"{path} holds no results. Give the directory of a sweep, a comparison or a lifelong "
            "run."
        )


def _read_file(path: Path, found: _Found) -> bool:
    """Whether the file was one of results."""
    from ..report import SCHEMA, Report
    from ..reporting.lifelong import SCHEMA as LONG
    from ..reporting.lifelong import Lifelong

    text = path.read_text(encoding="utf-8")
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError):
        return False
    if schema == SCHEMA:
        found.reports.append(Report.from_json(text))
    elif schema == LONG:
        found.lifelong.append(Lifelong.from_json(text))
    return schema in (SCHEMA, LONG)


def _json(board: Board) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "title": board.title,
        "model": board.model,
        "data": board.data,
        "mode": board.mode,
        "baseline": board.baseline,
        "methods": [
            {
                "method": row.label,
                "unedited": row.unedited,
                "seeds": row.seeds,
                "records": len(row.records),
                "scores": {name: asdict(score) for name, score in row.scores.items()},
                "seconds_per_edit": row.seconds,
                "failures": row.failures,
            }
            for row in board.rows
        ],
        "differences": [asdict(one) for one in board.differences.values()],
    }
