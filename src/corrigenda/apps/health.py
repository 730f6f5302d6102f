"""`corrigenda health`: is a model still well under its edits?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..harness import Downstream
    from ..health import Health
    from ..metrics.statistics import Interval

__all__ = ["health"]


def health(
    model: options.ModelName,
    delta: options.Deltas = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Documents, apart by blank lines.",
            show_default="a built-in text that fits the model",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="boolq,hellaswag",
            help="Tasks of lm-evaluation-harness, run without and with the edits.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Documents per task.", show_default="all")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, help="Examples before a question.", show_default="the task's own"),
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(
            metavar="NATS",
            help="Exit with 1 if the edits cost more nats per token.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Perplexity on a fixed text without and with edits, and tasks of lm-evaluation-harness.

    Differences carry their paired 95 % interval: the edits did harm where it excludes 0.
    """
    from ..health import health as measure
    from ..health import worse

    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    changes = options.deltas_at(delta or [])
    if not changes and (names or fail_over is not None):
        raise InputError(
            "There are no edits to compare the model with. Name them: --delta DIR, repeatable."
        )
    one = options.loaded(model, device, dtype, seed)
    before = measure(one, text)
    after, difference, rows = None, None, []
    if changes:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change.applied(one))
            after = measure(one, text)
        difference = worse(before, after, seed=seed)
    if names:
        from ..harness import downstream

        rows = downstream(one, changes, names, limit=limit, shots=shots, seed=seed)
    if as_json:
        console.emit(
            {
                "model": one.id,
                "deltas": [change.id for change in changes],
                "text": before.text,
                "before": _plain(before),
                "after": _plain(after) if after else None,
                "difference": difference._asdict() if difference else None,
                "tasks": [asdict(row) | {"difference": row.difference._asdict()} for row in rows],
            }
        )
    else:
        _show(before, after, difference, rows)
    if fail_over is not None and difference is not None and difference.value > fail_over:
        raise console.failed(
            f"The edits cost {difference.value:.3f} nats per token, more than {fail_over:g}.",
            console.MISSED,
        )


def _plain(one: Health) -> dict[str, Any]:
    return {"nll": one.nll, "ppl": one.ppl, "tokens": one.tokens}


def _show(
    before: Health, after: Health | None, difference: Interval | None, rows: list[Downstream]
) -> None:
    lines = [
        ("nats per token", f"{before.nll:.3f}", f"{after.nll:.3f}" if after else "", difference),
        ("perplexity", f"{before.ppl:.2f}", f"{after.ppl:.2f}" if after else "", None),
        *(
            (f"{row.task}, {row.metric}", f"{row.before:.3f}", f"{row.after:.3f}", row.difference)
            for row in rows
        ),
    ]
    cells = [(name, was, now, _interval(moved)) for name, was, now, moved in lines]
    columns = ("", "before", "after", "difference [95 %]")
    title = f"{before.tokens} tokens of {before.text}"
    console.out().print(console.table(title, columns, cells))


def _interval(moved: Interval | None) -> str:
    return "" if moved is None else f"{moved.value:+.3f} [{moved.low:+.3f}, {moved.high:+.3f}]"
