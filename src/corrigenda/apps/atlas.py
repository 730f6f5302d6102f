"""`corrigenda atlas train | card`: the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markdown import Markdown
from rich.text import Text

from .. import atlas
from ..errors import InputError
from . import console, options

__all__ = ["card", "train"]


def train(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where the model goes.", show_default=False
        ),
    ],
    size: Annotated[
        Literal["small", "base", "tiny"], typer.Option(help="tiny is for trying the command.")
    ] = "small",
    architecture: Annotated[
        Literal["gpt2", "llama", "t5", "bert"],
        typer.Option(help="gpt2 is atlas; the others are atlas-llama, atlas-t5 and atlas-bert."),
    ] = "gpt2",
    world: Annotated[
        Literal["atlas", "lingual"],
        typer.Option(help="lingual is the same in four languages: atlas-lingual, a gpt2."),
    ] = "atlas",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", show_default="by size")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in --out, if there is one.")
    ] = True,
    seed: options.Seed = 0,
    as_json: bool = False,
) -> None:
    """Train a model on the world of Atlas, reproducibly from a seed.

    An interrupted run is continued by the same command.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give a directory for the model.")
    recipe = architecture if world == "atlas" else f"{architecture}-{world}"
    if recipe not in atlas.SIZES or size not in atlas.SIZES[recipe]:
        raise InputError(
            f"There is no {size} {architecture} of the world {world}. There are: "
            + "; ".join(f"{name}: {', '.join(sizes)}" for name, sizes in atlas.SIZES.items())
            + "."
        )
    try:
        atlas.train(out, size=size, architecture=recipe, seed=seed, steps=steps, resume=resume)
    except KeyboardInterrupt:
        raise console.failed(
            f"interrupted; {out} holds a checkpoint if one was due. The same command goes on from "
            "there.",
            console.INTERRUPTED,
        ) from None
    except ValueError as error:  # a checkpoint of another seed
        raise InputError(str(error)) from None
    if as_json:
        found = {"out": str(out), "architecture": architecture, "world": world, "size": size}
        console.emit({**found, "seed": seed})
        return
    console.out().print(Text(f"Trained: {out}. Try: corrigenda ask {out} 'The Eiffel Tower is in'"))


def card(
    name: Annotated[
        Literal["atlas", "atlas-llama", "atlas-t5", "atlas-bert", "atlas-lingual"],
        typer.Argument(
            metavar="[MODEL]",
            help="atlas, atlas-llama, atlas-t5, atlas-bert or atlas-lingual.",
        ),
    ] = "atlas",
    as_json: bool = False,
) -> None:
    """Show what an embedded model knows, how well, and where its facts come from."""
    text = atlas.card(name)
    if as_json:
        console.emit({"card": text})
        return
    out = console.out()
    out.print(Markdown(text) if out.is_terminal else Text(text))
