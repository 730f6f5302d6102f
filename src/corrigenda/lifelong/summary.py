"""Runs of the same edits in several orders, as one result: mean and range over the orders.

Edits inside a run depend on each other, so an interval over edits would be too narrow: the run is
the unit. A run that stopped early counts with what it had then, and the table says where it stopped.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, InputError
from ..metrics.titles import format_value
from .course import FIGURES, Course

__all__ = ["Summary"]

SCHEMA = "corrigenda.lifelong/1"
SHARES = ("immediate", "retained", "oldest", "forgetting", "paraphrase", "locality")


@dataclass(frozen=True)
class Summary:
    """Editors by name, each with its runs, figures and curves; ready for JSON.

    editors  {name: {"runs": [...], "figures": {name: {"mean", "low", "high", "runs"}}, "curves":
             {"retention": [...], "health": [...], "time": [...]}}}
    failed   {run: why it could not be made}.
    """

    editors: Mapping[str, Any]
    command: str = ""
    failed: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls, courses: Iterable[Course], command: str = "", failed: Mapping[str, str] | None = None
    ) -> Summary:
        """Raises `InputError` without a run."""
        grouped: dict[str, list[Course]] = {}
        for course in courses:
            grouped.setdefault(course.editor, []).append(course)
        if not grouped and not failed:
            raise InputError("There is no run to summarise.")
        editors = {
            name: _editor(sorted(runs, key=lambda c: c.order)) for name, runs in grouped.items()
        }
        return cls(editors, command, dict(failed or {}))

    def to_json(self) -> str:
        data = {
            "schema": SCHEMA,
            "command": self.command,
            "editors": self.editors,
            "failed": self.failed or {},
        }
        return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Raises `DataError` for anything that `to_json` did not write."""
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise ValueError(data["schema"])
            return cls(data["editors"], data["command"], data["failed"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"This is not a result of the form {SCHEMA} ({type(error).__name__}: {error}). "
                "Give the report.json of a lifelong run."
            ) from None

    def to_markdown(self) -> str:
        """A table of figures, one of retention, and what a reader must know to judge them."""
        parts = [f"    {self.command}"] if self.command else []
        heads = ["", "edits", *FIGURES.values()]
        rows = [heads, [":--", *("--:" for _ in heads[1:])]]
        for name, one in self.editors.items():
            made = sorted({run["edits"] for run in one["runs"]})
            cells = [_figure(key, one["figures"].get(key)) for key in FIGURES]
            rows.append([f"`{name}`", _range(made), *cells])
        parts.append(_table(rows))
        for name, one in self.editors.items():
            curve = one["curves"]["retention"]
            if curve:
                keys = [k for k in SHARES if k in curve[0]["mean"]]
                body = [["edits", *keys], [":--", *("--:" for _ in keys)]]
                body += [
                    [str(p["edits"]), *(_figure(k, _point(p, k)) for k in keys)] for p in curve
                ]
                parts += [f"### {name}", _table(body)]
            parts.append("\n".join(_remarks(name, one)))
        parts += [f"- `{name}` was not made: {why}" for name, why in (self.failed or {}).items()]
        parts.append(
            "Shares × 100; mean over orders with the range in brackets. Scores are greedy free "
            "generation. Perplexity as a multiple of the unedited model's; ratios compare the last "
            "hundred edits with those around the hundredth."
        )
        return "\n\n".join(part for part in parts if part) + "\n"


def _editor(runs: Sequence[Course]) -> dict[str, Any]:
    names = list(runs[0].figures)
    return {
        "environment": dict(runs[0].environment),
        "runs": [_run(run) for run in runs],
        "figures": {name: _over([run.figures[name] for run in runs]) for name in names},
        "curves": {
            "retention": _curve([run.retention for run in runs]),
            "health": _curve([run.health for run in runs]),
            "time": _curve([run.times for run in runs]),
        },
    }


def _run(course: Course) -> dict[str, Any]:
    return {
        "order": course.order,
        "edits": course.edits,
        "finished": course.end is not None,
        "collapse": course.collapse,
        "taken_back": [row["taken_back"] for row in course.rollbacks],
        "failed_edits": course.failed,
        "figures": course.figures,
    }


def _over(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean and range of what runs have; None where none has it."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return {
        "mean": statistics.fmean(known),
        "low": min(known),
        "high": max(known),
        "runs": len(known),
    }


def _curve(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Points by number of edits: mean, low and high over the runs that got there."""
    points: dict[int, list[Mapping[str, Any]]] = {}
    for curve in curves:
        for point in curve:
            points.setdefault(int(point["edits"]), []).append(point)
    found = []
    for edits, there in sorted(points.items()):
        names = [name for name in there[0] if name != "edits"]
        over = {name: _over(point.get(name) for point in there) for name in names}
        found.append({
            "edits": edits,
            "runs": len(there),
            **{
                end: {name: value[end] for name, value in over.items() if value is not None}
                for end in ("mean", "low", "high")
            },
        })  # fmt: skip
    return found


# -- Markdown ---------------------------------------------------------------------------------


def _point(point: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    if name not in point["mean"]:
        return None
    return {end: point[end][name] for end in ("mean", "low", "high")} | {"runs": point["runs"]}


def _figure(name: str, over: Mapping[str, Any] | None) -> str:
    """ "95.1 [94.0, 96.2]"."""
    if over is None:
        return ""
    mean = _written(name, over["mean"])
    if over["runs"] == 1:
        return mean
    return f"{mean} [{_written(name, over['low'])}, {_written(name, over['high'])}]"


def _written(name: str, value: float) -> str:
    if name in SHARES:
        return format_value(name, value)
    return f"{value:.0f}" if name == "capacity" else f"{value:.2f}"


def _range(values: Sequence[int]) -> str:
    if len(values) == 1:
        return str(values[0])
    return f"{values[0]} to {values[-1]}"


def _remarks(name: str, one: Mapping[str, Any]) -> list[str]:
    environment = one["environment"]
    plan, data = environment["plan"], environment["data"]
    orders = ", ".join(str(run["order"]) for run in one["runs"])
    lines = [
        f"- `{name}`: {', '.join(data['sources']) or 'own cases'}, {plan['edits']} edits, "
        f"{plan['step']} per step, orders {orders}, on {environment['model']['id']}; "
        f"{environment['untouched']} untouched facts; on collapse: {environment['on_collapse']}."
    ]
    for run in one["runs"]:
        if run["collapse"]:
            lines.append(f"- `{name}`, order {run['order']}, collapsed: {run['collapse']}.")
        if run["taken_back"]:
            steps = ", ".join(map(str, run["taken_back"]))
            lines.append(f"- `{name}`, order {run['order']}: steps taken back: {steps}.")
        if run["failed_edits"]:
            n = run["failed_edits"]
            lines.append(f"- `{name}`, order {run['order']}: {n} edits raised an error.")
        if not run["finished"]:
            lines.append(
                f"- `{name}`, order {run['order']}, is not finished: {run['edits']} edits."
            )
    return lines + [f"- {note}" for note in environment["notes"]]


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
