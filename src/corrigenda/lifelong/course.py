"""What a run shows: curves over the number of edits, and its figures.

    immediate    mean score of the edits right after they were made
    retained     mean score of all edits on the final model
    oldest       the same of the oldest tenth
    forgetting   mean fall from an edit's best moment to the end
    paraphrase   mean score of the edits' other wordings on the final model
    locality     share of untouched facts that are answered as before any edit
    CP@60        most edits after which 60 % are still answered
    perplexity   on the fixed text, as a multiple of the unedited model's
    time ratio   seconds per edit at the end ÷ seconds per edit around the hundredth; the CPU ratio is
                 the same in the processor's time, which other work on the machine does not change
    memory ratio peak memory of the process at the end ÷ that after a hundred edits

Times are means over a hundred edits: one edit may take five times as long as the next, because the
search for its value does.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..metrics.sequential import capacity, forgetting, strata, stratified
from ..results import read_results

__all__ = ["FIGURES", "Course"]

FIGURES = {
    "immediate": "immediate",
    "retained": "retained",
    "oldest": "oldest tenth",
    "forgetting": "forgetting",
    "paraphrase": "paraphrase",
    "locality": "locality",
    "capacity": "CP@60",
    "perplexity": "perplexity ×",
    "seconds_per_edit": "s/edit",
    "time_ratio": "time ratio",
    "processor_ratio": "CPU ratio",
    "memory_ratio": "memory ratio",
}
"""Figures of a run by their titles."""

WINDOW = 100  # edits over which times are averaged
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Course:
    """A run as its lines tell it. Lines of steps that were taken back are not among them.

    steps        one per call of the editor.
    watches      health, every so many edits.
    checkpoints  columns of the retention matrix.
    rollbacks    steps that were taken back, and why.
    end          {"edits", "collapse"}; None while the run is not finished.
    """

    environment: Row
    steps: tuple[Row, ...]
    watches: tuple[Row, ...]
    checkpoints: tuple[Row, ...]
    rollbacks: tuple[Row, ...]
    end: Row | None

    @classmethod
    def read(cls, path: Path | str) -> Course:
        """The latest run in a file of results.

        Raises `DataError` if there is none.
        """
        lines = read_results(Path(path))
        runs = [line["value"] for line in lines if line["kind"] == "run"]
        if not runs:
            raise DataError(f"{path} holds no lifelong run. Give the run.jsonl of one.")
        key = runs[-1]["run"]
        mine = [line for line in lines if line["value"].get("run") == key]
        rollbacks = [line["value"] for line in mine if line["kind"] == "rollback"]
        gone = [row["taken_back"] for row in rollbacks]

        def of(kind: str, with_own: bool) -> tuple[Row, ...]:
            """Lines that rest on all steps taken back before theirs, and on no others."""
            return tuple(
                line["value"]
                for line in mine
                if line["kind"] == kind
                and line["value"]["skipped"]
                == [s for s in gone if s < line["value"]["step"] + with_own]
            )

        ends = [line["value"] for line in mine if line["kind"] == "end"]
        steps = tuple(row for row in of("step", False) if row["step"] not in gone)
        return cls(
            runs[-1]["environment"],
            steps,
            of("watch", True),
            of("checkpoint", True),
            tuple(rollbacks),
            ends[-1] if ends else None,
        )

    # -- what it was --------------------------------------------------------------------------

    @property
    def editor(self) -> str:
        return self.environment["editor"]["name"]

    @property
    def order(self) -> int:
        return self.environment["plan"]["order"]

    @property
    def edits(self) -> int:
        """Edits so far."""
        return self.steps[-1]["edits"] if self.steps else 0

    @property
    def collapse(self) -> str:
        """Why the model counts as collapsed, the first time it did; empty if it never did."""
        alarms = [row["alarm"] for row in self.watches if row["alarm"]]
        return alarms[0] if alarms else (self.end or {}).get("collapse", "")

    @property
    def failed(self) -> int:
        """Edits that raised an error."""
        return sum(len(row["positions"]) for row in self.steps if row["error"])

    # -- curves -------------------------------------------------------------------------------

    @cached_property
    def histories(self) -> dict[int, dict[int, float]]:
        """R: {edit from 0: {edits made: score}}."""
        found: dict[int, dict[int, float]] = {}
        for row in self.steps:
            for j, score in zip(row["positions"], row["immediate"], strict=True):
                found.setdefault(j, {})[row["edits"]] = score or 0.0
        for row in self.checkpoints:
            for j, score in zip(row["positions"], row["efficacy"], strict=True):
                found.setdefault(j, {})[row["edits"]] = score or 0.0
        return found

    @cached_property
    def retention(self) -> list[dict[str, float]]:
        """At every checkpoint: edits, retained, oldest, newest, paraphrase, locality."""
        return [self._column(row) for row in self.checkpoints]

    @property
    def health(self) -> list[dict[str, float | None]]:
        """Whenever it was looked at: edits, and the ratio of perplexities (None: not finite)."""
        return [{"edits": row["edits"], "perplexity": row["ratio"]} for row in self.watches]

    @cached_property
    def times(self) -> list[dict[str, float]]:
        """Edits, seconds per edit and processor seconds per edit, over windows of edits."""
        found, part = [], list[Row]()
        for row in self.steps:
            part.append(row)
            if sum(len(r["positions"]) for r in part) >= WINDOW // 2 or row is self.steps[-1]:
                found.append({
                    "edits": row["edits"],
                    "seconds": _per_edit(part, "seconds"),
                    "processor_seconds": _per_edit(part, "processor_seconds"),
                })  # fmt: skip
                part = []
        return found

    def _column(self, row: Row) -> dict[str, float]:
        made = row["edits"]
        scores = dict(zip(row["positions"], map(_number, row["efficacy"]), strict=True))
        others = {
            j: score
            for j, score in zip(row["positions"], row["generalization"], strict=True)
            if score is not None
        }
        oldest, _, newest = strata(made)
        column = {
            "edits": made,
            "retained": stratified(scores, made),
            "oldest": statistics.fmean(scores[j] for j in oldest),
            "newest": statistics.fmean(scores[j] for j in newest or oldest),
        }
        with_others = _mean_of_known(others, made)
        if with_others is not None:
            column["paraphrase"] = with_others
        if row["locality"]:
            column["locality"] = statistics.fmean(row["locality"])
        return column

    # -- figures ------------------------------------------------------------------------------

    @property
    def figures(self) -> dict[str, float | None]:
        """By the names of `FIGURES`; None where the run is too short to tell."""
        last = self.retention[-1] if self.retention else {}
        ratios = [row["ratio"] for row in self.watches]
        curve = [(int(p["edits"]), p["retained"]) for p in self.retention]
        return {
            "immediate": self._immediate(),
            "retained": last.get("retained"),
            "oldest": last.get("oldest"),
            "forgetting": self._forgetting(),
            "paraphrase": last.get("paraphrase"),
            "locality": last.get("locality"),
            "capacity": capacity(curve) if curve else None,
            "perplexity": ratios[-1] if ratios else None,
            "seconds_per_edit": _per_edit(self.steps, "seconds") if self.steps else None,
            "time_ratio": self._ratio("seconds"),
            "processor_ratio": self._ratio("processor_seconds"),
            "memory_ratio": self._growth(),
        }

    def _immediate(self) -> float | None:
        scores = [score or 0.0 for row in self.steps for score in row["immediate"]]
        return statistics.fmean(scores) if scores else None

    def _forgetting(self) -> float | None:
        """Over all edits but the newest, which has had no time to be forgotten."""
        if not self.checkpoints:
            return None
        row = self.checkpoints[-1]
        made = row["edits"]
        if made < 2:
            return None
        # Of the newest there is one score, so its fall is 0, and it counts for nothing.
        falls = {j: forgetting(self.histories[j]) for j in row["positions"]}
        return stratified(falls, made) * made / (made - 1)

    def _ratio(self, name: str) -> float | None:
        """Cost of the last hundred edits ÷ that of the hundred around the hundredth."""
        early = [r for r in self.steps if WINDOW // 2 < r["edits"] <= WINDOW + WINDOW // 2]
        late = [r for r in self.steps if r["edits"] > self.edits - WINDOW]
        if not early or self.edits < 2 * WINDOW:
            return None
        before = _per_edit(early, name)
        return _per_edit(late, name) / before if before > 0 else None

    def _growth(self) -> float | None:
        """Peak memory of the process at the end ÷ that after a hundred edits."""
        known = [(r["edits"], r["resident"]) for r in self.steps if r["resident"]]
        early = [size for edits, size in known if edits >= WINDOW]
        return known[-1][1] / early[0] if early else None


def _number(score: float | None) -> float:
    return score or 0.0


def _per_edit(rows: Sequence[Row], name: str) -> float:
    """Mean per edit of what calls cost."""
    return math.fsum(_known(rows, name)) / sum(len(row["positions"]) for row in rows)


def _known(rows: Sequence[Row], name: str) -> Iterator[float]:
    return (row[name] for row in rows if row[name] is not None)


def _mean_of_known(scores: Mapping[int, float], made: int) -> float | None:
    """The mean over strata, where edits without a score are left out."""
    if not scores:
        return None
    try:
        return stratified(scores, made)
    except ValueError:  # a stratum of edits that have no other wording
        return statistics.fmean(scores.values())
