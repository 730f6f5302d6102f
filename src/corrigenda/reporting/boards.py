"""Which reports belong side by side: those of one model, one data set, one mode and one size.

Runs of a method with several seeds are one row. Records are pooled by their edit, so an edit that
several seeds drew is one record, and the interval is over edits.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import UnknownNameError
from ..metrics.aggregate import Score, aggregate
from ..metrics.titles import HEADLINE
from ..report import Report
from .paired import Difference, Records, against

__all__ = ["UNEDITED", "Board", "Row", "boards"]

UNEDITED = "unedited"
TESTED = (*HEADLINE, "gen.retained")
"""Scores that methods are compared in."""


@dataclass(frozen=True)
class Row:
    """A method on the edits of a board. The unedited model is a row too, without reports of its
    own where it was measured beside a method."""

    label: str
    reports: tuple[Report, ...]
    unedited: bool = False

    @cached_property
    def records(self) -> Records:
        edited = not self.unedited
        if len(self.reports) == 1:
            return self.reports[0].records(edited)
        pooled: dict[str, dict[str, list[float]]] = {}
        for report in self.reports:
            for key, scores in report.records(edited).items():
                record = pooled.setdefault(key, {})
                for name, values in scores.items():
                    record.setdefault(name, []).extend(values)
        return pooled

    @cached_property
    def scores(self) -> dict[str, Score]:
        if len(self.reports) == 1:
            return self.reports[0].unedited if self.unedited else self.reports[0].scores
        return aggregate(list(self.records.values()))

    @property
    def seeds(self) -> list[int]:
        return sorted({int(one.environment.get("seed") or 0) for one in self.reports})

    @property
    def seconds(self) -> float | None:
        """Per edit, the mean over seeds."""
        return self.cost("seconds_per_edit")

    def cost(self, name: str) -> float | None:
        """A cost, averaged over seeds; peaks are the largest."""
        if self.unedited:
            return None
        known = [v for one in self.reports if (v := one.cost.get(name)) is not None]
        if not known:
            return None
        return max(known) if name.startswith("peak") else statistics.fmean(known)

    @property
    def failures(self) -> dict[str, int]:
        if self.unedited:
            return {}
        names = ("raised", "did_not_take")
        return {n: sum(one.failures.get(n, 0) for one in self.reports) for n in names}


@dataclass(frozen=True)
class Board:
    """Methods on the same edits.

    rows         the unedited model first, then the methods in the order given.
    differences  of every method to the baseline, by (method, score).
    """

    model: str
    data: str
    mode: str
    records: int
    rows: tuple[Row, ...]
    baseline: str | None
    differences: dict[tuple[str, str], Difference]

    @property
    def title(self) -> str:
        how = {
            "single": "each edit alone",
            "batch": "all edits at once",
            "sequential": "one edit on top of the other",
        }.get(self.mode, self.mode)
        return f"{self.model}, {self.records} edits of {self.data}, {how}"

    @property
    def methods(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.unedited)

    @property
    def reports(self) -> list[Report]:
        return [report for row in self.methods for report in row.reports]

    @property
    def environment(self) -> dict[str, Any]:
        """Of one of the reports; what differs among them is theirs."""
        return self.rows[0].reports[0].environment

    def scored(self, names: Iterable[str]) -> list[str]:
        """Those of the scores that a row has."""
        return [name for name in names if any(name in row.scores for row in self.rows)]


def boards(reports: Sequence[Report], baseline: str | None = None) -> list[Board]:
    """The reports as boards, in the order in which they first appear.

    baseline  label of the method that others are compared with, where a board has it; its first
              method otherwise.

    Raises `UnknownNameError` for a baseline that no board has.
    """
    labels = {report.label for report in reports}
    if baseline is not None and baseline not in labels:
        raise UnknownNameError("method among these results", baseline, labels)
    grouped: dict[tuple[Any, ...], dict[str, list[Report]]] = {}
    for report in reports:
        grouped.setdefault(_place(report), {}).setdefault(report.label, []).append(report)
    return [_board(place, methods, baseline) for place, methods in grouped.items()]


def _place(report: Report) -> tuple[Any, ...]:
    env = report.environment
    model, data = env.get("model", {}), env.get("data", {})
    name = data.get("name") or _asked(env) or ", ".join(data.get("sources", [])) or "own cases"
    return (
        model.get("id", "unknown model"),
        model.get("weights"),
        name,
        tuple(data.get("target_source", ())),
        env.get("mode", "single"),
        len(report.rows),
    )


def _asked(environment: Mapping[str, Any]) -> str:
    """The data set that the command named: several may have the same source."""
    words = shlex.split(str(environment.get("command") or ""))
    return words[words.index("--data") + 1] if "--data" in words[:-1] else ""


def _board(place: tuple[Any, ...], methods: dict[str, list[Report]], baseline: str | None) -> Board:
    model, _, data, target, mode, count = place
    rows = [
        Row(label, _one_per_seed(found))
        for label, found in methods.items()
        if any(one.environment.get("editor") for one in found)
    ]
    alone = [
        one for found in methods.values() for one in found if not one.environment.get("editor")
    ]
    beside = rows[0].reports if rows else ()
    unedited = Row(UNEDITED, tuple(alone) or beside, unedited=True)
    first = baseline if baseline in [row.label for row in rows] else rows[0].label if rows else None
    differences = {}
    if first is not None:
        base = next(row for row in rows if row.label == first)
        others = [(row.label, row.records) for row in rows if row.label != first]
        found = against(base.records, others, TESTED)
        differences = {(one.method, one.score): one for one in found}
    about = f"{data} ({', '.join(target)})" if target else data
    return Board(model, about, mode, count, (unedited, *rows), first, differences)


def _one_per_seed(found: Sequence[Report]) -> tuple[Report, ...]:
    """A run that was made twice counts once, the later one."""
    return tuple({_seed(one): one for one in found}.values())


def _seed(report: Report) -> int:
    return int(report.environment.get("seed") or 0)
