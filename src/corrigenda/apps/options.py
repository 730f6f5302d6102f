"""Arguments and options that several verbs share, and what they are turned into."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..edit import Rewrite, read_edits
from ..errors import InputError
from .console import counting, waiting

if TYPE_CHECKING:
    from ..edit import Case
    from ..editor import Editor
    from ..models import TextModel

__all__ = [
    "Corpus",
    "DType",
    "DataDir",
    "Deltas",
    "Device",
    "EditorName",
    "Host",
    "Layers",
    "ModelName",
    "Port",
    "Prompt",
    "Seed",
    "Settings",
    "Subject",
    "Token",
    "editor_from",
    "known",
    "loaded",
    "numbers",
    "pool",
    "prepare",
    "edits_from",
]

ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="atlas, a hub id, or a directory.", show_default=False),
]
EditorName = Annotated[
    str, typer.Option("--editor", "-e", help="The method; `corrigenda editors` lists them.")
]
Prompt = Annotated[
    str | None, typer.Option(help="Text with {} where the subject stands.", show_default=False)
]
Subject = Annotated[str | None, typer.Option(help="What the fact is about.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter of the editor, such as clamp=3. Repeatable; "
        "`corrigenda editors NAME` lists them.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(metavar="4,5,6", help="Blocks to change; 4-8 is a range.", show_default=False),
]
Corpus = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|auto|samples|identity",
        help="Text for second moments: your own file, samples of the model, or none (identity).",
        show_default=False,
    ),
]
Deltas = Annotated[
    list[Path] | None,
    typer.Option(
        "--delta", "-d", metavar="DIR", help="A saved delta. Repeatable.", show_default=False
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="CORRIGENDA_TOKEN",
        help="What clients must send as Bearer token.",
        show_default="none on loopback, else a new one",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where data sets are.", show_default="CORRIGENDA_DATA, or ./data"
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn at random.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="cuda if there is one")
]
DType = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16 or float16.", show_default="the checkpoint's own"),
]


def loaded(model: str, device: str | None, dtype: str | None, seed: int = 0) -> TextModel:
    """Load a model, with a spinner, and seed torch."""
    with waiting(f"Loading {model}"):
        import torch
        from transformers.utils import logging

        from ..models import load

        torch.manual_seed(seed)
        if not sys.stderr.isatty():
            logging.disable_progress_bar()
        return load(model, device=device, dtype=dtype)


def edits_from(
    kind: type,
    prompt: str | None,
    subject: str | None,
    target: str | None,
    after: str | None,
    edits: str | None,
) -> list[Any]:
    """The edits asked for: one from the options, or many from JSON lines ("-" is stdin).

    kind  of edit that the editor takes.

    Raises `InputError` when there are none, both, or a malformed one.
    """
    single = {"prompt": prompt, "subject": subject, "target": target, "after": after}
    given = {name: value for name, value in single.items() if value is not None}
    if "after" in given:
        given.setdefault("prompt", "")
    if edits is None and kind is not Rewrite:
        from ..editor import EXAMPLES

        raise InputError(
            f"This editor takes {kind.__name__} edits: give them as JSON lines with --edits FILE, "
            f"with the fields of {EXAMPLES[kind]}."
        )
    if edits is None:
        if not given:
            raise InputError(
                "Say what to change: --prompt, --subject and --target, or --edits FILE. "
                'Example: --prompt "{} is located in" --subject "Eiffel Tower" --target Rome'
            )
        return [Rewrite.from_dict(given)]
    if given:
        raise InputError(
            f"--edits was given together with {', '.join(f'--{n}' for n in given)}. "
            "Give one edit by options, or all of them in the file."
        )
    if edits != "-" and not Path(edits).is_file():
        raise InputError(f"There is no file {edits}. Give a file of JSON lines, or - for stdin.")
    try:
        found = list(read_edits(sys.stdin if edits == "-" else Path(edits), kind))
    except UnicodeDecodeError:
        raise InputError(f"{edits} is not UTF-8 text. Give a file of JSON lines.") from None
    if not found:
        raise InputError(
            f"{'stdin' if edits == '-' else edits} holds no edit. Give one JSON object per line: "
            '{"prompt": "{} is in", "subject": "Eiffel Tower", "target": "Rome"}'
        )
    return found


def editor_from(
    name: str,
    settings: Iterable[str] | None = None,
    *,
    layers: str | None = None,
    corpus: str | None = None,
    seed: int | None = None,
) -> Editor:
    """An editor with the hyperparameters of the command line.

    Raises `UnknownNameError` for an unknown editor or hyperparameter, `InputError` for a value
    of the wrong type.
    """
    from ..editors import editor_class
    from ..editors._settings import configured

    cls = editor_class(name)
    known = {field.name for field in fields(cls)}
    asked: dict[str, str] = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, not {setting!r}. Example: --set clamp=3")
        asked[key.strip()] = value.strip()
    for key, option, value in (("layers", "--layers", layers), ("statistics", "--corpus", corpus)):
        if value is None:
            continue
        if key not in known:
            raise InputError(f"{cls.title} has no {key}, so it does not take {option}.")
        asked[key] = value
    if seed is not None and "seed" in known:
        asked.setdefault("seed", str(seed))
    return configured(cls, asked)


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them. Raises `InputError` naming the option."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} takes numbers such as 10,100,500, not {text!r}.") from None


def prepare(model: TextModel, editor: Editor) -> None:
    """Collect the second moments that the editor will ask for, with a progress bar."""
    from ..editors._precompute import needs_moments, precompute

    if needs_moments(model, editor):
        with counting("Second moments", "tokens") as advance:
            precompute(model, editor, advance)


def deltas_at(paths: Sequence[Path]) -> list[Any]:
    """Read saved deltas."""
    from ..delta import Delta

    return [Delta.load(path) for path in paths]


def pool(data: str, limit: int | None, known_only: bool) -> int | None:
    """How many cases to read, None for all, so that `limit` are left.

    Those that the model does not know go, so more are read: all of a file, and twice as many of a
    world, which makes them as asked.
    """
    from ..benchmarks import MADE, canonical

    if not known_only or limit is None:
        return limit
    return 2 * limit if canonical(data) in MADE else None


def known(
    model: TextModel, cases: Sequence[Case], data: str, limit: int | None, max_new_tokens: int
) -> tuple[list[Case], str]:
    """The cases whose true answer the unedited model gives, at most `limit`, and a remark on them.

    Raises `InputError` where it gives none.
    """
    from ..evaluate import known_only

    with waiting("Asking the unedited model"):
        kept = known_only(model, cases, limit=limit, max_new_tokens=max_new_tokens)
    if not kept:
        raise InputError(
            f"{model.id} knows the true answer of none of the {len(cases)} cases of {data}. "
            "Take other data, or drop --known-only."
        )
    return kept, f"Known only: {len(kept)} cases of {data} whose true answer {model.id} gives."
