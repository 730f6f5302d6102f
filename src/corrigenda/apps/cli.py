"""The command line. Each verb is a function in its own file here; this one is the table of them.

stdout is data, stderr is progress and remarks. Exit codes: 0 ok; 1 a threshold was missed or an
edit did not take; 2 bad input; 3 a resource is missing and there is no network; 4 interrupted,
can be resumed. Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from . import (
    atlas,
    audit,
    catalog,
    compare,
    data,
    demo,
    diff,
    edit,
    evaluate,
    fit,
    health,
    ledger,
    lifelong,
    report,
    serve,
    sweep,
    trace,
)
from .console import guarded

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 ok · 1 a threshold was missed, or an edit did not take · 2 bad input · "
    "3 missing while offline · 4 interrupted, can be resumed"
)

app = typer.Typer(
    name="corrigenda",
    help="Edit what a language model knows, see what else changed, take any edit back.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
atlas_app = typer.Typer(
    name="atlas", help="The embedded model: train it, or read its card.", no_args_is_help=True
)

EDIT, LEDGER, SHELF = "Edit", "Ledger", "What there is"

# name, function, panel, example
VERBS: tuple[tuple[str, Callable[..., None], str, str], ...] = (
    ("demo", demo.demo, EDIT, "corrigenda demo"),
    (
        "edit",
        edit.edit,
        EDIT,
        'corrigenda edit atlas --prompt "{} is located in the city of" --subject "Eiffel Tower" '
        "--target Rome -o eiffel-in-rome",
    ),
    (
        "ask",
        edit.ask,
        EDIT,
        'corrigenda ask atlas "The Eiffel Tower is located in the country of" -d eiffel-in-rome',
    ),
    (
        "eval",
        evaluate.evaluate,
        EDIT,
        "corrigenda eval atlas --editor memit --limit 100 -o report.html --resume run.jsonl",
    ),
    (
        "compare",
        compare.compare,
        EDIT,
        "corrigenda compare atlas --editors rome,memit,ft-m,ike --limit 100 -o comparison",
    ),
    ("health", health.health, EDIT, "corrigenda health atlas -d eiffel-in-rome"),
    (
        "lifelong",
        lifelong.lifelong,
        EDIT,
        "corrigenda lifelong atlas --editors alphaedit,encore --edits 1000 --orders 0,1,2 "
        "-o lifelong",
    ),
    ("sweep", sweep.sweep, EDIT, "corrigenda sweep grid.toml -o results --resume --runner ray"),
    (
        "query",
        sweep.query,
        EDIT,
        'corrigenda query results "select method, avg(passed) from probes group by all"',
    ),
    ("report", report.report, EDIT, "corrigenda report results -o report.html"),
    (
        "trace",
        trace.trace,
        EDIT,
        'corrigenda trace atlas --prompt "{} is located in the city of" --subject "Eiffel Tower"',
    ),
    (
        "fit",
        fit.fit,
        EDIT,
        "corrigenda fit gpt2 --editor mend --data edits.jsonl -o mend-for-gpt2",
    ),
    ("audit", audit.audit, EDIT, "corrigenda audit atlas --delta eiffel-in-rome -o audit.md"),
    ("serve", serve.serve, EDIT, "corrigenda serve atlas --ledger edits --open"),
    ("log", ledger.log, LEDGER, "corrigenda log edits"),
    ("show", ledger.show, LEDGER, "corrigenda show edits 2"),
    ("undo", ledger.undo, LEDGER, 'corrigenda undo edits 2 --note "the source was wrong"'),
    ("verify", ledger.verify, LEDGER, "corrigenda verify merged-model --ledger edits"),
    ("diff", diff.diff, LEDGER, "corrigenda diff gpt2 merged-model"),
    ("merge", ledger.merge, LEDGER, "corrigenda merge edits -o all-edits"),
    (
        "export",
        ledger.export,
        LEDGER,
        "corrigenda export edits --format merged --model gpt2 -o merged-model",
    ),
    ("editors", catalog.editors, SHELF, "corrigenda editors rome"),
    ("models", catalog.models, SHELF, "corrigenda models gpt2"),
    ("data", data.data, SHELF, "corrigenda data counterfact"),
)
ATLAS_VERBS: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("train", atlas.train, "corrigenda atlas train --size small -o my-atlas"),
    ("card", atlas.card, "corrigenda atlas card"),
)

for _name, _function, _panel, _example in VERBS:
    app.command(_name, rich_help_panel=_panel, epilog=f"Example: {_example}")(guarded(_function))
for _name, _function, _example in ATLAS_VERBS:
    atlas_app.command(_name, epilog=f"Example: {_example}")(guarded(_function))
app.add_typer(atlas_app, rich_help_panel=SHELF)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"corrigenda {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the `corrigenda` command."""
    app()


if __name__ == "__main__":
    main()
