"""Reports as one HTML page: no scripts, no network, light and dark by the reader's setting.

Every text that comes from data or from a model is escaped (`html.py`). One report makes a page of
its own; many are put side by side on boards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from ..metrics.titles import HEADLINE, format_interval, format_value
from ..report import Report
from . import sections
from .boards import Board, boards
from .html import Markup, details, element, joined, safe, section, table
from .lifelong import Lifelong
from .style import STYLE

__all__ = ["page"]

WORST_OF_ONE, WORST_OF_MANY = 12, 4


def page(
    reports: Sequence[Report],
    *,
    title: str | None = None,
    baseline: str | None = None,
    lifelong: Sequence[Lifelong] = (),
    grid: str = "",
    command: str = "",
    remarks: Sequence[str] = (),
) -> str:
    """The reports as a complete HTML document.

    baseline  label of the method that others are tested against; the first one otherwise.
    lifelong  results of long sequences, each with a section of its own.
    grid      the file that declared a sweep, and `command` what was typed.
    remarks   what else a reader must know, such as jobs that failed.

    Raises `InputError` when there is nothing to show, and `UnknownNameError` for a baseline that
    is none of the methods.
    """
    if not reports and not lifelong:
        raise InputError("There is no report to make a page of.")
    found = boards(reports, baseline)
    names = dict.fromkeys(row.label for board in found for row in board.methods)
    names |= dict.fromkeys(name for one in lifelong for name in one.editors)
    index = {name: number for number, name in enumerate(names)}
    called = title or _title(found, reports, lifelong)
    parts = [
        element("header", joined([element("h1", called), _facts(found, reports)], "\n")),
        _tiles(reports[0]) if len(reports) == 1 else Markup(""),
        _notes(reports, remarks),
        _contents(found, lifelong),
        *(_board(board, index, f"board-{number}") for number, board in enumerate(found, 1)),
        *(
            section("Long sequences", sections.lifelong(one, index), anchor=f"lifelong-{number}")
            for number, one in enumerate(lifelong, 1)
        ),
        section("How it was made", _made(found, reports, grid, command), anchor="made"),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(called)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + joined(parts, "\n")
        + "\n</main>\n</body>\n</html>\n"
    )


# -- the head ---------------------------------------------------------------------------------


def _title(found: Sequence[Board], reports: Sequence[Report], lifelong: Sequence[Lifelong]) -> str:
    if len(reports) == 1:
        return f"{reports[0].label} on {found[0].data}"
    if not reports:
        return "Long sequences of edits"
    methods = len({row.label for board in found for row in board.methods})
    models = list(dict.fromkeys(board.model for board in found))
    data = list(dict.fromkeys(board.data for board in found))
    where = models[0] if len(models) == 1 else f"{len(models)} models"
    what = data[0] if len(data) == 1 else f"{len(data)} data sets"
    return f"{methods} editing method{'s' if methods != 1 else ''} on {where}, edits of {what}"


def _facts(found: Sequence[Board], reports: Sequence[Report]) -> Markup:
    if not reports:
        return Markup("")
    prompts = sum(len(row["probes"]) for report in reports for row in report.rows)
    records = sum(len(report.rows) for report in reports)
    seeds = sorted({int(report.environment.get("seed") or 0) for report in reports})
    created = max(str(report.environment.get("created", "")) for report in reports)
    facts = [
        ", ".join(dict.fromkeys(board.model for board in found)),
        ", ".join(dict.fromkeys(board.data for board in found)) if len(reports) > 1 else "",
        f"{', '.join(dict.fromkeys(board.mode for board in found))} edits",
        f"{records:,} records, {prompts:,} prompts",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        created[:10],
    ]
    return element("p", " · ".join(fact for fact in facts if fact), class_="soft")


def _tiles(report: Report) -> Markup:
    tiles = []
    for name, score in report.headline.items():
        before = report.unedited.get(name)
        if name == "gen.locality":
            was = "same answer before and after"
        else:
            was = "" if before is None else f"unedited {format_value(name, before.value)}"
        lines = [
            element("span", HEADLINE[name]), element("b", format_value(name, score.value)),
            element("span", format_interval(name, score)), element("span", was),
        ]  # fmt: skip
        tiles.append(element("div", joined(lines), class_="tile"))
    return element("div", joined(tiles), class_="tiles") if tiles else Markup("")


def _notes(reports: Sequence[Report], remarks: Sequence[str]) -> Markup:
    raised = sum(report.failures.get("raised", 0) for report in reports)
    missed = sum(report.failures.get("did_not_take", 0) for report in reports)
    parts = [element("p", remark, class_="note") for remark in remarks]
    failed = [_edits(raised, "raised an error")] if raised else []
    failed += [_edits(missed, "did not take")] if missed else []
    if failed:
        whose = "It is" if raised + missed == 1 else "They are"
        said = f"{' and '.join(failed)}. {whose} part of every score."
        parts.append(element("p", said, class_="note"))
    notes = dict.fromkeys(
        note.rstrip(".") for report in reports for note in report.environment.get("notes", [])
    )
    if notes:
        parts.append(element("p", ". ".join(sorted(notes)) + ".", class_="soft"))
    if reports:
        said = (
            "Efficacy, generalization, locality and portability judge what the model writes "
            "freely; scores named tf are teacher-forced. Locality is the share of answers that "
            "are the same before and after. Intervals are 95 %, Wilson or bootstrap over records."
        )
        parts.append(element("p", said, class_="soft"))
    return joined(parts, "\n")


def _edits(count: int, what: str) -> str:
    return f"{count} edit{'s' if count != 1 else ''} {what}"


def _contents(found: Sequence[Board], lifelong: Sequence[Lifelong]) -> Markup:
    if len(found) + len(lifelong) < 2:
        return Markup("")
    links = [
        element("li", element("a", board.title, href=f"#board-{number}"))
        for number, board in enumerate(found, 1)
    ]
    links += [
        element("li", element("a", f"Long sequences: {', '.join(one.editors)}",
                              href=f"#lifelong-{number}"))
        for number, one in enumerate(lifelong, 1)
    ]  # fmt: skip
    links.append(element("li", element("a", "How it was made", href="#made")))
    return element("nav", element("ol", joined(links, "\n")), aria_label="Contents")


# -- a board ----------------------------------------------------------------------------------


def _board(board: Board, index: sections.Index, anchor: str) -> Markup:
    alone = len(board.reports) < 2
    many = WORST_OF_ONE if len(board.methods) == 1 else WORST_OF_MANY
    parts = [
        sections.leaderboard(board, index),
        sections.pictures(board, index),
        section("What is won and what is lost", sections.tradeoffs(board, index), level=3),
        section("Retention", sections.retention(board, index), level=3),
        section(
            "Behind the scores",
            joined([
                details("Differences, tested", sections.differences(board)),
                details("By kind of probe", sections.by_kind(board, index), opened=alone),
                details("By relation", sections.by_relation(board, index)),
                details("In the papers' columns", sections.papers(board, index)),
                details("Cost", sections.costs(board, index), opened=alone),
                details("Edits that failed", sections.failures(board), opened=alone),
                details("What went worst", sections.worst(board, index, many), opened=alone),
                details("All scores", sections.all_scores(board, index)),
            ], "\n"),
            level=3,
        ),
    ]  # fmt: skip
    return section(board.title, joined(parts, "\n"), anchor=anchor)


# -- provenance -------------------------------------------------------------------------------


def _made(found: Sequence[Board], reports: Sequence[Report], grid: str, command: str) -> Markup:
    commands = list(dict.fromkeys(
        text for report in reports if (text := report.environment.get("command"))
    ))  # fmt: skip
    each = element("pre", "\n".join(commands)) if commands else Markup("")
    parts = []
    if command:
        parts.append(element("pre", command))
        if grid:
            parts.append(joined([element("p", "where the grid is"), element("pre", grid)]))
        parts.append(details("The command of each evaluation", each))
    else:
        parts.append(each)
    parts.append(_environments(found))
    parts.append(details(
        "Everything that was recorded",
        joined(
            details(_named(report), element("pre", _json(report.environment)))
            for report in reports
        ),
    ))  # fmt: skip
    return joined(parts, "\n")


def _named(report: Report) -> str:
    env = report.environment
    model = env.get("model", {}).get("id", "")
    return f"{report.label} on {model}, {env.get('mode', '')}, seed {env.get('seed', 0)}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _environments(found: Sequence[Board]) -> Markup:
    rows = []
    for board in found:
        env = board.environment
        model, data = env.get("model", {}), env.get("data", {})
        ids = dict.fromkeys(one.environment.get("data", {}).get("id", "") for one in board.reports)
        versions = ", ".join(f"{k} {v}" for k, v in env.get("versions", {}).items())
        rows.append((
            board.model, str(model.get("weights", ""))[:16],
            f"{model.get('dtype', '')} on {model.get('device', '')}",
            ", ".join(data.get("sources", [])) or board.data, ", ".join(filter(None, ids)), versions,
            str(env.get("platform", "")),
        ))  # fmt: skip
    heads = ["model", "weights", "dtype", "data", "data id", "versions", "platform"]
    said = "Hashes name the exact weights and the exact cases."
    return table(said, heads, list(dict.fromkeys(rows)), kind="worst") if rows else Markup("")
