"""What stands on a page about a board: the leaderboard, its pictures, and the tables behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..edit import edit_from
from ..metrics.aggregate import Score
from ..metrics.titles import (
    COLUMNS,
    HEADLINE,
    format_interval,
    format_score,
    format_value,
    rank,
)
from ..report import Report, record_key
from .boards import Board, Row
from .html import Cell, Markup, details, element, joined, safe, short, table
from .lifelong import Lifelong
from .plots import Curve, curves, dots, key, scatter
from .tables import ZSRE, legacy

__all__ = [
    "Index",
    "all_scores",
    "by_kind",
    "by_relation",
    "costs",
    "differences",
    "failures",
    "leaderboard",
    "lifelong",
    "papers",
    "pictures",
    "retention",
    "tradeoffs",
    "worst",
]

Index = Mapping[str, int]
"""Which colour and shape a method has, the same on the whole page."""

RELATIONS, FAILED = 40, 20


# -- the leaderboard --------------------------------------------------------------------------


def leaderboard(board: Board, index: Index) -> Markup:
    """Headline scores of every method with intervals, and how they compare with the baseline."""
    names = board.scored((*HEADLINE, "gen.retained"))
    best = {name: _best(board, name) for name in names}
    rows = []
    for row in board.rows:
        cells = [_named(board, row, index), *(_value(board, row, name, best) for name in names)]
        cells += ["" if row.seconds is None else f"{row.seconds:.3g}", _count(row)]
        inside = [element("th", cells[0], scope="row")]
        inside += [element("td", cell, class_="n") for cell in cells[1:]]
        rows.append(element("tr", joined(inside), class_="unedited" if row.unedited else None))
    heads = ["method", *(COLUMNS[name] for name in names), "s / edit", "records"]
    return table(_caption(board), heads, rows, numbers=range(1, len(heads)), kind="board")


def _best(board: Board, name: str) -> float:
    values = [row.scores[name].value for row in board.methods if name in row.scores]
    return max(values) if len(values) > 1 else math.inf


def _named(board: Board, row: Row, index: Index) -> Markup:
    if row.unedited:
        return joined([key(None), "unedited model"])
    baseline = len(board.methods) > 1 and row.label == board.baseline
    parts = [key(index.get(row.label)), row.label]
    return joined([*parts, element("small", "baseline") if baseline else ""], " ")


def _value(board: Board, row: Row, name: str, best: Mapping[str, float]) -> Cell:
    score = row.scores.get(name)
    if score is None:
        return ""
    value: Cell = format_value(name, score.value)
    if not row.unedited and score.value == best[name]:
        value = element("b", value, class_="best")
    found = None if row.unedited else board.differences.get((row.label, name))
    arrow: Cell = ""
    if found is not None and found.significant:
        up = found.difference.value > 0
        told = f"{'better' if up else 'worse'} than {board.baseline}, p = {found.adjusted:.3g}"
        arrow = element(
            "span", "▲" if up else "▼", class_="up" if up else "down", role="img",
            aria_label=told, title=told,
        )  # fmt: skip
    small = element("small", format_interval(name, score))
    return joined([joined([value, arrow], " "), small])


def _count(row: Row) -> str:
    return str(len(row.records))


def _caption(board: Board) -> Markup:
    env = board.environment
    seeds = sorted({seed for row in board.rows for seed in row.seeds})
    words = [
        f"Scores × 100 of greedy free generation ({env.get('max_new_tokens', '?')} new tokens) "
        f"with 95 % intervals; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    ]
    if len(board.methods) > 1:
        words.append("Bold: highest.")
    if board.differences:
        words.append(
            f"▲ ▼: better or worse than {board.baseline} on the same records, p < 0.05 after "
            f"Holm's adjustment over {len(board.differences)} comparisons."
        )
    return safe(" ".join(words))


# -- pictures ---------------------------------------------------------------------------------


def pictures(board: Board, index: Index) -> Markup:
    """Every headline score of every method as a dot with its interval."""
    found = []
    for name in board.scored(HEADLINE):
        heading = element("h4", HEADLINE[name])
        found.append(element("figure", joined([heading, dots(board, name, index)])))
    return element("div", joined(found, "\n"), class_="figures") if found else Markup("")


def tradeoffs(board: Board, index: Index) -> Markup:
    """What is won against what is lost, and what it costs."""
    pairs = (
        ("gen.locality", "gen.efficacy", "Edits answered, answers that stayed"),
        ("gen.locality", "gen.portability", "Consequences, answers that stayed"),
        ("seconds", "gen.generalization", "Other wordings, time"),
    )
    found = [
        element("figure", joined([element("h4", said), picture]))
        for x, y, said in pairs
        if (picture := scatter(board, x, y, index))
    ]
    if not found:
        return Markup("")
    note = element(
        "p", "Lines: 95 % intervals. Dotted: methods that no other beats in both. Up and right is "
        "better; left where it is time.", class_="soft",
    )  # fmt: skip
    return joined([element("div", joined(found, "\n"), class_="figures"), note])


def retention(board: Board, index: Index) -> Markup:
    """The share of all edits made so far that is still answered, for sequences."""
    lines, rows = [], []
    for row in board.methods:
        for report in row.reports:
            points = [
                (float(p["edits"]), s.value, _low(s), _high(s))
                for p in report.retention
                if math.isfinite((s := p["retained"]).value)
            ]
            if points:
                lines.append(Curve(row.label, points, index.get(row.label, 0)))
                rows.append((_plainly(row, index), *_sequence(report)))
    picture = curves(lines, "Retention by number of edits")
    if not picture:
        return Markup("")
    said = (
        "The share of all edits made so far that is still answered, in %, with its 95 % interval; "
        "dashed at 60 %. A line per run: other orders of the edits (seeds) show the spread."
    )
    figure = element("figure", joined([picture, element("figcaption", said)]), class_="wide")
    heads = ["method", "seed", "CP@60", *SEQUENCE.values()]
    caption = "CP@60 is the largest number of edits with at least 60 % retained; the rest × 100."
    numbers = range(1, len(heads))
    return joined([figure, table(caption, heads, rows, numbers=numbers, kind="board")])


SEQUENCE = {
    "gen.immediate": "right after each edit",
    "gen.retained": "on the final model",
    "gen.retained:oldest": "oldest tenth, final model",
    "gen.forgetting": "mean fall from the best",
}


def _sequence(report: Report) -> list[Cell]:
    scores = [_with_interval(report.scores.get(name), name) for name in SEQUENCE]
    return [str(report.environment.get("seed") or 0), str(report.capacity), *scores]


def lifelong(one: Lifelong, index: Index) -> Markup:
    """Curves of long sequences: the mean over orders, and the range."""
    lines = [Curve(name, points, index.get(name, 0)) for name, points in one.editors.items()]
    picture = curves(lines, "Retention over long sequences of edits")
    if not picture:
        return Markup("")
    runs = ", ".join(f"{name} {count}" for name, count in one.runs.items())
    said = (
        "The share of the edits asked that is still answered, in %: mean over orders, with the "
        f"lowest and the highest run. Runs: {runs}."
    )
    figure = element("figure", joined([picture, element("figcaption", said)]), class_="wide")
    return joined([figure, element("pre", one.command) if one.command else ""])


# -- tables behind it -------------------------------------------------------------------------


def differences(board: Board) -> Markup:
    """Every comparison with the baseline."""
    rows = [
        (
            one.method, COLUMNS.get(one.score, one.score),
            format_score(one.score, one.difference), str(one.difference.n_records), one.test,
            _p(one.p), _p(one.adjusted),
        )
        for one in board.differences.values()
    ]  # fmt: skip
    if not rows:
        return Markup("")
    said = f"Method minus {board.baseline} on the same records, × 100, mean and 95 % interval."
    heads = ["method", "score", "difference", "records", "test", "p", "p (Holm)"]
    return table(said, heads, rows, numbers=(2, 3, 5, 6))


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def papers(board: Board, index: Index) -> Markup:
    """The columns of the literature."""
    columns = legacy(board)
    if not columns:
        return Markup("")
    names = board.scored(columns)
    rows = [
        (_plainly(row, index), *(_with_interval(row.scores.get(name), name) for name in names))
        for row in board.rows
    ]
    gone = [columns[name] for name in columns if name not in names]
    said = f"The columns of {'zsRE' if columns is ZSRE else 'CounterFact'}: teacher-forced, × 100."
    if gone:
        said += f" Not measured here: {', '.join(gone)}."
    heads = ["method", *(columns[name] for name in names)]
    return table(said, heads, rows, numbers=range(1, len(heads)), kind="board")


def _plainly(row: Row, index: Index) -> Markup:
    return joined([key(None if row.unedited else index.get(row.label)), row.label])


def _with_interval(score: Score | None, name: str) -> Cell:
    if score is None:
        return ""
    small = element("small", format_interval(name, score))
    return joined([format_value(name, score.value), small])


def by_kind(board: Board, index: Index) -> Markup:
    """Scores by kind of probe: which neighbours stayed, which consequences followed."""
    grouped: dict[str, list[str]] = {}
    for name in sorted({n for row in board.methods for n in row.scores if ":" in n}, key=rank):
        base = name.split(":", 1)[0]
        if base in HEADLINE:
            grouped.setdefault(base, []).append(name)
    found = []
    for base, names in grouped.items():
        if len(names) == 1:
            continue  # that is the score itself
        rows = [
            element("tr", joined([
                element("th", _plainly(row, index), scope="row"),
                *(_heated(row.scores.get(name), name) for name in names),
            ]))
            for row in board.rows
            if not (row.unedited and base == "gen.locality")
        ]  # fmt: skip
        heads = ["method", *(_kind(board, name) for name in names)]
        said = f"{HEADLINE[base]} by kind of probe, × 100."
        found.append(table(said, heads, rows, numbers=range(1, len(heads)), kind="heat"))
    return joined(found, "\n")


def _kind(board: Board, name: str) -> Markup:
    score = next(row.scores[name] for row in board.methods if name in row.scores)
    kind = name.split(":", 1)[1].replace("_", " ")
    return joined([kind, element("small", f" n {score.n_records}")])


def _heated(score: Score | None, name: str) -> Markup:
    if score is None or not math.isfinite(score.value):
        return element("td", "", class_="n")
    text = joined([
        format_value(name, score.value), element("small", format_interval(name, score)),
    ])  # fmt: skip
    value = min(1.0, max(0.0, score.value))
    return element("td", text, class_="n", style=f"--v:{value:.3f}")


def by_relation(board: Board, index: Index) -> Markup:
    """Scores by relation of the edited fact: {relation: mean over its records}."""
    relations = {
        record_key(row): str(row["edit"].get("relation") or "")
        for report in board.reports
        for row in report.rows
    }
    counts = Counter(relations.values())
    counts.pop("", None)
    if len(counts) < 2:
        return Markup("")
    shown = counts.most_common(RELATIONS)
    found = []
    for name in board.scored(HEADLINE):
        if name == "gen.generalization_held_out":
            continue
        rows = []
        for relation, count in shown:
            cells = [element("th", relation, scope="row"), element("td", str(count), class_="n")]
            cells += [_warm(_mean(row, name, relations, relation), name) for row in board.methods]
            rows.append(element("tr", joined(cells)))
        heads = ["relation", "edits", *(_plainly(row, index) for row in board.methods)]
        said = f"{HEADLINE[name]} by relation, × 100, mean over edits."
        found.append(table(said, heads, rows, numbers=range(1, len(heads)), kind="heat"))
    if len(counts) > RELATIONS:
        rest = f"{len(counts) - RELATIONS} rarer relations are in the data."
        found.append(element("p", rest, class_="soft"))
    return joined(found, "\n")


def _mean(row: Row, name: str, relations: Mapping[str, str], relation: str) -> float | None:
    values = [
        math.fsum(scores[name]) / len(scores[name])
        for record, scores in row.records.items()
        if relations.get(record) == relation and scores.get(name)
    ]
    return math.fsum(values) / len(values) if values else None


def _warm(value: float | None, name: str) -> Markup:
    if value is None or not math.isfinite(value):
        return element("td", "", class_="n")
    return element("td", format_value(name, value), class_="n", style=f"--v:{value:.3f}")


def costs(board: Board, index: Index) -> Markup:
    """What an edit costs with each method."""
    columns = (
        ("seconds_per_edit", "time per edit", _time),
        ("processor_seconds_per_edit", "of the processor", _time),
        ("precompute_seconds", "precomputation, apart", _time),
        ("apply_seconds", "applying a delta", _time),
        ("undo_seconds", "undoing it", _time),
        ("bytes_per_edit", "size per edit", _size),
        ("peak_cuda_allocated", "peak accelerator memory", _size),
        ("peak_resident", "peak memory of the process", _size),
    )
    used = [c for c in columns if any(row.cost(c[0]) is not None for row in board.methods)]
    if not used:
        return Markup("")
    rows = [
        (_plainly(row, index), *(shown(row.cost(name)) for name, _, shown in used))
        for row in board.methods
    ]
    platforms = sorted({str(one.environment.get("platform", "")) for one in board.reports})
    said = (
        f"Measured on {', '.join(filter(None, platforms)) or 'an unknown machine'}. The memory of "
        "a process is the most that it ever had, earlier jobs included."
    )
    heads = ["method", *(title for _, title, _ in used)]
    return table(said, heads, rows, numbers=range(1, len(heads)), kind="board")


def failures(board: Board) -> Markup:
    """Edits that raised an error or did not take."""
    rows = [
        (
            row.label, str(one["id"] or one["position"]), sentence(one),
            one["error"] or f"did not take: answered {short(one['answer'])!r}. {one['remark']}",
        )
        for row in board.methods
        for report in row.reports
        for one in report.rows
        if one["error"] is not None or one["took"] is False
    ]  # fmt: skip
    if not rows:
        return Markup("")
    said = "They are part of every score."
    if len(rows) > FAILED:
        said += f" The first {FAILED} of {len(rows)}."
    return table(said, ["method", "record", "edit", "what happened"], rows[:FAILED], kind="worst")


def worst(board: Board, index: Index, count: int) -> Markup:
    """The records that went worst with each method: what was asked, wanted and answered."""
    found = []
    for row in board.methods:
        cases = [item for report in row.reports for item in report.worst(count)]
        cases = sorted(cases, key=lambda item: item["score"])[:count]
        body = joined((_case(item) for item in cases), "\n")
        if len(board.methods) == 1:
            return body
        found.append(details(joined([key(index.get(row.label)), row.label]), body))
    return joined(found, "\n")


def _case(item: Mapping[str, Any]) -> Markup:
    row = item["row"]
    rows = [
        (
            f"{probe['axis']} ({probe['kind'].replace('_', ' ')})",
            short(probe["prompt"], 200), short(probe["wanted"]), short(probe["before"]),
            short(probe["after"]),
        )
        for probe in item["probes"]
    ]  # fmt: skip
    told = (
        f"Record {row['id'] or row['position']} scores {100 * item['score']:.0f}, the mean "
        f"over its axes. {len(rows)} of {len(row['probes'])} probes failed:"
    )
    caption = joined([element("b", sentence(row)), Markup("<br>"), told])
    heads = ["probe", "prompt", "wanted", "got before", "got after"]
    return table(caption, heads, rows, kind="worst")


def all_scores(board: Board, index: Index) -> Markup:
    """Every score of every method, by its full name."""
    names = sorted({n for row in board.rows for n in row.scores if ":" not in n}, key=rank)
    rows = [
        (name, *(format_score(name, row.scores.get(name)) for row in board.rows)) for name in names
    ]
    heads = ["score", *(_plainly(row, index) for row in board.rows)]
    said = (
        "gen is free generation, tf is teacher-forced; they are never averaged. Shares × 100, "
        "divergences in nats."
    )
    return table(said, heads, rows, numbers=range(1, len(heads)), kind="board")


# -- words ------------------------------------------------------------------------------------


def sentence(row: Mapping[str, Any]) -> str:
    """The edits of a row in words: "The Eiffel Tower is in → Rome"."""
    edits = [edit_from(one) for one in (row["edit"], *row.get("also", ()))]
    return "; ".join(f"{edit.text.rstrip()} → {edit.target}".rstrip(" →") for edit in edits)


def _low(score: Score) -> float:
    return score.value if score.low is None else score.low


def _high(score: Score) -> float:
    return score.value if score.high is None else score.high


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs" if seconds else "0 s"


def _size(value: float | None) -> str:
    if value is None:
        return ""
    units: Sequence[str] = ("B", "kB", "MB", "GB")
    for unit in units[:-1]:
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} {units[-1]}"
