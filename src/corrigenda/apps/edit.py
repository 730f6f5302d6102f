"""`corrigenda edit` and `corrigenda ask`: make edits, and hear what a model says with them."""

from __future__ import annotations

import getpass
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..edit import Rewrite, edit_from
from ..errors import DeltaError, InputError, LedgerError
from . import console, options

if TYPE_CHECKING:
    from ..delta import Delta
    from ..editor import Editor
    from ..ledger import Entry, Ledger
    from ..models import TextModel

__all__ = ["ask", "edit"]


def edit(
    model: options.ModelName,
    editor: options.EditorName = "rome",
    prompt: options.Prompt = None,
    subject: options.Subject = None,
    target: Annotated[
        str | None, typer.Option(help="The answer that is wanted.", show_default=False)
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            help="Text that follows the answer, where it does not come last; masked models and T5.",
            show_default=False,
        ),
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON lines of edits; - is stdin.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Save the delta here.", show_default=False),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Solve on top of this ledger's active edits, and record the new one in it.",
            show_default=False,
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="A remark for the ledger.", show_default=False)] = "",
    settings: options.Settings = None,
    layers: options.Layers = None,
    corpus: options.Corpus = None,
    keep_failed: Annotated[
        bool,
        typer.Option("--keep-failed", help="Keep a delta in which some edit did not take."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a delta that is at --out.")
    ] = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Edit facts in a model; the model's own files are never touched.

    The result is a delta: a directory that corrigenda, PEFT and vLLM can load. Without --out and
    --ledger nothing is kept, which is good for trying. If an edit did not take, nothing is kept
    and the exit code is 1.
    """
    method = options.editor_from(editor, settings, layers=layers, corpus=corpus, seed=seed)
    wanted = options.edits_from(method.takes, prompt, subject, target, after, edits)
    _check_place(out, overwrite)
    book = _opened(ledger)
    one = options.loaded(model, device, dtype, seed)
    if book is not None:
        book.bind(one)
    origin = _announce(method, one, len(wanted))
    options.prepare(one, method)
    onto = book.merge() if book is not None and book.active() else None
    method.check(one, wanted)
    with onto.applied(one) if onto else nullcontext():
        before = _asked(one, method, wanted)
    delta = _solved(one, method, wanted, onto)
    lost = _lost(one, onto, delta) if onto else []
    kept = not delta.failed or keep_failed
    entry = _keep(delta, out, overwrite, book, note) if kept else None
    result = _result(delta, before, origin, out if kept else None, ledger, entry) | {"lost": lost}
    if as_json:
        console.emit(result)
    else:
        _show(result)
    if delta.failed:
        raise console.failed(_failure(delta, len(wanted), keep_failed), console.MISSED)
    if out is None and ledger is None:
        console.note("Nothing was kept. Add -o DIR to save it, or --ledger DIR to record it.")


def _asked(model: TextModel, method: Editor, edits: Sequence[Any]) -> list[str]:
    """What the model says to the edits' prompts; of edits that are no question, nothing."""
    if method.takes is not Rewrite:
        return [""] * len(edits)
    return [answer for _, answer in model.says(edits)]


def _check_place(out: Path | None, overwrite: bool) -> None:
    """Refuse before the work, not after it."""
    if out is None or overwrite or not out.exists():
        return
    if not out.is_dir():
        raise DeltaError(f"{out} is a file. A delta is saved as a directory; name a new one.")
    if any(out.iterdir()):
        raise DeltaError(f"{out} is not empty. Name another directory, or pass --overwrite.")


def _opened(ledger: Path | None) -> Ledger | None:
    if ledger is None:
        return None
    from ..ledger import Ledger

    return Ledger.open(ledger)


def _announce(method: Editor, model: TextModel, n: int) -> dict[str, Any]:
    """Say what will be done and where; return the layers and where they come from."""
    from ..editors.presets import source_of_layers

    resolved: Any = method.resolved(model)
    layers = getattr(resolved, "layers", None)
    count = f"{n} edit{'s' if n != 1 else ''}"
    if layers is None:
        console.note(f"{method.title} on {model.id}: {count}")
        return {"layers": None, "layers_from": None}
    source = source_of_layers(method, model)
    listed = ", ".join(map(str, layers))
    console.note(
        f"{method.title} on {model.id}: {count}, "
        f"layer{'s' if len(layers) != 1 else ''} {listed} of {model.n_layers} ({source})"
    )
    return {"layers": list(layers), "layers_from": source}


def _solved(
    model: TextModel, method: Editor, edits: Sequence[Rewrite], onto: Delta | None
) -> Delta:
    from ..editor import EditWarning

    with warnings.catch_warnings(), console.waiting(f"{method.title} is solving"):
        warnings.simplefilter("ignore", EditWarning)  # they are in the delta, and shown from there
        delta = method(model, edits, onto)
    for message in delta.provenance.warnings:
        if not message.startswith("The edit did not take"):
            console.note(f"warning: {message}", "yellow")
    return delta


def _lost(model: TextModel, onto: Delta, delta: Delta) -> list[dict[str, str]]:
    """Earlier edits that the new one, on top of them, has made the model forget."""
    took = onto.provenance.outcomes or [None] * len(onto.provenance.edits)
    earlier = [
        Rewrite.from_dict(edit)
        for edit, outcome in zip(onto.provenance.edits, took, strict=True)
        if (outcome is None or outcome.took) and "subject" in edit
    ]
    if not earlier:
        return []
    with onto.applied(model), delta.applied(model):
        answers = model.says(earlier)
    lost = [
        {**edit.to_dict(), "after": answer}
        for edit, (holds, answer) in zip(earlier, answers, strict=True)
        if not holds
    ]
    if lost:
        first = f"{lost[0]['prompt'].replace('{}', lost[0]['subject'], 1)!r}"
        console.note(
            f"warning: with this edit, {len(lost)} of {len(earlier)} earlier ones no longer hold; "
            f"the first: {first} is answered {lost[0]['after']!r}, not {lost[0]['target']!r}.",
            "yellow",
        )
    return lost


def _keep(
    delta: Delta, out: Path | None, overwrite: bool, book: Ledger | None, note: str
) -> Entry | None:
    if out is not None:
        delta.save(out, overwrite=overwrite)
    if book is None:
        return None
    return book.record(delta, note=note, who=_who())


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this system, as in a bare container
        return ""


def _result(
    delta: Delta,
    before: Sequence[str],
    origin: dict[str, Any],
    out: Path | None,
    ledger: Path | None,
    entry: Entry | None,
) -> dict[str, Any]:
    about = delta.provenance
    rows = [
        {
            **edit,
            "text": edit_from(edit).question,
            "target": edit_from(edit).target,
            "before": was,
            "after": outcome.answer,
            "took": outcome.took,
            "note": outcome.note,
        }
        for edit, was, outcome in zip(about.edits, before, about.outcomes, strict=True)
    ]
    return {
        "model": about.model,
        "editor": about.editor,
        "arguments": about.arguments,
        **origin,
        "statistics": about.statistics,
        "edits": rows,
        "took": sum(row["took"] for row in rows),
        "failed": len(delta.failed),
        "id": delta.id,
        "norms": delta.norms(),
        "warnings": list(about.warnings),
        "seconds": about.seconds,
        "precompute_seconds": about.precompute_seconds,
        "out": str(out) if out is not None else None,
        "ledger": str(ledger) if entry is not None else None,
        "entry": entry.seq if entry is not None else None,
    }


LISTED = 40
"""Edits shown one by one; of more, those that did not take come first."""


def _show(result: dict[str, Any]) -> None:
    from ..metrics.text import answer_of

    edits = sorted(result["edits"], key=lambda row: row["took"])[:LISTED]
    rows = [
        (
            row["text"],
            answer_of(row["before"]),
            console.shown(answer_of(row["after"]), "green" if row["took"] else "red"),
            row["target"],
            Text("yes", "green") if row["took"] else Text("no", "red"),
        )
        for row in edits
    ]
    out = console.out()
    out.print(console.table("", ("prompt", "before", "after", "wanted", "took"), rows))
    if len(result["edits"]) > LISTED:
        out.print(f"... and {len(result['edits']) - LISTED} more, which took.")
    places = [f"delta {result['id'][:12]}", f"{result['seconds']:.1f} s"]
    if result["out"]:
        places.append(f"saved in {result['out']}")
    if result["entry"]:
        places.append(f"entry {result['entry']} of {result['ledger']}")
    out.print(Text(" · ".join(places)))


def _failure(delta: Delta, n: int, kept: bool) -> str:
    notes = list(dict.fromkeys(o.note for _, o in delta.failed if o.note))
    remark = f" {notes[0]}" if notes else ""
    end = (
        "The delta was kept; it lists them as failed."
        if kept
        else "Nothing was kept. Try other --layers or --set values, or pass --keep-failed."
    )
    return f"{len(delta.failed)} of {n} edit{'s' if n != 1 else ''} did not take.{remark} {end}"


def ask(
    model: options.ModelName,
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="Texts to continue; - reads lines.")
    ],
    delta: options.Deltas = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Apply a ledger's active edits.", show_default=False),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 16,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Ask a model, without and with edits, side by side."""
    asked = _lines(prompts)
    changes = options.deltas_at(delta or [])
    if ledger is not None:
        from ..ledger import Ledger

        book = Ledger.open(ledger, create=False)
        changes = [*(book.delta(entry) for entry in book.active()), *changes]
        if not changes:
            raise LedgerError(f"The ledger {ledger} has no active edits to apply.")
    one = options.loaded(model, device, dtype)
    before = one.generate(asked, max_new_tokens=max_new_tokens)
    after = None
    if changes:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change.applied(one))
            after = one.generate(asked, max_new_tokens=max_new_tokens)
    answers = [
        {"prompt": prompt, "before": was.strip(), "after": after[j].strip() if after else None}
        for j, (prompt, was) in enumerate(zip(asked, before, strict=True))
    ]
    if as_json:
        console.emit(
            {"model": one.id, "deltas": [change.id for change in changes], "answers": answers}
        )
        return
    if after is None:
        rows = [(row["prompt"], row["before"]) for row in answers]
        console.out().print(console.table("", ("prompt", one.id), rows))
        return
    rows = [
        (
            row["prompt"],
            row["before"],
            console.shown(row["after"], "bold" if row["after"] != row["before"] else "dim"),
        )
        for row in answers
    ]
    console.out().print(console.table("", ("prompt", "before", "after"), rows))


def _lines(prompts: Sequence[str]) -> list[str]:
    """The prompts, with those from stdin in the place of "-"."""
    found: list[str] = []
    for prompt in prompts:
        if prompt == "-":
            found += [line for line in sys.stdin.read().splitlines() if line.strip()]
        else:
            found.append(prompt)
    if not found or not all(p.strip() for p in found):
        raise InputError("A prompt is empty. Give some text to continue.")
    return found
