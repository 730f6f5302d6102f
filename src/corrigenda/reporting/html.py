"""Pieces of a page: tables, folded parts, and text that is safe to show whatever it says.

Functions that end in a whole element take plain text and escape it; `Markup` is what is escaped
already, and the only thing that is put into a page as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Cell", "Markup", "details", "element", "joined", "safe", "section", "short", "table"]


class Markup(str):
    """HTML that was built here. Everything else is text, and is escaped."""

    __slots__ = ()


Cell = str
"""Text, or `Markup`."""


def safe(text: Cell) -> Markup:
    """Text as HTML."""
    return text if isinstance(text, Markup) else Markup(escape(str(text)))


def joined(parts: Iterable[Cell], between: str = "") -> Markup:
    return Markup(between.join(safe(part) for part in parts if part))


def element(tag: str, body: Cell = "", **attributes: str | None) -> Markup:
    """<tag name="value">body</tag>; a trailing underscore of a name is dropped (class_)."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{safe(body)}</{tag}>")


def section(title: str, body: Cell, *, level: int = 2, anchor: str | None = None) -> Markup:
    """A titled part; nothing for an empty body."""
    if not body:
        return Markup("")
    return element("section", joined([element(f"h{level}", title), body], "\n"), id=anchor)


def details(title: Cell, body: Cell, *, opened: bool = False) -> Markup:
    """A part that a reader unfolds, by mouse or keyboard; nothing for an empty body."""
    if not body:
        return Markup("")
    inside = joined([element("summary", title), body], "\n")
    return Markup(f"<details{' open' if opened else ''}>{inside}</details>")


def table(
    caption: Cell,
    head: Sequence[Cell],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: Sequence[int] = (),
    headed: bool = True,
    kind: str = "",
) -> Markup:
    """A table that scrolls in a frame of its own where it is too wide, with the keyboard too.

    numbers  columns that are set flush right.
    headed   the first cell of each row is its heading.
    """

    def cells(row: Sequence[Cell], tag: str) -> Markup:
        found = []
        for j, cell in enumerate(row):
            first = headed and j == 0
            scope = "col" if tag == "th" else "row" if first else None
            found.append(
                element(
                    "th" if scope else "td", cell, scope=scope, class_="n" if j in numbers else None
                )
            )
        return joined(found)

    body = joined(
        (row if isinstance(row, Markup) else element("tr", cells(row, "td")) for row in rows), "\n"
    )
    parts = [element("caption", element("span", caption))]
    if any(head):
        parts.append(element("thead", element("tr", cells(head, "th"))))
    parts.append(element("tbody", body))
    # A frame that scrolls must be reachable by the keyboard, and say what it is.
    return element(
        "div", element("table", joined(parts), class_=kind or None),
        class_="scroll", tabindex="0", role="region", aria_label=_plain(caption),
    )  # fmt: skip


def _plain(caption: Cell) -> str:
    text = caption.split("<")[0] if isinstance(caption, Markup) else caption
    return text.strip().rstrip(".")


def short(text: str, limit: int = 120) -> str:
    """One line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
