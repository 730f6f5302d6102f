"""What an evaluation found: rows, scores with intervals, cost, and how it was made.

Everything is derived from the rows, so a report can be rebuilt from the file of an interrupted
run, and two reports over the same cases can be compared record by record. Tables show shares x 100
with 95 % intervals and the unedited model beside them; divergences are in nats.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .disk import write_atomic
from .edit import Probe
from .errors import DataError, InputError
from .metrics.aggregate import Score, aggregate
from .metrics.cost import edits_per_second
from .metrics.observation import Observation, record_scores
from .metrics.sequential import capacity, forgetting, immediate, oldest
from .metrics.text import answer_of
from .metrics.titles import COLUMNS, HEADLINE, format_score

__all__ = ["SCHEMA", "Report", "Score", "compare", "items", "record_key"]

SCHEMA = "corrigenda.report/1"


@dataclass(frozen=True)
class Report:
    """The result of one evaluation. Built by `corrigenda.evaluate.evaluate`.

    rows         one mapping per case: the edit, what the editor said, every probe before and after.
    scores       {name: Score} on the edited model; names as in `metrics.observation`.
    unedited     the same scores on the unedited model.
    retention    of a sequence: {"edits": n, "retained": Score} at each checkpoint.
    cost         seconds per edit, precomputation, peak memory and size, in seconds and bytes.
    failures     {"raised": n, "did_not_take": n}; failed edits are part of every score.
    environment  model, editor, data, versions, seeds, command.
    """

    rows: tuple[dict[str, Any], ...]
    scores: dict[str, Score]
    unedited: dict[str, Score]
    retention: tuple[dict[str, Any], ...] = ()
    cost: dict[str, float | None] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, rows: Iterable[Mapping[str, Any]], environment: Mapping[str, Any]) -> Report:
        """Scores, intervals, retention and cost from rows. The seed is the environment's."""
        found = sorted((dict(row) for row in rows), key=lambda row: row["position"])
        seed = int(environment.get("seed") or 0)
        total = int(environment.get("data", {}).get("cases", len(found)))
        records = [_record(row) for row in found]
        for row, record in zip(found, records, strict=True):
            record.update(_sequence_scores(row, total))
        return cls(
            rows=tuple(found),
            scores=aggregate(records, seed=seed),
            unedited=aggregate([_record(row, edited=False) for row in found], seed=seed),
            retention=tuple(_retention(found, environment.get("checkpoints") or (), seed)),
            cost=_total_cost(found),
            failures={
                "raised": sum(row["error"] is not None for row in found),
                "did_not_take": sum(row["took"] is False and row["error"] is None for row in found),
            },
            environment=dict(environment),
        )

    # -- reading ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The editor's name; "unedited" for the unedited model's own report."""
        editor = self.environment.get("editor")
        return editor["name"] if editor else "unedited"

    @property
    def headline(self) -> dict[str, Score]:
        """The free-generation scores that the data allow."""
        return {name: self.scores[name] for name in HEADLINE if name in self.scores}

    @property
    def capacity(self) -> int | None:
        """CP@60 of a sequence: most edits at which 60 % are still answered; None otherwise."""
        points = [(point["edits"], point["retained"].value) for point in self.retention]
        return capacity(points) if points else None

    @property
    def label(self) -> str:
        """What tables call the method: its label in a sweep, or the editor's name."""
        return str(self.environment.get("label") or self.name)

    def records(self, edited: bool = True) -> dict[str, dict[str, list[float]]]:
        """Scores of every record, one value per prompt, by what identifies it: its edit and id."""
        total = int(self.environment.get("data", {}).get("cases", len(self.rows)))
        found: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            scores = _record(row, edited) | (_sequence_scores(row, total) if edited else {})
            record = found.setdefault(record_key(row), {})
            for name, values in scores.items():
                record.setdefault(name, []).extend(values)
        return found

    def worst(self, n: int = 10) -> list[dict[str, Any]]:
        """The records that went worst: {"row", "score", "probes"}.

        Each probe is {"axis", "kind", "prompt", "wanted", "before", "after"}, only those that
        failed. Records without a failed probe are not listed.
        """
        judged = []
        for row in self.rows:
            found = items(row)
            axes: dict[str, list[float]] = {}
            failed = []
            for probe, before, after, kl in found:
                value = record_scores([(probe, before, after, kl)])
                passed = _headline_value(value)
                if passed is None:
                    continue
                axes.setdefault(probe.axis, []).append(passed)
                if passed < 1:
                    failed.append(_readable(probe, before, after))
            if failed:
                score = statistics.fmean(statistics.fmean(v) for v in axes.values())
                judged.append({"row": row, "score": score, "probes": failed})
        return sorted(judged, key=lambda item: (item["score"], item["row"]["position"]))[:n]

    # -- writing ------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The whole report; `from_json` reads it back equal."""
        data = {
            "schema": SCHEMA,
            "environment": self.environment,
            "scores": {name: _score_json(score) for name, score in self.scores.items()},
            "unedited": {name: _score_json(score) for name, score in self.unedited.items()},
            "retention": [
                {"edits": point["edits"], "retained": _score_json(point["retained"])}
                for point in self.retention
            ],
            "cost": self.cost,
            "failures": self.failures,
            "rows": self.rows,
        }
        return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Raises `DataError` for anything that `to_json` did not write."""
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise ValueError(data["schema"])
            return cls(
                rows=tuple(data["rows"]),
                scores={k: _score(v) for k, v in data["scores"].items()},
                unedited={k: _score(v) for k, v in data["unedited"].items()},
                retention=tuple(
                    {"edits": p["edits"], "retained": _score(p["retained"])}
                    for p in data["retention"]
                ),
                cost=data["cost"],
                failures=data["failures"],
                environment=data["environment"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"This is not a report of the form {SCHEMA} ({type(error).__name__}: {error}). "
                "Give the JSON file that an evaluation wrote."
            ) from None

    def to_markdown(self) -> str:
        """One table, the unedited model above the edited one, and what it was made with."""
        return compare([self])

    def to_html(self) -> str:
        """A page that needs nothing but itself: scores, plots, worst cases, provenance."""
        from .reporting.page import page

        return page([self])

    def write(self, path: Path | str) -> Path:
        """Write as .json, .md or .html, by the suffix. Atomic. Raises `InputError` otherwise."""
        path = Path(path)
        forms: dict[str, Callable[[], str]] = {
            ".json": self.to_json,
            ".md": self.to_markdown,
            ".html": self.to_html,
        }
        if path.suffix not in forms:
            raise InputError(
                f"A report is written as {', '.join(forms)}, not {path.suffix or path.name!r}. "
                "Change the suffix of the file."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, forms[path.suffix]().encode())
        return path


def compare(reports: Sequence[Report]) -> str:
    """One Markdown table with a row per report, and paired differences to the first one.

    The unedited model is a row too. Differences are given where the same cases were evaluated:
    mean and 95 % interval of the paired bootstrap, and Holm's p-values over all comparisons (exact
    McNemar where every record passes or fails). Raises `InputError` without reports.
    """
    if not reports:
        raise InputError("There is no report to compare.")
    columns = [name for name in COLUMNS if any(name in report.scores for report in reports)]
    table = [["", *(COLUMNS[name] for name in columns), "n", "s/edit"]]
    seen: set[str] = set()
    for report in reports:
        model = report.environment.get("model", {}).get("id", "")
        label = f"unedited {model}".strip()
        same = json.dumps([label, report.environment.get("data", {}).get("id")])
        if same not in seen and report.unedited:
            seen.add(same)
            table.append([label, *_cells(report.unedited, columns), _count(report), ""])
        if report.environment.get("editor"):
            mode = report.environment.get("mode", "single")
            name = report.name if mode == "single" else f"{report.name}, {mode}"
            table.append([name, *_cells(report.scores, columns), _count(report), _seconds(report)])
    parts = [_markdown(table), *(_footnotes(report, len(reports) > 1) for report in reports)]
    differences = _differences(reports)
    if differences:
        parts.insert(1, differences)
    return "\n\n".join(part for part in parts if part) + "\n"


# -- rows to scores ---------------------------------------------------------------------------

Item = tuple[Probe, Observation | None, Observation, tuple[float, float] | None]


def items(row: Mapping[str, Any], edited: bool = True) -> list[Item]:
    """A row's probes with what they got. Unedited: the model before, compared with itself; nothing
    where it could not be asked."""
    found: list[Item] = []
    for part in row["probes"]:
        before = Observation.from_dict(part["before"]) if part["before"] else None
        after = Observation.from_dict(part["after"]) if edited else before
        if after is None:
            continue
        kl = part["kl"] if edited else None
        pair = None if kl is None else tuple(math.inf if x is None else x for x in kl)
        found.append((Probe.from_dict(part["probe"]), before, after, pair))  # type: ignore[arg-type]
    return found


def record_key(row: Mapping[str, Any]) -> str:
    """What identifies the record of a row: its edit and its id."""
    return json.dumps([row["id"], row["edit"]], sort_keys=True)


def _record(row: Mapping[str, Any], edited: bool = True) -> dict[str, list[float]]:
    return record_scores(items(row, edited))


def _history(row: Mapping[str, Any]) -> dict[int, float]:
    return {int(n): score for n, score in row["history"].items()}


def _sequence_scores(row: Mapping[str, Any], total: int) -> dict[str, list[float]]:
    """Retained, immediate and forgetting of one edit in a sequence of `total`."""
    history = _history(row)
    if total not in history:
        return {}
    last = history[total]
    scores = {"gen.immediate": [immediate(history)], "gen.retained": [last]}
    if row["position"] < total:
        scores["gen.forgetting"] = [forgetting(history)]
    if row["position"] <= oldest(total):
        scores["gen.retained:oldest"] = [last]
    return scores


def _retention(
    rows: Sequence[Mapping[str, Any]], times: Sequence[int], seed: int
) -> Iterable[dict[str, Any]]:
    histories = [(row["position"], _history(row)) for row in rows]
    for n in times:
        values = [h[n] for position, h in histories if position <= n and n in h]
        if len(values) == n:
            score = aggregate([{"retained": [value]} for value in values], seed=seed)["retained"]
            yield {"edits": n, "retained": score}


def _total_cost(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    costs = [row["cost"] for row in rows if row["cost"]]
    if not costs:
        return {}

    def known(name: str) -> list[float]:
        return [cost[name] for cost in costs if cost.get(name) is not None]

    seconds = math.fsum(known("seconds"))
    return {
        "edits": len(costs),
        "seconds_per_edit": seconds / len(costs),
        "processor_seconds_per_edit": _mean(known("processor_seconds")),
        "edits_per_second": edits_per_second(len(costs), seconds) if seconds else None,
        "precompute_seconds": math.fsum(known("precompute_seconds")),
        "apply_seconds": _mean(known("apply_seconds")),
        "undo_seconds": _mean(known("undo_seconds")),
        "bytes_per_edit": math.fsum(known("bytes")) / len(costs),
        "peak_cuda_allocated": max(known("cuda_allocated"), default=None),
        "peak_cuda_reserved": max(known("cuda_reserved"), default=None),
        "peak_resident": max(known("resident"), default=None),
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _headline_value(scores: Mapping[str, Sequence[float]]) -> float | None:
    """The free-generation score of a single probe."""
    names = (*HEADLINE, "gen.locality.known")
    return next((scores[name][0] for name in names if name in scores), None)


def _readable(probe: Probe, before: Observation | None, after: Observation) -> dict[str, str]:
    names = " / ".join(probe.answers)
    wanted = answer_of(before.text) if before and probe.axis == "locality" else names
    return {
        "axis": probe.axis,
        "kind": probe.kind,
        "prompt": probe.prompt,
        "wanted": wanted,
        "before": before.text.strip() if before is not None else "",
        "after": after.text.strip(),
    }


# -- JSON -------------------------------------------------------------------------------------


def _score_json(score: Score) -> dict[str, Any]:
    """A score that is not finite has no value in JSON."""
    data = asdict(score)
    return data | {"value": score.value if math.isfinite(score.value) else None}


def _score(data: Mapping[str, Any]) -> Score:
    fields = dict(data)
    if fields["value"] is None:
        fields["value"] = math.inf
    return Score(**fields)


# -- Markdown ---------------------------------------------------------------------------------


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *body = ([_cell(text) for text in row] for row in table)
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _cells(scores: Mapping[str, Score], columns: Sequence[str]) -> list[str]:
    return [format_score(name, scores.get(name)) for name in columns]


def _count(report: Report) -> str:
    return str(len(report.rows))


def _seconds(report: Report) -> str:
    seconds = report.cost.get("seconds_per_edit")
    return "" if seconds is None else f"{seconds:.3g}"


def _footnotes(report: Report, named: bool) -> str:
    """What a reader must know to judge the row."""
    env = report.environment
    prompts = sum(len(row["probes"]) for row in report.rows)
    data = ", ".join(env.get("data", {}).get("sources", [])) or "own cases"
    targets = env.get("data", {}).get("target_source")
    source = f" (target: {', '.join(targets)})" if targets else ""
    words = [
        f"{report.name}: " if named else "",
        f"{data}{source}, {len(report.rows)} records, {prompts} prompts; "
        f"{env.get('mode', 'single')} edits on {env.get('model', {}).get('id', '?')}; "
        f"seed {env.get('seed', 0)}; greedy, {env.get('max_new_tokens', '?')} new tokens. "
        "Scores x 100 with 95 % intervals (Wilson or bootstrap over records). "
        "S to KL are teacher-forced, all others free generation.",
    ]
    if report.failures.get("raised") or report.failures.get("did_not_take"):
        words.append(
            f" Failed edits, counted in every score: {report.failures['raised']} raised an "
            f"error, {report.failures['did_not_take']} did not take."
        )
    if report.retention:
        curve = ", ".join(
            f"{100 * point['retained'].value:.1f} after {point['edits']}"
            for point in report.retention
        )
        words.append(f" Retained: {curve}. One order of edits; run other seeds for the spread.")
    words += [f" {note}" for note in env.get("notes", [])]
    return "".join(words)


def _differences(reports: Sequence[Report]) -> str:
    """Paired differences of headline scores to the first report, as a table."""
    from .reporting.paired import against

    first = reports[0]
    others = [(report.name, report.records()) for report in reports[1:]]
    found = against(first.records(), others, HEADLINE)
    if not found:
        return ""
    table = [["", "score", f"difference to {first.name}", "n", "p (Holm)"]]
    for one in found:
        shown = format_score(one.score, one.difference)
        count = str(one.difference.n_records)
        table.append([one.method, HEADLINE[one.score], shown, count, f"{one.adjusted:.4f}"])
    return _markdown(table)
