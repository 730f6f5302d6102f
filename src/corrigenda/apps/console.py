"""How the command line speaks: data on stdout, everything else on stderr.

`guarded` wraps every verb: it adds `--json` and `--debug`, turns the package's errors into one
message and an exit code, and lets an interrupted verb end with 4.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import CorrigendaError

__all__ = [
    "MISSED",
    "counting",
    "emit",
    "err",
    "failed",
    "guarded",
    "note",
    "out",
    "shown",
    "size",
    "stages",
    "table",
    "waiting",
]

MISSED, BAD_INPUT, INTERRUPTED = 1, 2, 4

PIPED_WIDTH = 140
"""Columns of tables that go into a file or a pipe."""


def out() -> Console:
    """The console for results. Made anew, so that a redirected stdout is respected."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False)


def err() -> Console:
    """The console for progress, remarks and errors."""
    width = None if sys.stderr.isatty() else PIPED_WIDTH
    return Console(file=sys.stderr, width=width, highlight=False)


def note(text: str, style: str = "dim") -> None:
    """A remark on stderr."""
    err().print(Text(text, style=style), soft_wrap=True)


def emit(data: Any) -> None:
    """JSON on stdout. What JSON has no word for (NaN, infinity) becomes null."""
    sys.stdout.write(json.dumps(_plain(data), ensure_ascii=False, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def shown(value: str | None, style: str = "") -> Text:
    """Text for a table cell: never markup, and on one line."""
    return Text(" ".join((value or "").split()), style=style)


def size(n: float) -> str:
    """A number of bytes as people write it: 77 KB."""
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A plain table. Cells are text or rich renderables; strings are not read as markup."""
    made = Table(title=escape(title) or None, title_justify="left", header_style="bold", box=_box())
    for column in columns:
        made.add_column(escape(column), overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


# -- waiting ----------------------------------------------------------------------------------


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner while something of unknown length runs; nothing where nobody watches."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


@contextmanager
def counting(text: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr: yields a function of (done, total). Off where nobody watches."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = err()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    off = not console.is_terminal
    with Progress(*columns, console=console, disable=off, transient=True) as bar:
        task = bar.add_task(text, total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield advance


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one per stage: yields a function of (stage, done, total)."""
    from rich.progress import Progress

    console = err()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield advance


# -- errors and exit codes --------------------------------------------------------------------


def failed(message: str, code: int) -> typer.Exit:
    """Say what went wrong; raise the result."""
    err().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    return typer.Exit(code)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """The function as a verb. Its first argument, `as_json`, becomes the option --json."""
    signature = inspect.signature(function, eval_str=True)
    json_option = Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel="Output")
    ]
    debug_option = Annotated[
        bool,
        typer.Option("--debug", help="Show where an error came from.", rich_help_panel="Output"),
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p for p in signature.parameters.values() if p.name != "as_json"]
    extra = [
        inspect.Parameter("as_json", keyword, default=False, annotation=json_option),
        inspect.Parameter("debug", keyword, default=False, annotation=debug_option),
    ]
    parameters = [p.replace(kind=keyword) for p in own] + extra

    @functools.wraps(function)
    def verb(*, debug: bool = False, **arguments: Any) -> None:
        try:
            with _warnings_as_notes():
                function(**arguments)
        except CorrigendaError as error:
            _trace(debug)
            raise failed(str(error), error.exit_code) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            _trace(debug)
            raise failed(_os_error(error), BAD_INPUT) from None
        except KeyboardInterrupt:
            raise failed("interrupted.", INTERRUPTED) from None

    verb.__doc__ = _unwrapped(function.__doc__ or "")
    verb.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return verb


def _unwrapped(text: str) -> str:
    """A docstring with its paragraphs on one line each, for the help to wrap."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """What the package warns about goes to stderr as a sentence, each only once."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        # Torch warns its programmers, as UserWarning too; that is nothing for a user.
        ours = issubclass(category, UserWarning) and "Triggered internally" not in text
        if ours and text not in said:
            said.add(text)
            note(f"warning: {text}", "yellow")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
