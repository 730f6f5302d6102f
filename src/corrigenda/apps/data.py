"""`corrigenda data`: the data sets, where each comes from, and whether it is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from . import console

if TYPE_CHECKING:
    from ..benchmarks import Benchmark

__all__ = ["data"]

OWN = (
    "A file of your own: JSON lines with prompt, subject and target. Official files go into the "
    "directory that CORRIGENDA_DATA names, or ./data; nothing is downloaded."
)


def data(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One data set, with its caveats.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to look.", show_default="CORRIGENDA_DATA, or ./data"
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the table of data sets into this document."),
    ] = None,
    as_json: bool = False,
) -> None:
    """List the data sets, where each comes from, and whether it is on this machine."""
    from ..benchmarks import BENCHMARKS
    from ..errors import UnknownNameError

    if page is not None:
        _write(page, list(BENCHMARKS.values()), as_json)
        return
    if name is not None and name not in BENCHMARKS:
        raise UnknownNameError("data set", name, BENCHMARKS)
    chosen = list(BENCHMARKS.values()) if name is None else [BENCHMARKS[name]]
    rows = [_row(one, data_dir) for one in chosen]
    if as_json:
        console.emit(rows if name is None else rows[0])
    elif name is None:
        _show_all(rows)
    else:
        _show_one(rows[0])


def _row(one: Benchmark, data_dir: Path | None) -> dict[str, Any]:
    from ..benchmarks import find

    paths = find(one, data_dir)
    return {
        "name": one.name,
        "title": one.title,
        "edits": one.edits,
        "licence": one.licence,
        "citation": one.citation,
        "source": one.source,
        "caveats": one.caveats,
        "files": list(one.files),
        "paths": [str(path) for path in paths],
        "bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "here": bool(paths) or not one.files,
    }


def _show_all(rows: list[dict[str, Any]]) -> None:
    cells = [
        (
            row["name"],
            row["title"],
            _where(row),
            "" if row["bytes"] is None else console.size(row["bytes"]),
            row["licence"],
            row["source"],
        )
        for row in rows
    ]
    columns = ("name", "what it asks", "found", "size", "licence", "official source")
    console.out().print(console.table("", columns, cells))
    console.out().print(Text(OWN))


def _where(row: dict[str, Any]) -> Text:
    if not row["here"]:
        return Text("not here", "yellow")
    if not row["paths"]:
        return Text("built in")
    more = len(row["paths"]) - 1
    return Text(row["paths"][0] + (f" and {more} more" if more else ""))


def _show_one(row: dict[str, Any]) -> None:
    out = console.out()
    out.print(Text(f"{row['name']}: {row['title']}", "bold"))
    lines = [
        ("cases ask for a", row["edits"]),
        ("licence", row["licence"]),
        ("who", row["citation"]),
        ("official source", row["source"]),
        ("here", "built in" if row["here"] and not row["paths"] else ", ".join(row["paths"])),
        ("size", console.size(row["bytes"]) if row["bytes"] is not None else ""),
        ("looked for as", ", ".join(row["files"])),
        ("mind", row["caveats"]),
    ]
    if not row["here"]:
        lines[4] = ("here", "no; get it from the source, and put it into ./data or CORRIGENDA_DATA")
    out.print(console.table("", ("", ""), [pair for pair in lines if pair[1]]))


def _write(page: Path, benchmarks: list[Benchmark], as_json: bool) -> None:
    from ..disk import write_atomic
    from ..errors import InputError
    from . import pages as documents

    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if documents.DATA_BEGIN not in text:
        raise InputError(
            f"{page} has no place for the table of data sets. Put these two lines where it should "
            f"stand: {documents.DATA_BEGIN} {documents.END}"
        )
    table = documents.data_table(benchmarks)
    write_atomic(page, documents.inserted(text, table, documents.DATA_BEGIN).encode())
    if as_json:
        console.emit({"written": str(page)})
    else:
        console.out().print(Text(f"{len(benchmarks)} data sets in {page}"))
