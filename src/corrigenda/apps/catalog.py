"""`corrigenda editors | models`: what there is, and what each needs."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import CorrigendaError, ModelError
from . import console, options

if TYPE_CHECKING:
    from ..editor import Editor
    from ..models.text import TextModel

__all__ = ["editors", "models"]


def editors(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One editor, with its hyperparameters.")
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a page for every method here, and the table into README.md if it has one.",
        ),
    ] = None,
    as_json: bool = False,
) -> None:
    """List the methods, or the hyperparameters of one."""
    from ..editors import TABLE, editor_class
    from . import pages as documents

    if name is not None:
        _one_editor(editor_class(name), as_json)
        return
    classes = [editor_class(key) for key in TABLE]
    if pages is not None:
        written = documents.write(pages, classes)
        readme = Path("README.md")
        if readme.is_file() and documents.BEGIN in (text := readme.read_text(encoding="utf-8")):
            new = documents.inserted(text, documents.index(classes))
            readme.write_text(new, encoding="utf-8")
            written.append(readme)
        if as_json:
            console.emit({"written": [str(path) for path in written]})
        else:
            console.out().print(Text(f"{len(written)} pages in {pages}"))
        return
    rows = [documents.description(cls) for cls in classes]
    if as_json:
        console.emit(rows)
        return
    columns = (
        "name",
        "what it does",
        "needs",
        "models",
        "edits per call",
        "made for sequences",
        "paper",
    )
    out = console.out()
    for family in documents.FAMILIES:
        cells = [
            (
                row["name"],
                row["summary"],
                ", ".join(row["needs"]),
                "all"
                if len(row["kinds"]) == len(documents.KINDS)
                else ", ".join(documents.KINDS[k] for k in row["kinds"]),
                "many" if row["batches"] else "one",
                "yes" if row["streams"] else "",
                row["paper"],
            )
            for row in rows
            if row["family"] == family
        ]
        out.print(console.table(family.capitalize(), columns, cells))


def _one_editor(cls: type[Editor], as_json: bool) -> None:
    from . import pages as documents

    settings = documents.settings(cls)
    if as_json:
        about = documents.description(cls)
        console.emit({**about, "about": cls.__doc__, "hyperparameters": settings})
        return
    out = console.out()
    out.print(Text(f"{cls.title}: {cls.paper}", "bold"))
    out.print(Text(_documentation(cls)))
    cells = [
        (
            row["name"],
            "preset"
            if row["default"] is None and row["paper"] is None
            else documents.shown(row["default"] if row["default"] is not None else row["paper"]),
            row["meaning"],
        )
        for row in settings
    ]
    out.print(console.table("", ("--set", "default", "meaning"), cells))


def _documentation(cls: type[Editor]) -> str:
    """What the method is: its module's docstring."""
    return inspect.getdoc(sys.modules[cls.__module__]) or ""


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Load this one and check its layout on numbers."),
    ] = None,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """List the architectures that can be edited, or check a model."""
    if name is not None:
        _one_model(name, device, dtype, as_json)
        return
    from ..editors.presets import PRESETS
    from ..models import LAYOUTS

    rows = []
    for kind, row in LAYOUTS.items():
        depths = sorted(depth for model_type, depth in PRESETS if model_type == kind)
        rows.append(
            {
                "model_type": kind,
                "kind": row.kind,
                "down": row.down,
                "parallel": row.parallel,
                "gated": row.gated,
                "post_norm": row.post_norm,
                "presets_for_depths": depths,
            }
        )
    if as_json:
        console.emit({"atlas": _atlas_path(), "architectures": rows})
        return
    cells = [
        (
            row["model_type"],
            row["kind"],
            row["down"],
            "yes" if row["gated"] else "",
            "yes" if row["parallel"] else "",
            row["post_norm"] or "",
            ", ".join(map(str, row["presets_for_depths"])),
        )
        for row in rows
    ]
    columns = (
        "model_type",
        "kind",
        "down-projection in a block",
        "gated",
        "attention and MLP in parallel",
        "norm after the MLP",
        "presets for models of so many layers",
    )
    out = console.out()
    out.print(console.table("Architectures", columns, cells))
    out.print(Text(f"atlas, the embedded model: {_atlas_path() or 'not in this installation'}"))
    out.print(
        Text(
            "Any Hugging Face language model of these types can be edited, by its hub id or "
            "the path of its directory. Which method supports which kind: corrigenda editors."
        )
    )


def _atlas_path() -> str | None:
    from .. import atlas

    try:
        return str(atlas.weights_path())
    except CorrigendaError:
        return None


def _one_model(name: str, device: str | None, dtype: str | None, as_json: bool) -> None:
    from ..models.verify import verify

    one = options.loaded(name, device, dtype)
    with console.waiting("Checking the layout"):
        checks = verify(one.module, one.layout, one.tokenizer)
    if as_json:
        console.emit(
            {
                "model": one.id,
                "model_type": one.layout.model_type,
                "kind": one.kind,
                "layers": one.n_layers,
                "width": one.width,
                "dtype": str(one.dtype).removeprefix("torch."),
                "device": str(one.device),
                "weights": one.weights_hash(),
                "tokenizer": one.tokenizer_hash,
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks
                ],
            }
        )
    else:
        out = console.out()
        out.print(
            Text(
                f"{one.id}: {one.layout.model_type}, {one.kind}, {_layers(one)}, width {one.width}, "
                f"{str(one.dtype).removeprefix('torch.')} on {one.device}"
            )
        )
        rows = [
            (c.name, Text("ok", "green") if c.passed else Text("failed", "red"), c.detail)
            for c in checks
        ]
        out.print(console.table("", ("check", "", "detail"), rows))
    if any(not c.passed for c in checks):
        raise ModelError(
            f"The layout of {one.layout.model_type} does not describe {one.id}, so edits would go "
            "wrong. corrigenda.models.discover.propose(module) suggests another one."
        )


def _layers(one: TextModel) -> str:
    read = len(one.prompt_layers)
    if read == one.n_layers:
        return f"{read} layers"
    return f"{read} layers in the encoder and {one.n_layers - read} in the decoder"
