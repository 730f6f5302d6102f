"""`corrigenda fit`: train the network that a meta-learned editor edits with, once per model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..edit import Case
    from ..models import TextModel

__all__ = ["fit"]


def fit(
    model: options.ModelName,
    editor: options.EditorName = "mend",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where the trained state goes.",
            show_default="a place in the cache, where the editor finds it",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Edits to train on, best with paraphrases and locality probes: a data set, or a "
            "file of JSON lines.",
            show_default="for atlas models, facts that evaluations leave alone",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="At most so many edits.", show_default="all")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", show_default="by editor")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in --out, if there is one.")
    ] = True,
    settings: options.Settings = None,
    layers: options.Layers = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Train what an editor has to learn before it can edit a model.

    An interrupted run is continued by the same command. The editor finds what is in the cache by
    the weights of the model, and takes a directory as --set trained=DIR.
    """
    method = options.editor_from(editor, settings, layers=layers, seed=seed)
    train: Any = getattr(method, "fit", None)
    if train is None:
        raise InputError(
            f"{method.title} has nothing to train; use it as it is: corrigenda edit {model} "
            f"--editor {editor} ... `corrigenda editors` says which methods need training."
        )
    one = options.loaded(model, device, dtype, seed)
    cases = _cases(one, data, limit, seed)
    console.note(f"{method.title} on {one.id}: training on {len(cases)} edits")
    try:
        with console.counting("Fitting", "steps") as advance:
            fitted = train(
                one,
                cases,
                out=out,
                steps=steps,
                resume=resume,
                seed=seed,
                progress=lambda done, total, _losses: advance(done, total),
            )
    except KeyboardInterrupt:
        raise console.failed(
            "interrupted; what was trained until the last checkpoint is kept. The same command "
            "goes on from there.",
            console.INTERRUPTED,
        ) from None
    result = {"editor": editor, "model": one.id, "edits": len(cases), "trained": fitted.trained}
    if as_json:
        console.emit(result)
        return
    again = f"corrigenda edit {model} --editor {editor}"
    if str(train.__self__.folder(one)) != fitted.trained:
        again += f" --set trained={fitted.trained}"
    console.out().print(Text(f"Trained: {fitted.trained}. Use it: {again} ..."), soft_wrap=True)


def _cases(model: TextModel, data: str | None, limit: int | None, seed: int) -> list[Case]:
    if data is not None:
        from ..benchmarks import load_cases

        return load_cases(data, limit=limit, seed=seed)
    if not model.is_atlas:
        raise InputError(
            f"Say what to train on: --data NAME or --data FILE. Only atlas models bring their own "
            f"facts; {model.id} does not."
        )
    from ..atlas.lessons import lessons
    from ..atlas.worlds import world_of

    return lessons(limit, seed, world_of(model.id))
