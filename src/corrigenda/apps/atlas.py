"""`corrigenda atlas train | card`: the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markdown import Markdown
from rich.text import Text

from .. import atlas
from ..atlas.worlds import world_named
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
        Literal["atlas", "census", "lingual"],
        typer.Option(
            help="What is learned: real facts, those of 3,000 invented people, or the real ones in "
            "four languages."
        ),
    ] = "atlas",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", show_default="by size")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in --out, if there is one.")
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that make batches ahead of time; the model is the same.",
            show_default="beside a GPU, half of the cores, at most 8",
        ),
    ] = None,
    seed: options.Seed = 0,
    as_json: bool = False,
) -> None:
    """Train a model on the world of Atlas or another one, reproducibly from a seed.

    An interrupted run is continued by the same command.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give a directory for the model.")
    if world == "lingual" and architecture != "gpt2":
        raise InputError(
            f"The world lingual is learned by a gpt2; there is no recipe for a {architecture}."
        )
    try:
        atlas.train(
            out,
            size=size,
            architecture=architecture,
            world=world_named(world),
            seed=seed,
            steps=steps,
            resume=resume,
            workers=workers,
        )
    except KeyboardInterrupt:
        raise console.failed(
            f"interrupted; {out} holds a checkpoint if one was due. The same command goes on from "
            "there.",
            console.INTERRUPTED,
        ) from None
    except ValueError as error:  # a checkpoint of another seed or world
        raise InputError(str(error)) from None
    if as_json:
        row = {"out": str(out), "world": world, "architecture": architecture, "size": size}
        console.emit({**row, "seed": seed})
        return
    prompt = atlas.edits(1, world=world_named(world))[0].edit.text
    console.out().print(Text(f'Trained: {out}. Try: corrigenda ask {out} "{prompt}"'))


def card(
    name: Annotated[
        Literal["atlas", "atlas-llama", "atlas-t5", "atlas-bert", "atlas-census", "atlas-lingual"],
        typer.Argument(
            metavar="[MODEL]", help="atlas, or atlas- and llama, t5, bert, census or lingual."
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
