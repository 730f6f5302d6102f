"""Pictures of boards as inline SVG, coloured by the page and sized so that they can be read on a
phone. Every mark has its numbers as a title."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ..metrics.aggregate import Score
from ..metrics.titles import COLUMNS, format_score, format_value
from .boards import Board, Row
from .html import Markup
from .style import COLORS

__all__ = ["Curve", "curves", "dots", "key", "scatter"]

WIDTH = 340.0  # of a small picture; three stand side by side on a desk, one on a phone


@dataclass(frozen=True, slots=True)
class Curve:
    """A line over numbers of edits: (edits, value, low, high), values between 0 and 1."""

    label: str
    points: Sequence[tuple[float, float, float, float]]
    index: int


# -- marks ------------------------------------------------------------------------------------

_SHAPES: tuple[Callable[[float, float, float], str], ...] = (
    lambda x, y, r: f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>',
    lambda x, y, r: _path(x, y, r * 0.92, "M-1 -1H1V1H-1Z"),
    lambda x, y, r: _path(x, y, r * 1.15, "M0 -1L1 .8H-1Z"),
    lambda x, y, r: _path(x, y, r * 1.25, "M0 -1L1 0 0 1 -1 0Z"),
    lambda x, y, r: _path(x, y, r * 1.15, "M0 1L1 -.8H-1Z"),
    lambda x, y, r: _path(x, y, r * 1.15, "M-.4 -1H.4V-.4H1V.4H.4V1H-.4V.4H-1V-.4H-.4Z"),
    lambda x, y, r: _path(x, y, r * 1.2, "M0 -1L.87 -.5V.5L0 1 -.87 .5V-.5Z"),
    lambda x, y, r: _path(
        x, y, r * 1.1, "M-.95 -.6L-.6 -.95 0 -.35 .6 -.95 .95 -.6 .35 0 .95 .6 .6 .95 0 .35 "
        "-.6 .95 -.95 .6 -.35 0Z"
    ),
)  # fmt: skip


def _path(x: float, y: float, r: float, d: str) -> str:
    place = f"translate({x:.1f} {y:.1f}) scale({r:.2f})"
    return f'<path class="mark" vector-effect="non-scaling-stroke" transform="{place}" d="{d}"/>'


def _mark(x: float, y: float, index: int | None, told: str, r: float = 5.0) -> str:
    shape = _SHAPES[0 if index is None else index % len(_SHAPES)]
    return f'<g class="{_color(index)}"><title>{escape(told)}</title>{shape(x, y, r)}</g>'


def _color(index: int | None) -> str:
    return "idle" if index is None else f"s{index % COLORS}"


def key(index: int | None) -> Markup:
    """The mark of a method, to stand in a line of text."""
    shape = _SHAPES[0 if index is None else index % len(_SHAPES)](6, 6, 4.6)
    return Markup(
        f'<svg class="key {_color(index)}" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>'
    )


# -- one score of every method ----------------------------------------------------------------


def dots(board: Board, name: str, index: Mapping[str, int]) -> Markup:
    """A score of every method with its interval, the unedited model beside them."""
    rows = [row for row in board.rows if name in row.scores]
    left = 20 + 6.4 * min(17, max(len(row.label) for row in rows))
    right, step, top = WIDTH - 40, 24.0, 8.0
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, value))

    shapes = [_line(x(t), top, x(t), bottom, "grid") for t in _TICKS]
    shapes += [_text(x(t), bottom + 15, f"{100 * t:.0f}", "dim", "middle") for t in (0, 0.5, 1)]
    for j, row in enumerate(rows):
        y, score = top + step * (j + 0.5), row.scores[name]
        at = index.get(row.label) if not row.unedited else None
        shapes.append(_text(left - 9, y + 4, _cut(row.label), "name", "end"))
        if score.low is not None and score.high is not None:
            shapes.append(_across(x(score.low), x(score.high), y, at))
        told = f"{row.label}: {format_score(name, score)}"
        shapes.append(_mark(x(score.value), y, at, told))
        shapes.append(_text(WIDTH, y + 4, format_value(name, score.value), "dim", "end"))
    title = COLUMNS.get(name, name)
    label = f"{title} of each method with its 95 % interval"
    return _svg(WIDTH, bottom + 20, label, shapes)


_TICKS = (0, 0.25, 0.5, 0.75, 1)


# -- two scores of every method ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Point:
    label: str
    index: int | None
    x: float
    y: float
    told: str
    across: tuple[float, float] | None
    up: tuple[float, float] | None


def scatter(board: Board, x: str, y: str, index: Mapping[str, int]) -> Markup:
    """Two scores against each other, with their intervals; `x` may be "seconds" (per edit).

    The dotted line joins the methods that no other beats in both. Nothing for fewer than two.
    """
    points = [p for row in board.methods if (p := _point(row, x, y, index)) is not None]
    if len(points) < 2:
        return Markup("")
    seconds = x == "seconds"
    left, right, top, bottom = 34.0, WIDTH - 12, 26.0, 250.0
    low_y, ticks_y = _shares([v for p in points for v in (p.y, *(p.up or ()))])
    if seconds:
        low_x, high_x, ticks_x = _decades([p.x for p in points])
    else:
        low_x, ticks_x = _shares([v for p in points for v in (p.x, *(p.across or ()))])
        high_x = 1 + 0.04 * (1 - low_x)  # a mark at 100 % is whole

    def at(value: float) -> float:
        if seconds:
            value = math.log10(value)
        return left + (right - left) * (value - low_x) / (high_x - low_x)

    def up(value: float) -> float:
        return bottom - (bottom - top) * (value - low_y) / ((1 - low_y) * 1.04)

    shapes = [_text(0, 11, COLUMNS.get(y, y), "", "start")]
    shapes += [_line(left, up(t), right, up(t), "grid") for t in ticks_y]
    shapes += [_text(left - 7, up(t) + 4, f"{100 * t:.0f}", "dim", "end") for t in ticks_y]
    for t in ticks_x:
        shapes.append(_line(at(t), top, at(t), bottom, "grid"))
        written = f"{t:g} s" if seconds else f"{100 * t:.0f}"
        shapes.append(_text(at(t), bottom + 16, written, "dim", "middle"))
    front = _front(points, lower=seconds)
    if len(front) > 1:
        line = " ".join(f"{at(p.x):.1f},{up(p.y):.1f}" for p in front)
        shapes.append(f'<polyline class="front" points="{line}"/>')
    strokes = []
    for p in points:
        if p.across is not None:
            low, high = at(p.across[0]), at(p.across[1])
            shapes.append(_across(low, high, up(p.y), p.index))
            strokes.append((low, up(p.y) - 1, high, up(p.y) + 1))
        if p.up is not None:
            low, high = up(p.up[1]), up(p.up[0])
            shapes.append(_upright(at(p.x), low, high, p.index))
            strokes.append((at(p.x) - 1, low, at(p.x) + 1, high))
    shapes += [_mark(at(p.x), up(p.y), p.index, p.told, 5.5) for p in points]
    placed = [(p.label, at(p.x), up(p.y)) for p in points]
    shapes += _labels(placed, strokes, (left, top, right, bottom))
    across = "Seconds per edit" if seconds else COLUMNS.get(x, x)
    shapes.append(_text((left + right) / 2, bottom + 34, across, "", "middle"))
    title = f"{COLUMNS.get(y, y)} against {across.lower()} of each method"
    return _svg(WIDTH, bottom + 40, title, shapes)


def _point(row: Row, x: str, y: str, index: Mapping[str, int]) -> _Point | None:
    upright, flat = row.scores.get(y), row.scores.get(x)
    if upright is None or not math.isfinite(upright.value):
        return None
    told = f"{row.label}: {COLUMNS.get(y, y)} {format_score(y, upright)}"
    if x == "seconds":
        seconds = row.seconds
        if not seconds:
            return None
        told += f", {seconds:.3g} s per edit"
        place, across = seconds, None
    else:
        if flat is None or not math.isfinite(flat.value):
            return None
        told += f", {COLUMNS.get(x, x)} {format_score(x, flat)}"
        place, across = flat.value, _ends(flat)
    return _Point(
        row.label, index.get(row.label), place, upright.value, told, across, _ends(upright)
    )


def _ends(score: Score) -> tuple[float, float] | None:
    return None if score.low is None or score.high is None else (score.low, score.high)


def _front(points: Sequence[_Point], lower: bool) -> list[_Point]:
    """The points that no other is at least as good as in both, from left to right."""
    sign = -1 if lower else 1
    kept = [
        p
        for p in points
        if not any(
            (sign * q.x >= sign * p.x and q.y >= p.y) and (q.x, q.y) != (p.x, p.y) for q in points
        )
    ]
    return sorted(kept, key=lambda p: (p.x, p.y))


def _shares(values: Iterable[float]) -> tuple[float, list[float]]:
    """Where an axis of shares begins, and its ticks up to 1."""
    least = min(values)
    low = max(0.0, min(0.8, math.floor(least * 10) / 10))
    step = 0.25 if low == 0 else 0.2 if low < 0.5 else 0.1 if low < 0.8 else 0.05
    count = round((1 - low) / step)
    return low, sorted({round(1 - step * j, 3) for j in range(count + 1) if 1 - step * j >= low})


def _decades(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """A logarithmic axis: its ends as powers of ten, and its ticks."""
    low, high = math.log10(min(values)) - 0.2, math.log10(max(values)) + 0.25
    ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [t for t in ticks if low <= math.log10(t) <= high]
    while len(inside) > 6:
        whole = [t for t in inside if math.log10(t).is_integer()]
        inside = whole if 2 <= len(whole) < len(inside) else inside[::2]
    return low, high, inside


def _labels(
    placed: Sequence[tuple[str, float, float]],
    strokes: Sequence[tuple[float, float, float, float]],
    frame: tuple[float, float, float, float],
) -> list[str]:
    """A name beside each mark, where it covers no other name or mark, and few strokes."""
    left, top, right, bottom = frame
    taken = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in placed]
    shapes = []
    for label, x, y in sorted(placed, key=lambda one: (one[2], one[1])):
        text = _cut(label)
        wide = 6.3 * len(text)
        best: tuple[float, tuple[float, ...], float, float] | None = None
        for cost, (dx, dy) in enumerate(_AROUND):
            x0 = x + dx if dx > 0 else x + dx - wide if dx < 0 else x - wide / 2
            box = (x0, y + dy - 10, x0 + wide, y + dy + 3)
            outside = box[0] < left or box[2] > right + 10 or box[1] < top - 8
            outside = outside or box[3] > bottom - 1
            hits = sum(_overlap(box, other) for other in taken)
            crossed = sum(_overlap(box, stroke) for stroke in strokes)
            value = cost + 40 * hits + 6 * crossed + 500 * outside
            if best is None or value < best[0]:
                best = value, box, dx, dy
        assert best is not None
        _, box, dx, dy = best
        taken.append(box)  # type: ignore[arg-type]
        if abs(dx) + abs(dy) > 24:
            near = min(max(x, box[0]), box[2])
            shapes.append(_line(x, y, near, box[3] - 4 if dy > 0 else box[3], "leader"))
        shapes.append(_text(box[0], box[3] - 3, text, "name", "start"))
    return shapes


_AROUND = tuple(
    (dx, dy)
    for far in (9, 20, 34, 50)
    for dx, dy in (
        (far, -far + 2), (-far, -far + 2), (far, far + 6), (-far, far + 6), (far, 4), (-far, 4),
        (0, -far), (0, far + 9),
    )
)  # fmt: skip


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# -- a score over the edits made so far -------------------------------------------------------


def curves(lines: Sequence[Curve], title: str) -> Markup:
    """Shares over the number of edits, on a logarithmic axis, each with its range."""
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    wide, left, right, top, bottom = 680.0, 40.0, 570.0, 12.0, 270.0
    counts = sorted({n for line in lines for n, *_ in line.points})
    first, last = counts[0], counts[-1]

    def x(n: float) -> float:
        if last == first:
            return (left + right) / 2
        return left + (right - left) * math.log(n / first) / math.log(last / first)

    def y(value: float) -> float:
        return bottom - (bottom - top) * min(1.0, max(0.0, value))

    shapes = [_line(left, y(t), right, y(t), "grid") for t in _TICKS]
    shapes += [_text(left - 8, y(t) + 4, f"{100 * t:.0f}", "dim", "end") for t in _TICKS]
    shapes.append(_line(left, y(0.6), right, y(0.6), "limit"))
    written = -math.inf
    for n in counts:
        if x(n) - written > 30:  # leave out labels that would touch
            shapes.append(_text(x(n), bottom + 17, f"{n:g}", "dim", "middle"))
            written = x(n)
    kind = "band" if len(lines) < 3 else "band faint"  # many over each other would be grey
    for line in lines:
        band = [(x(n), y(high)) for n, _, _, high in line.points]
        band += [(x(n), y(low)) for n, _, low, _ in reversed(line.points)]
        points = [(x(n), y(value)) for n, value, *_ in line.points]
        shapes.append(
            f'<g class="{_color(line.index)}"><polygon class="{kind}" points="{_joined(band)}"/>'
            f'<polyline class="curve" points="{_joined(points)}"/></g>'
        )
    for line in lines:
        for n, value, low, high in line.points:
            score = format_score("", Score(value, low, high, 0, 0, ""))
            told = f"{line.label}, after {n:g} edits: {score}"
            shapes.append(_mark(x(n), y(value), line.index, told, 4.0))
    shapes += _ends_of_lines(lines, right, y)
    shapes.append(_text((left + right) / 2, bottom + 36, "edits made so far", "", "middle"))
    return _svg(wide, bottom + 42, title, shapes)


def _ends_of_lines(lines: Sequence[Curve], right: float, y: Callable[[float], float]) -> list[str]:
    """Names at the ends of the lines, pushed apart where they would touch."""
    ends = sorted((y(line.points[-1][1]), line.label) for line in lines)
    shapes, last = [], -math.inf
    for height, label in ends:
        last = max(height, last + 14)
        shapes.append(_text(right + 12, last + 4, _cut(label), "name", "start"))
    return shapes


# -- strokes ----------------------------------------------------------------------------------


def _svg(wide: float, high: float, label: str, shapes: Iterable[str]) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {wide:g} {high:g}" role="img" '
        f'aria-label="{escape(label)}">' + "".join(shapes) + "</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _across(low: float, high: float, y: float, index: int | None) -> str:
    return f'<g class="{_color(index)}">{_line(low, y, high, y, "bar")}</g>'


def _upright(x: float, low: float, high: float, index: int | None) -> str:
    return f'<g class="{_color(index)}">{_line(x, low, x, high, "bar")}</g>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    named = f' class="{kind}"' if kind else ""
    return f"<text{named} {place}>{escape(text)}</text>"


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _cut(label: str, limit: int = 17) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"
