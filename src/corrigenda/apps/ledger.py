"""The ledger on the command line: log, show, undo, verify, merge, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from ..errors import CorrigendaError, DeltaError, InputError, LedgerError
from . import console, options

if TYPE_CHECKING:
    from ..delta import Delta
    from ..ledger import Entry, Ledger, Verification
    from ..models import TextModel

__all__ = ["export", "log", "merge", "show", "undo", "verify"]

Place = Annotated[
    Path, typer.Argument(metavar="LEDGER", help="The directory of a ledger.", show_default=False)
]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="Number of an entry, or the beginning of its id.", show_default=False
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Where to write it.", show_default=False),
]


def log(ledger: Place, as_json: bool = False) -> None:
    """List the edits of a ledger, and what has become of each."""
    book = _opened(ledger)
    entries = book.entries()
    active = {entry.seq for entry in book.active()}
    undone = {e.target: e.seq for e in entries if e.kind == "undo"}
    if as_json:
        rows = [
            {**_plain(entry), "active": entry.seq in active, "undone_by": undone.get(entry.seq)}
            for entry in entries
        ]
        console.emit({"ledger": str(ledger), "active": sorted(active), "entries": rows})
        return
    rows = []
    for entry in entries:
        state: Any = ""
        if entry.kind == "apply":
            live = entry.seq in active
            state = Text("active", "green") if live else f"undone by {undone[entry.seq]}"
        what = f"undo of {entry.target}" if entry.kind == "undo" else entry.kind
        text = f"base model {entry.model}" if entry.kind == "base" else entry.summary
        rows.append((str(entry.seq), entry.time, what, entry.delta[:12], text, state, entry.note))
    columns = ("#", "time", "what", "id", "edit", "state", "note")
    console.out().print(console.table("", columns, rows))


def show(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="LEDGER|DELTA", help="A ledger, or a saved delta.", show_default=False
        ),
    ],
    ref: Annotated[
        str | None,
        typer.Argument(metavar="[REF]", help="In a ledger: which entry.", show_default=False),
    ] = None,
    as_json: bool = False,
) -> None:
    """Show one edit: what it says, where it came from, what it changes."""
    from ..store import manifest

    if ref is None:
        if (place / "ledger.jsonl").exists():
            raise InputError(f"{place} is a ledger. Name an entry of it: `corrigenda log {place}`.")
        about, extra = manifest(place), {}
    else:
        detail = _opened(place).show(ref)
        about = detail.manifest
        extra = {
            "entry": _plain(detail.entry),
            "active": detail.active,
            "undone_by": detail.undone.seq if detail.undone else None,
        }
    data = {**extra, **about.model_dump(mode="json", fallback=str)}
    if as_json:
        console.emit(data)
        return
    source = data["provenance"]
    facts = [
        ("id", data["id"]),
        ("base model", source["model"]),
        ("editor", source["editor"]),
        ("arguments", ", ".join(f"{k}={v}" for k, v in source["arguments"].items())),
        ("second moments", ", ".join(f"{k} {v}" for k, v in source["statistics"].items())),
        ("created", source["created"]),
    ]
    if extra:
        state = "active" if extra["active"] else f"undone by entry {extra['undone_by']}"
        facts.insert(0, ("entry", f"{extra['entry']['seq']}, {state}"))
        facts.append(("note", extra["entry"].get("note", "")))
    out = console.out()
    out.print(console.table("", ("", ""), [(k, v) for k, v in facts if v]))
    outcomes = source["outcomes"] or [{} for _ in source["edits"]]
    edits = [
        (e["prompt"].replace("{}", e["subject"], 1), e["target"], str(o.get("answer", "")))
        for e, o in zip(source["edits"], outcomes, strict=True)
    ]
    out.print(console.table("", ("prompt", "target", "answer when made"), edits))
    changes = [
        (
            name,
            change["kind"] + (f" of rank {change['rank']}" if change["rank"] else ""),
            " x ".join(map(str, change["shape"])),
            "" if change["norm"] is None else f"{change['norm']:.4g}",
        )
        for name, change in data["changes"].items()
    ]
    out.print(console.table("", ("parameter", "change", "shape", "norm"), changes))
    for message in source["warnings"]:
        console.note(f"warning when it was made: {message}", "yellow")


def undo(
    ledger: Place,
    ref: Reference,
    note: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    as_json: bool = False,
) -> None:
    """Take an edit back, in any order. The other edits stay exactly as they are.

    The log keeps both records. Checkpoints that were exported before still contain the edit;
    `corrigenda verify` says so.
    """
    book = _opened(ledger)
    entry = book.undo(ref, note=note)
    left = book.active()
    active = [e.seq for e in left]
    above = [e.seq for e in left if e.seq > entry.target and book.show(e).manifest.provenance.onto]
    if above:
        listed = ", ".join(map(str, above))
        console.note(
            f"warning: {'Entries' if len(above) > 1 else 'Entry'} {listed} "
            f"{'were' if len(above) > 1 else 'was'} made on top of it. Ask the model whether "
            f"{'they still hold' if len(above) > 1 else 'it still holds'}.",
            "yellow",
        )
    if as_json:
        console.emit({"ledger": str(ledger), "entry": _plain(entry), "active": active})
        return
    still = f"Active: {', '.join(map(str, active))}." if active else "No edit is active now."
    console.out().print(Text(f"Undone: entry {entry.target}, {entry.summary}. {still}"))


def verify(
    model: options.ModelName,
    ledger: Annotated[
        Path, typer.Option(metavar="DIR", help="The ledger to compare with.", show_default=False)
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The unedited model, to measure changes that match no recorded state.",
            show_default="the one that the ledger names, where it is needed",
        ),
    ] = None,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Say which recorded edits a checkpoint contains, and whether anything else changed.

    Exit code 0 means: exactly the active edits are in it, and nothing else differs from the base.
    """
    book = _opened(ledger)
    one = options.loaded(model, device, dtype)
    origin = options.loaded(base, device, dtype) if base else None
    with console.waiting("Comparing tensors"):
        found = book.verify(one, base=origin)
    if not found.clean and origin is None:
        found = _with_recorded_base(book, one, found, device, dtype)
    if as_json:
        console.emit({"model": one.id, "ledger": str(ledger), **found.to_dict()})
    else:
        console.out().print(Text(str(found)))
    if not found.current:
        raise typer.Exit(console.MISSED)


def _with_recorded_base(
    book: Ledger, model: TextModel, found: Verification, device: str | None, dtype: str | None
) -> Verification:
    """Compare again with the base's weights, where they can be had."""
    name = next((entry.model for entry in book.entries() if entry.kind == "base"), "")
    if not name or name == model.id:
        return found
    try:
        return book.verify(model, base=options.loaded(name, device, dtype))
    except CorrigendaError as error:
        console.note(f"The base model {name} was not used: {error}", "yellow")
        return found


def merge(
    ledger: Place,
    out: Out,
    refs: Annotated[
        list[str] | None,
        typer.Option(
            "--ref",
            metavar="REF",
            help="Only these entries. Repeatable.",
            show_default="all active",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a delta that is there.")
    ] = False,
    as_json: bool = False,
) -> None:
    """Write the sum of a ledger's active edits as one delta."""
    book = _opened(ledger)
    chosen = [book.show(ref).entry for ref in refs] if refs else book.active()
    if not chosen:
        raise LedgerError(f"The ledger {ledger} has no active edits to merge.")
    delta = book.merge(chosen)
    delta.save(out, overwrite=overwrite)
    numbers = [entry.seq for entry in chosen]
    if as_json:
        console.emit({"id": delta.id, "entries": numbers, "norms": delta.norms(), "out": str(out)})
        return
    listed = ", ".join(map(str, numbers))
    which = "Entries" if len(numbers) != 1 else "Entry"
    console.out().print(Text(f"{which} {listed} as one delta {delta.id[:12]} in {out}."))


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DELTA|LEDGER", help="A saved delta, or a ledger.", show_default=False
        ),
    ],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The base model, for --format merged.", show_default="as recorded"
        ),
    ] = None,
    form: Annotated[
        Literal["peft", "merged"],
        typer.Option("--format", help="A PEFT adapter, or a whole checkpoint."),
    ] = "peft",
    ref: Annotated[
        str | None,
        typer.Option(metavar="REF", help="In a ledger: one entry.", show_default="all active"),
    ] = None,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Write edits for use elsewhere: a PEFT adapter, or a checkpoint with the edits merged in.

    Merging rounds to the dtype of the weights; what that lost is reported for each tensor.
    """
    deltas = _deltas(source, ref)
    if form == "peft":
        result = _as_peft(deltas, out)
    else:
        name = model or next((d.provenance.model for d in deltas if d.provenance.model), None)
        if name is None:
            raise InputError("The edits do not name their base model. Pass it as --model.")
        result = _as_checkpoint(deltas, options.loaded(name, device, dtype), out)
    if as_json:
        console.emit(result)
        return
    target = console.out()
    if form == "merged":
        rows = [
            (name, f"{tensor['norm']:.4g}", f"{tensor['lost']:.2%}")
            for name, tensor in result["tensors"].items()
        ]
        columns = ("parameter", "norm of the change", "lost to rounding")
        target.print(console.table("", columns, rows))
    target.print(Text(f"{result['what']} in {out}."))


def _deltas(source: Path, ref: str | None) -> list[Delta]:
    from ..delta import Delta

    if (source / "delta.json").exists():
        if ref is not None:
            raise InputError(f"{source} is a saved delta and has no entries; leave --ref out.")
        return [Delta.load(source)]
    book = _opened(source)
    chosen = [book.show(ref).entry] if ref is not None else book.active()
    if not chosen:
        raise LedgerError(f"The ledger {source} has no active edits to export.")
    return [book.delta(entry) for entry in chosen]


def _as_peft(deltas: list[Delta], out: Path) -> dict[str, Any]:
    from functools import reduce

    from ..adapter import as_adapter

    delta = reduce(lambda a, b: a + b, deltas)
    try:
        adapter = as_adapter(delta)
    except DeltaError as error:
        raise DeltaError(
            f"This cannot be written as a PEFT adapter. {error} Use --format merged, or ship the "
            "delta itself."
        ) from None
    delta.save(out)
    return {
        "what": f"A PEFT adapter of rank {adapter.rank}",
        "format": "peft",
        "id": delta.id,
        "rank": adapter.rank,
        "out": str(out),
    }


def _as_checkpoint(deltas: list[Delta], model: TextModel, out: Path) -> dict[str, Any]:
    import json

    from ..ledger import write_merged

    with console.waiting(f"Writing {out}"):
        write_merged(model, deltas, out)
    record = json.loads((out / "merge.json").read_text(encoding="utf-8"))
    count = f"{len(deltas)} edit{'s' if len(deltas) != 1 else ''}"
    what = f"{model.id} with {count} merged"
    return {"what": what, "format": "merged", **record, "out": str(out)}


def _opened(directory: Path) -> Ledger:
    from ..ledger import Ledger

    return Ledger.open(directory, create=False)


def _plain(entry: Entry) -> dict[str, Any]:
    """An entry for reading: without the hashes of every tensor."""
    return entry.model_dump(mode="json", exclude={"tensors", "after", "prev", "check"})
