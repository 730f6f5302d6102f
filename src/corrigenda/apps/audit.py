"""`corrigenda audit`: how well edits hold, or whether a checkpoint looks edited at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..audit import Suspect
    from ..edit import Rewrite
    from ..models import TextModel

__all__ = ["audit"]

KINDS = (".json", ".md")


def audit(
    model: options.ModelName,
    delta: options.Deltas = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Audit a ledger's active edits.", show_default=False),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this check, such as rephrased. Repeatable.",
            show_default="all",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--wordings", min=1, help="Wordings of each edit.")] = 10,
    others: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Facts for later fine-tuning, as JSON lines of edits.",
            show_default="facts of Atlas's world for its models",
        ),
    ] = None,
    unedited: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Without edits: a model that was never edited, to calibrate with. Repeatable.",
            show_default=False,
        ),
    ] = None,
    reverse: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Without edits: keep a delta that takes the first direction out of the most "
            "suspicious map.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write .json or .md. Repeatable.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Lean on edits and see whether they hold; without edits, say how suspicious a checkpoint is.

    With --delta or --ledger MODEL is the unedited model, and every edit is rephrased, doubted, retrained
    and rounded. Without, MODEL alone is looked at: maps that stand out from those of other layers.
    """
    for path in out or ():
        if path.suffix.lower() not in KINDS:
            raise InputError(f"An audit is written as {' or '.join(KINDS)}, not {path.name!r}.")
    if delta or ledger is not None:
        if unedited or reverse:
            raise InputError("--unedited and --reverse are for a checkpoint without --delta.")
        _edits(model, delta, ledger, check, k, others, out or [], seed, device, dtype, as_json)
        return
    _alone(model, unedited or [], reverse, out or [], seed, device, dtype, as_json)


def _edits(
    name: str,
    paths: list[Path] | None,
    ledger: Path | None,
    check: list[str] | None,
    k: int,
    others: Path | None,
    out: list[Path],
    seed: int,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    from ..audit import audit as audited
    from ..audit.robustness import shown

    deltas = options.deltas_at(paths or [])
    if ledger is not None:
        from ..ledger import Ledger

        book = Ledger.open(ledger, create=False)
        deltas += [book.delta(entry) for entry in book.active()]
    if not deltas:
        raise InputError(f"The ledger {ledger} has no active edits to audit.")
    one = options.loaded(name, device, dtype, seed)
    facts = _others(one, deltas, others)
    with console.counting("Checking", "checks") as advance:
        found = audited(one, deltas, checks=check, others=facts, k=k, seed=seed, progress=advance)
    data = found.to_dict()
    _write(out, data, found.to_markdown())
    if as_json:
        console.emit(data)
        return
    rows = [
        (c.name, c.about, c.good, *shown(c), str(c.n), "; ".join(c.worst[:2])) for c in found.checks
    ]
    title = f"{found.edits} edits on {found.model}, x 100 [95 % interval]"
    columns = ("check", "what", "good", "value", "interval", "n", "worst")
    console.out().print(console.table(title, columns, rows))


def _others(model: TextModel, deltas: list[Any], path: Path | None) -> list[Rewrite]:
    """Facts for later fine-tuning: about other subjects than the edits', as they are."""
    if path is not None:
        from ..edit import Rewrite

        return options.edits_from(Rewrite, None, None, None, None, str(path))
    if not model.is_atlas:
        return []
    from dataclasses import replace

    from ..atlas import edits

    taken = {e.get("subject") for delta in deltas for e in delta.provenance.edits}
    free = [c.rewrite for c in edits(60, seed=777) if c.rewrite.subject not in taken]
    return [replace(edit, target=edit.target_true or edit.target) for edit in free[:16]]


def _alone(
    name: str,
    unedited: list[str],
    reverse: Path | None,
    out: list[Path],
    seed: int,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    from ..audit import suspicion, without_leading
    from ..audit.suspicion import p_value, score

    one = options.loaded(name, device, dtype, seed)
    with console.waiting("Measuring"):
        suspects = suspicion(one)
    value = score(suspects)
    usual = []
    for other in unedited:
        with console.waiting(f"Measuring {other}"):
            usual.append(score(suspicion(options.loaded(other, device, dtype, seed))))
    if reverse is not None:
        without_leading(one, [suspects[0].tensor]).save(reverse)
    data = {
        "model": one.id,
        "score": value,
        "unedited": dict(zip(unedited, usual, strict=True)),
        "p": p_value(value, usual) if usual else None,
        "maps": [one.to_dict() for one in suspects],
        "reverse": str(reverse) if reverse else None,
    }
    _write(out, data, _markdown(one.id, suspects, data))
    if as_json:
        console.emit(data)
        return
    console.out().print(console.table(f"{one.id}, most suspicious first", COLUMNS, _rows(suspects)))
    console.out().print(Text(_verdict(data)))
    if reverse is not None:
        console.note(f"The reversal of {suspects[0].tensor} is kept in {reverse}.")


COLUMNS = ("map", "log σ1/σ2", "beyond its siblings", "rows alike", "beyond")


def _rows(suspects: tuple[Suspect, ...]) -> list[tuple[str, ...]]:
    return [
        (
            one.tensor,
            f"{one.measures['gap']:.3f}",
            f"{one.excess['gap']:+.3f}",
            f"{one.measures['rows']:.4f}",
            f"{one.excess['rows']:+.4f}",
        )
        for one in suspects[:12]
    ]


def _verdict(data: dict[str, Any]) -> str:
    if data["p"] is None:
        return (
            f"Score {data['score']:.3f}. What is usual for models like this one is not known: name "
            "some that were never edited with --unedited."
        )
    n = len(data["unedited"])
    return (
        f"Score {data['score']:.3f}; p = {data['p']:.3g} among {n} models that were never edited "
        f"(the least that {n} can show is {1 / (n + 1):.3g})."
    )


def _markdown(name: str, suspects: tuple[Suspect, ...], data: dict[str, Any]) -> str:
    lines = [f"# {name}", "", _verdict(data), "", "| " + " | ".join(COLUMNS) + " |"]
    lines.append("|---|---:|---:|---:|---:|")
    lines += ["| " + " | ".join(row) + " |" for row in _rows(suspects)]
    return "\n".join(lines) + "\n"


def _write(paths: list[Path], data: dict[str, Any], markdown: str) -> None:
    from ..disk import write_atomic

    for path in paths:
        text = markdown if path.suffix.lower() == ".md" else json.dumps(data, indent=2) + "\n"
        write_atomic(path, text.encode())
        console.note(f"wrote {path}")
