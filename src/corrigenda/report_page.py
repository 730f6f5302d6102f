"""A report as one HTML page: no scripts, no network, light and dark by the reader's setting.

Plots are inline SVG coloured by the page's own variables. Every text that comes from data or from
a model is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .edit import edit_from
from .metrics.aggregate import Score
from .metrics.titles import (
    COLUMNS,
    HEADLINE,
    format_interval,
    format_score,
    format_value,
    rank,
)

if TYPE_CHECKING:
    from .report import Report

__all__ = ["page"]

SHARES = ("tf.S", "tf.ES", "tf.PS", "tf.NS", "tf.NS+")
WORST = 12
FAILED = 20

STYLE = """
:root { color-scheme: light dark; --bg: #f7f7f4; --panel: #ffffff; --ink: #1b1e23;
  --soft: #626a76; --line: #e2e3dd; --accent: #0e7c7b; --band: #0e7c7b26; --idle: #b4bac3;
  --bad: #b23a33; --good: #2e7d4f; --mark: #fbeceb; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --panel: #1c2024; --ink: #e8eaec;
  --soft: #9aa3ad; --line: #2e343a; --accent: #4fc3bd; --band: #4fc3bd2e; --idle: #59626c;
  --bad: #f08a80; --good: #7fce9c; --mark: #3a2624; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; margin: 2.6rem 0 .7rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } small { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr));
  gap: .8rem; margin-top: 1.4rem; }
.tile, .panel { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem; }
.tile b { display: block; font-size: 1.9rem; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; display: block; }
.scroll { overflow-x: auto; background: var(--panel); border: 1px solid var(--line);
  border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .42rem .8rem; border-top: 1px solid var(--line);
  vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.case { margin: 0 0 1rem; } .case h3 { font-size: 1rem; margin: 0 0 .2rem; font-weight: 600; }
.case .scroll { margin-top: .6rem; }
.bad { color: var(--bad); } .good { color: var(--good); }
.note { border-left: 3px solid var(--bad); background: var(--mark); padding: .5rem .9rem;
  border-radius: 0 .4rem .4rem 0; margin: 1rem 0; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; }
svg .dim { fill: var(--soft); font-size: 12px; } svg .grid { stroke: var(--line); }
svg .edited { fill: var(--accent); } svg .unedited { fill: var(--idle); }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
svg .curve { stroke: var(--accent); stroke-width: 2.5; fill: none; stroke-linejoin: round; }
svg .band { fill: var(--band); } svg .limit { stroke: var(--bad); stroke-dasharray: 4 4; }
pre { overflow-x: auto; font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace;
  margin: .6rem 0 0; }
summary { cursor: pointer; }
"""


def page(report: Report) -> str:
    """The report as a complete HTML document."""
    parts = [
        _header(report),
        _tiles(report),
        _notes(report),
        _section("Edited and unedited", _bars(report)),
        _section("Retention", _retention(report)),
        _section("All scores", _all_scores(report)),
        _section("By kind of probe", _by_kind(report)),
        _section("Cost", _cost(report)),
        _section("Edits that failed", _failures(report)),
        _section("What went worst", _worst(report)),
        _section("How it was made", _environment(report)),
    ]
    title = escape(_title(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# -- sections ---------------------------------------------------------------------------------


def _title(report: Report) -> str:
    data = ", ".join(report.environment.get("data", {}).get("sources", [])) or "own cases"
    return f"{report.name} on {data}"


def _header(report: Report) -> str:
    env = report.environment
    prompts = sum(len(row["probes"]) for row in report.rows)
    facts = [
        env.get("model", {}).get("id", "unknown model"),
        f"{env.get('mode', 'single')} edits",
        f"{len(report.rows)} records, {prompts} prompts",
        f"seed {env.get('seed', 0)}",
        env.get("created", ""),
    ]
    line = " · ".join(escape(str(fact)) for fact in facts if fact)
    return f'<header>\n<h1>{escape(_title(report))}</h1>\n<p class="soft">{line}</p>\n</header>'


def _tiles(report: Report) -> str:
    tiles = []
    for name, score in report.headline.items():
        before = report.unedited.get(name)
        if name == "gen.locality":
            was = "same answer before and after"
        else:
            was = "" if before is None else f"unedited {format_value(name, before.value)}"
        tiles.append(
            f'<div class="tile"><span>{escape(HEADLINE[name])}</span>'
            f"<b>{format_value(name, score.value)}</b>"
            f"<span>{format_interval(name, score)}</span><span>{escape(was)}</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _notes(report: Report) -> str:
    raised = report.failures.get("raised", 0)
    missed = report.failures.get("did_not_take", 0)
    parts = []
    if raised or missed:
        parts.append(
            f'<p class="note">{raised} edits raised an error and {missed} did not take. '
            "They are part of every score.</p>"
        )
    parts += [f'<p class="soft">{escape(note)}</p>' for note in report.environment.get("notes", [])]
    parts.append(
        '<p class="soft">Efficacy, generalization, locality and portability judge free '
        "generation; scores named tf are teacher-forced. Intervals are 95 %, Wilson or "
        "bootstrap over records.</p>"
    )
    return "\n".join(parts)


def _bars(report: Report) -> str:
    names = [name for name in (*HEADLINE, *SHARES) if name in report.scores]
    left, right, row = 250.0, 640.0, 44
    height = 26 + row * len(names)

    def x(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, value))

    shapes = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        shapes.append(_line(x(tick), 4, x(tick), height - 20, "grid"))
        shapes.append(_text(x(tick), height - 5, f"{100 * tick:.0f}", "dim", "middle"))
    for j, name in enumerate(names):
        top = 8 + row * j
        score, before = report.scores[name], report.unedited.get(name)
        shapes.append(_text(left - 12, top + 19, COLUMNS[name], "", "end"))
        edited = f"{COLUMNS[name]}, edited: {format_score(name, score)}"
        shapes.append(_bar(left, top, x(score.value) - left, 15, "edited", edited))
        shapes += _whisker(score, x, top + 7.5)
        if before is not None:
            told = f"{COLUMNS[name]}, unedited: {format_value(name, before.value)}"
            shapes.append(_bar(left, top + 17, x(before.value) - left, 9, "unedited", told))
        ends = max(v for v in (score.high, score.value) if v is not None)
        shapes.append(_text(x(ends) + 8, top + 13, format_value(name, score.value), "", "start"))
    picture = _svg(720, height, "Scores of the edited and the unedited model", shapes)
    legend = "Wide bars: edited model. Narrow bars: unedited model. Lines: intervals."
    return f'<div class="panel">{picture}<p class="soft">{legend}</p></div>'


def _retention(report: Report) -> str:
    points = [p for p in report.retention if math.isfinite(p["retained"].value)]
    if not points:
        return ""
    left, right, top, bottom = 56.0, 690.0, 12.0, 250.0
    last = max(p["edits"] for p in points)

    def x(n: float) -> float:
        return left + (right - left) * (math.log(n) / math.log(last) if last > 1 else 0.5)

    def y(value: float) -> float:
        return bottom - (bottom - top) * value

    shapes = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        shapes.append(_line(left, y(tick), right, y(tick), "grid"))
        shapes.append(_text(left - 10, y(tick) + 4, f"{100 * tick:.0f}", "dim", "end"))
    shapes.append(_line(left, y(0.6), right, y(0.6), "limit"))
    band = [(x(p["edits"]), y(_high(p["retained"]))) for p in points]
    band += [(x(p["edits"]), y(_low(p["retained"]))) for p in reversed(points)]
    shapes.append(f'<polygon class="band" points="{_points(band)}"/>')
    curve = [(x(p["edits"]), y(p["retained"].value)) for p in points]
    shapes.append(f'<polyline class="curve" points="{_points(curve)}"/>')
    written = -math.inf
    for (at, height), point in zip(curve, points, strict=True):
        told = f"after {point['edits']} edits: {format_score('', point['retained'])}"
        shapes.append(
            f'<circle class="edited" cx="{at:.1f}" cy="{height:.1f}" r="4">'
            f"<title>{escape(told)}</title></circle>"
        )
        if at - written > 34:  # leave out labels that would touch
            shapes.append(_text(at, bottom + 20, str(point["edits"]), "dim", "middle"))
            written = at
    shapes.append(_text((left + right) / 2, bottom + 40, "edits made so far", "dim", "middle"))
    facts = [f"Largest number of edits with at least 60 % retained (CP@60): {report.capacity}"]
    for name, title in (
        ("gen.immediate", "right after each edit"),
        ("gen.retained", "on the final model"),
        ("gen.retained:oldest", "oldest tenth on the final model"),
        ("gen.forgetting", "mean fall from the best moment"),
    ):
        if name in report.scores:
            score = report.scores[name]
            facts.append(f"{title} {format_score(name, score)}")
    text = escape("; ".join(facts))
    return (
        f'<div class="panel">{_svg(720, 300, "Retention by number of edits", shapes)}'
        '<p class="soft">The share of all edits made so far that is still answered, in %, with '
        f"its interval. {text}.</p></div>"
    )


def _all_scores(report: Report) -> str:
    names = [name for name in report.scores if ":" not in name]
    head = ["score", "unedited", "edited", "interval", "records", "prompts", "method"]
    rows = []
    for name in sorted(names, key=rank):
        score, before = report.scores[name], report.unedited.get(name)
        rows.append(
            [
                name,
                "" if before is None else format_value(name, before.value),
                format_value(name, score.value),
                format_interval(name, score),
                str(score.n_records),
                str(score.n_prompts),
                score.method,
            ]
        )
    return _table(head, rows, numbers=(1, 2, 3, 4, 5))


def _by_kind(report: Report) -> str:
    rows = []
    for name in sorted((n for n in report.scores if ":" in n), key=rank):
        base, kind = name.split(":", 1)
        if base.count(".") > 1 or not base.startswith("gen.") or base == "gen.retained":
            continue
        score, before = report.scores[name], report.unedited.get(name)
        rows.append(
            [
                base.removeprefix("gen.").replace("_", " "),
                kind.replace("_", " "),
                "" if before is None or "locality" in base else format_value(name, before.value),
                format_value(name, score.value),
                format_interval(name, score),
                str(score.n_records),
                str(score.n_prompts),
            ]
        )
    head = ["score", "kind", "unedited", "edited", "interval", "records", "prompts"]
    return _table(head, rows, numbers=(2, 3, 4, 5, 6)) if rows else ""


def _cost(report: Report) -> str:
    cost = report.cost
    if not cost:
        return ""
    rows = [
        ("time per edit", _amount(cost.get("seconds_per_edit"), "s")),
        ("edits per second", _amount(cost.get("edits_per_second"), "")),
        ("precomputation, apart", _amount(cost.get("precompute_seconds"), "s")),
        ("applying a delta", _amount(cost.get("apply_seconds"), "s")),
        ("undoing it", _amount(cost.get("undo_seconds"), "s")),
        ("size of the delta per edit", _size(cost.get("bytes_per_edit"))),
        ("peak accelerator memory, allocated", _size(cost.get("peak_cuda_allocated"))),
        ("peak accelerator memory, reserved", _size(cost.get("peak_cuda_reserved"))),
        ("peak resident memory of the process", _size(cost.get("peak_resident"))),
    ]
    return _table(["", ""], [[a, b] for a, b in rows if b], numbers=(1,))


def _failures(report: Report) -> str:
    rows = [
        [
            str(row["id"] or row["position"]),
            _sentence(row),
            row["error"] or f"did not take: answered {_short(row['answer'])!r}. {row['remark']}",
        ]
        for row in report.rows
        if row["error"] is not None or row["took"] is False
    ]
    if not rows:
        return ""
    table = _table(["record", "edit", "what happened"], rows[:FAILED])
    if len(rows) > FAILED:
        table += f'<p class="soft">{len(rows) - FAILED} more are in the JSON.</p>'
    return table


def _worst(report: Report) -> str:
    cases = []
    for item in report.worst(WORST):
        row = item["row"]
        rows = [
            [
                f"{probe['axis']} ({probe['kind'].replace('_', ' ')})",
                _short(probe["prompt"], 200),
                _short(probe["wanted"]),
                _short(probe["before"]),
                _short(probe["after"]),
            ]
            for probe in item["probes"]
        ]
        head = ["probe", "prompt", "wanted", "before", "after"]
        told = (
            f"Record {row['id'] or row['position']} scores {100 * item['score']:.0f}, the mean "
            f"over its axes. {len(rows)} of {len(row['probes'])} probes failed:"
        )
        cases.append(
            f'<div class="case"><h3>{escape(_sentence(row))}</h3>'
            f'<p class="soft">{escape(told)}</p>{_table(head, rows)}</div>'
        )
    return "\n".join(cases)


def _environment(report: Report) -> str:
    text = json.dumps(report.environment, indent=2, ensure_ascii=False)
    command = report.environment.get("command")
    shown = f"<pre>{escape(command)}</pre>" if command else ""
    return (
        f'<div class="panel">{shown}<details><summary>Model, editor, data, versions, seeds'
        f"</summary><pre>{escape(text)}</pre></details></div>"
    )


# -- pieces -----------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if j in numbers else ''}>{escape(text)}</{tag}>"
            for j, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    top = f"<thead><tr>{cells('th', head)}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _svg(width: int, height: int, label: str, shapes: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        + "".join(shapes)
        + "</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _bar(x: float, y: float, width: float, height: float, kind: str, told: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
        f'height="{height}" rx="2"><title>{escape(told)}</title></rect>'
    )


def _whisker(score: Score, x: Any, y: float) -> list[str]:
    if score.low is None or score.high is None:
        return []
    low, high = x(score.low), x(score.high)
    return [
        f'<path class="whisker" d="M{low:.1f} {y - 4:.1f}v8M{low:.1f} {y:.1f}H{high:.1f}'
        f'M{high:.1f} {y - 4:.1f}v8"/>'
    ]


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _low(score: Score) -> float:
    return score.value if score.low is None else score.low


def _high(score: Score) -> float:
    return score.value if score.high is None else score.high


def _sentence(row: dict[str, Any]) -> str:
    edits = [edit_from(one) for one in (row["edit"], *row.get("also", ()))]
    return "; ".join(f"{edit.text.rstrip()} → {edit.target}".rstrip(" →") for edit in edits)


def _short(text: str, limit: int = 120) -> str:
    """One line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.3g} {unit}".strip()


def _size(value: float | None) -> str:
    if value is None:
        return ""
    units = ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
