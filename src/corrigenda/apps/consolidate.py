"""`corrigenda consolidate`: from texts into weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..blackbox.consolidate import Consolidated
    from ..edit import Case

__all__ = ["consolidate"]


def consolidate(
    ledger: Annotated[
        Path, typer.Argument(metavar="LEDGER", help="The memory of a proxy.", show_default=False)
    ],
    model: options.ModelName,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where delta/, report.json and report.md go.",
            show_default=False,
        ),
    ],
    editor: options.EditorName = "context-distillation",
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set whose cases hold these edits; their probes are asked.",
            show_default="questions made from the edits",
        ),
    ] = None,
    fact: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="How a fact is told in context, with {} where it stands.",
            show_default="as the model learned it",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 16,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what a consolidation left at --out.")
    ] = False,
    data_dir: options.DataDir = None,
    settings: options.Settings = None,
    layers: options.Layers = None,
    corpus: options.Corpus = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Distil the edits of a memory into weights, compare both forms, and keep the better one.

    Both are asked the same questions by free generation: with the edits in context, as behind a
    proxy, and with the edits in weights. MODEL has to be at hand with its weights.
    """
    _check_place(out, overwrite)
    method = options.editor_from(editor, settings, layers=layers, corpus=corpus, seed=seed)
    try:
        from ..blackbox.consolidate import consolidated, wording_for
    except ImportError as error:
        raise InputError(
            f"Consolidating needs {error.name}. Install it with `pip install 'corrigenda[proxy]'`."
        ) from None
    from ..blackbox.memory import EditMemory
    from ..blackbox.prompting import Telling, prompting
    from ..blackbox.scope import Retrieval
    from ..ledger import Ledger

    book = Ledger.open(ledger, create=False)
    if not EditMemory(book).active():
        raise InputError(f"{ledger} holds no active edit to consolidate. Make one, or redo one.")
    known = _known(data, seed, data_dir)
    one = options.loaded(model, device, dtype, seed)
    told = fact or wording_for(one)
    telling = prompting("definitions", told)
    assert isinstance(telling, Telling)
    options.prepare(one, method)
    found = consolidated(
        one,
        EditMemory(book, model=one.id, fact=told),
        method,
        scope=Retrieval(),
        telling=telling,
        known=known,
        max_new_tokens=max_new_tokens,
        seed=seed,
        progress=console.note,
    )
    found.write(out)
    if as_json:
        console.emit(found.to_dict() | {"out": str(out)})
    else:
        _show(found, out)


def _check_place(out: Path, overwrite: bool) -> None:
    """Refuse before the work. Only what a consolidation wrote may be replaced."""
    if not out.exists():
        return
    ours = out.is_dir() and {p.name for p in out.iterdir()} <= {"delta", "report.json", "report.md"}
    if not ours:
        raise InputError(f"{out} holds something else. Name a new directory.")
    if any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty. Name another directory, or pass --overwrite.")


def _known(data: str | None, seed: int, data_dir: Path | None) -> list[Case]:
    if data is None:
        return []
    from ..benchmarks import load_cases

    return load_cases(data, seed=seed, data_dir=data_dir)


def _show(found: Consolidated, out: Path) -> None:
    from ..blackbox.consolidate import AXES, WORDS

    forms = list(found.scores)
    rows = []
    for axis in AXES:
        shares = [found.scores[form].get(axis) for form in forms]
        if any(shares):
            cells = [share.to_dict() if share else None for share in shares]
            rows.append(
                (
                    axis,
                    *(
                        f"{100 * c['share']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]"
                        if c
                        else ""
                        for c in cells
                    ),
                )
            )
    columns = ("x 100 [95 % interval]", *(WORDS[form] for form in forms))
    printed = console.out()
    printed.print(console.table(f"{found.edits} edits, {found.cases} cases", columns, rows))
    if found.error:
        printed.print(Text(f"There is no form in weights: {found.error}"))
    for note in found.notes:
        printed.print(Text(note))
    printed.print(Text(f"kept: {WORDS[found.kept]} · {out / 'delta'}"))
