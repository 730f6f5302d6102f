"""`corrigenda diff`: two checkpoints, or two edits, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..audit import Changed, Meaning
    from ..compare import Difference
    from ..models import TextModel

__all__ = ["diff"]


def diff(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A model, a saved delta, or a REF with --ledger.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Likewise; a delta next to a model is put on it.")
    ],
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where A and B are entries.", show_default=False),
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names that an edit may be about, one per line.",
            show_default="Atlas's world for its models, else the model's own text",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Ways to ask about {}, one per line.", show_default=False
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of answers, one per line.", show_default=False),
    ] = None,
    read: Annotated[
        bool, typer.Option("--read/--no-read", help="Find out what the change says.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Keep the difference of two models as a delta on the first.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Compare two checkpoints (what differs, and what it says), or two edits (where they overlap).

    Of two checkpoints: which tensors differ, in how many directions, and, from the key and the value
    of the change, the subject and the object of the edit that made it.
    """
    if ledger is not None or (_is_delta(a) and _is_delta(b)):
        _edits(a, b, ledger, as_json)
        return
    if _is_delta(a):
        raise InputError(
            f"{b} is no saved delta, and {a} is one. Compare two deltas, or give the model first and "
            "the delta second."
        )
    from ..audit import changed, meaning

    one = options.loaded(a, device, dtype, seed)
    candidates = _candidates(one, subjects, prompts, objects) if read else None
    with console.waiting("Comparing tensors"):
        change = changed(one, _other(one, b, device, dtype, seed))
    said = None
    if read and 0 < len(change.tensors) <= 16 and change.unchanged:
        with console.waiting("Reading the change"):
            said = meaning(one, change, candidates, seed=seed)
    if out is not None and change.tensors:
        change.delta(one).save(out)
    if as_json:
        console.emit(
            {
                "base": one.id,
                "edited": b,
                **change.to_dict(),
                "meaning": None if said is None else said.to_dict(),
                "out": str(out) if out else None,
            }
        )
        return
    _show_change(one, b, change, said)
    if out is not None and change.tensors:
        console.note(f"The difference is kept in {out}.")


def _is_delta(name: str) -> bool:
    return (Path(name) / "delta.json").exists()


def _other(model: TextModel, name: str, device: str | None, dtype: str | None, seed: int) -> Any:
    """The second checkpoint's tensors: of a model, or of the first with a delta on it."""
    if not _is_delta(name):
        return options.loaded(name, device, dtype, seed)
    from ..delta import Delta

    with Delta.load(name).applied(model):
        return {n: t.detach().clone() for n, t in model.module.state_dict().items()}


def _candidates(
    model: TextModel, subjects: Path | None, prompts: Path | None, objects: Path | None
) -> Any:
    from dataclasses import replace

    from ..audit.candidates import of_atlas, of_files

    given = of_files(subjects, prompts, objects)
    if not model.is_atlas:
        return given
    own = of_atlas()
    return replace(
        own,
        subjects=given.subjects or own.subjects,
        prompts=given.prompts or own.prompts,
        objects=given.objects or own.objects,
    )


def _show_change(model: TextModel, other: str, change: Changed, said: Meaning | None) -> None:
    out = console.out()
    rows = [
        (
            one.name,
            " x ".join(map(str, one.shape)),
            f"{one.norm:.4g}",
            f"{one.relative:.2%}",
            "" if one.rank is None else str(one.rank),
            "" if one.spectrum is None else f"{one.spectrum.effective_rank:.1f}",
            "" if one.spectrum is None else f"{one.spectrum.leading:.1%}",
        )
        for one in change.tensors[:32]
    ]
    title = (
        f"{model.id} and {other}: {len(change.tensors)} tensors differ, {change.unchanged} do not"
    )
    columns = ("tensor", "shape", "norm", "of its own", "rank", "effective rank", "in the first")
    out.print(console.table(title, columns, rows))
    if len(change.tensors) > len(rows):
        out.print(Text(f"and {len(change.tensors) - len(rows)} more", "dim"))
    for word, names in (
        ("only in the first", change.missing),
        ("only in the second", change.added),
    ):
        if names:
            out.print(Text(f"{word}: {', '.join(names[:8])}"))
    out.print(Text(f"Looks like: {change.looks_like}."))
    if said is None:
        return
    if said.subjects:
        likely = [(s.name[-60:], f"{s.activation:.1f}") for s in said.subjects[:5]]
        out.print(console.table("Likely subjects", ("subject", "x the median"), likely))
    if not said.readings:
        out.print(Text("No answer changes to the prompts that were tried: nothing is read."))
        return
    readings = [(r.prompt, r.before, r.after, f"{r.alignment:.2f}") for r in said.readings[:5]]
    out.print(console.table("What it says", ("prompt", "before", "after", "alignment"), readings))
    out.print(Text(f"Read as: {said.subject}: {said.object}"))


def _edits(a: str, b: str, ledger: Path | None, as_json: bool) -> None:
    from ..compare import difference
    from ..delta import Delta

    if ledger is not None:
        from ..ledger import Ledger

        found = Ledger.open(ledger, create=False).diff(a, b)
    else:
        found = difference(Delta.load(a), Delta.load(b))
    if as_json:
        console.emit({**found.to_dict(), "shared": list(found.shared)})
        return
    _show_edits(found)


def _show_edits(found: Difference) -> None:
    out = console.out()
    rows = [
        (
            name,
            f"{norm_a:.4g}" if norm_a else "",
            f"{norm_b:.4g}" if norm_b else "",
            f"{found.cosines[name]:+.4f}" if name in found.cosines else "",
        )
        for name, (norm_a, norm_b) in found.norms.items()
    ]
    title = f"{found.a[:12]} and {found.b[:12]}: cosine {found.cosine:+.4f}"
    out.print(console.table(title, ("parameter", "norm of A", "norm of B", "cosine"), rows))
    edits = [
        (side, e.get("prompt", "").replace("{}", e.get("subject", ""), 1), e.get("target", ""))
        for side, group in (("both", found.common), ("A", found.only_a), ("B", found.only_b))
        for e in group
    ]
    out.print(console.table("", ("in", "prompt", "target"), edits))
