"""`corrigenda eval`: an editor on a data set, in the one evaluation loop."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ..errors import InputError, UnknownNameError
from . import console, options

if TYPE_CHECKING:
    from ..judge import Judge
    from ..report import Report

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="atlas, a hub id, or a directory; none with --remote.",
            show_default=False,
        ),
    ] = None,
    editor: Annotated[
        str | None,
        typer.Option(
            "--editor",
            "-e",
            help="The method; none measures the unedited model.",
            show_default="rome",
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help="A data set by name (`corrigenda data`), or a file of edits.")
    ] = "atlas",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many cases.", show_default="all")
    ] = None,
    mode: Annotated[
        Literal["single", "batch", "sequential"],
        typer.Option(help="Each edit alone, all at once, or one on top of the other."),
    ] = "single",
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Only facts that the unedited model knows.")
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            show_default=False,
            help="Write the report as .json, .md or .html. Repeatable.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Keep finished cases here, and go on from those that are there.",
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE=VALUE",
            show_default=False,
            help="Exit with 1 if a score is lower, such as efficacy=0.95. Repeatable.",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    step: Annotated[int, typer.Option(min=1, help="Edits per call in sequential mode.")] = 1,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="10,100,500",
            help="Edits after which a sequence is measured.",
            show_default="1, 2, 3, 6, 10, 18, ...",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Length of an answer.", show_default="16; 64 with --protocol wild"
        ),
    ] = None,
    protocol: Annotated[
        Literal["short", "wild"],
        typer.Option(help="Short answers, or long ones that a model judges (`corrigenda.wild`)."),
    ] = "short",
    form: Annotated[
        Literal["question", "instruction", "chat"],
        typer.Option(help="How --protocol wild puts its questions."),
    ] = "question",
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="An OpenAI-compatible endpoint; its key is read from CORRIGENDA_JUDGE_KEY.",
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="The model asked there.")
    ] = None,
    unjudged: Annotated[
        bool, typer.Option("--unjudged", help="With --protocol wild: by text alone, no judge.")
    ] = False,
    remote: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="In place of MODEL: an OpenAI-compatible endpoint that holds the edits. Free "
            "generation only.",
        ),
    ] = None,
    remote_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model asked there.", show_default="the only one it lists"
        ),
    ] = None,
    remote_before: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="The model there without the edits. Without one, locality is measured against "
            "the answers that the records name.",
        ),
    ] = None,
    remote_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VAR", show_default=False, help="The environment variable with the key."
        ),
    ] = None,
    remote_form: Annotated[
        Literal["auto", "completions", "chat"],
        typer.Option(help="How prompts are sent there; auto: completions where it has them."),
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts per forward pass.")] = 64,
    settings: options.Settings = None,
    layers: options.Layers = None,
    corpus: options.Corpus = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Measure an editor: efficacy, generalization, locality, portability, and cost.

    The headline scores are of free generation; teacher-forced ones, as in the papers, stand
    beside them. A run with --resume goes on where it was interrupted.
    """
    from ..benchmarks import load_cases
    from ..evaluate import evaluate as plain

    if remote is not None:
        _black_box(model, editor, mode, protocol, settings, layers, corpus)
        from .remote import evaluated

        wanted = _thresholds(fail_under or [])
        try:
            report = evaluated(
                remote,
                remote_model,
                remote_before,
                remote_key_env,
                remote_form,
                data=data,
                limit=limit,
                known=known_only,
                data_dir=data_dir,
                max_new_tokens=max_new_tokens or 16,
                resume=resume,
                seed=seed,
            )
        except KeyboardInterrupt:
            raise _interrupted(resume) from None
        _told(report, out or [], as_json, wanted)
        return
    if remote_model or remote_before or remote_key_env:
        raise InputError("--remote-model, --remote-before and --remote-key-env need --remote URL.")
    if model is None:
        raise InputError("Name the model to edit (corrigenda eval atlas), or give --remote URL.")
    editor = editor or "rome"
    measure: Callable[..., Report] = plain
    long = protocol == "wild"
    if long:
        from ..wild import wild

        measure = partial(wild, form=form, judge=_judge(judge, judge_model), unjudged=unjudged)
    elif judge or judge_model or unjudged:
        raise InputError("A judge belongs to --protocol wild. Add that, or drop the judge.")
    max_new_tokens = max_new_tokens or (64 if long else 16)
    wanted = _thresholds(fail_under or [])
    times = None if checkpoints is None else options.numbers("--checkpoints", checkpoints)
    method = (
        None
        if editor.lower() == "none"
        else options.editor_from(editor, settings, layers=layers, corpus=corpus, seed=seed)
    )
    wide = options.pool(data, limit, known_only)
    cases = load_cases(data, limit=wide, seed=seed, data_dir=data_dir)
    one = options.loaded(model, device, dtype, seed)
    remark = ""
    if known_only:
        cases, remark = options.known(one, cases, data, limit, max_new_tokens)
    if method is not None:
        options.prepare(one, method)
    title = method.title if method is not None else "No editor"
    console.note(f"{title} on {one.id}: {len(cases)} cases of {data}, {mode}")
    if remark:
        console.note(remark)
    try:
        with console.stages() as advance:
            report = measure(
                one,
                method,
                cases,
                mode=mode,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                checkpoints=times,
                step=step,
                progress=advance,
                resume=resume,
                seed=seed,
                command=shlex.join(["corrigenda", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        raise _interrupted(resume) from None
    if remark:
        report.environment["notes"] = [*report.environment["notes"], remark]
    _told(report, out or [], as_json, wanted)


def _black_box(
    model: str | None, editor: str | None, mode: str, protocol: str, *edited: object
) -> None:
    """Raises `InputError` for what cannot be asked of a model behind an address."""
    if model is not None:
        raise InputError(
            f"--remote takes the place of MODEL ({model}). Give one of them; the model asked at an "
            "endpoint is named with --remote-model."
        )
    if editor not in (None, "none") or any(edited) or mode != "single":
        raise InputError(
            "The edits of an endpoint are made there already, so --editor, --mode, --set, --layers "
            "and --corpus mean nothing with --remote. Drop them."
        )
    if protocol != "short":
        raise InputError("--protocol wild needs the model itself. Drop it, or drop --remote.")


def _interrupted(resume: Path | None) -> typer.Exit:
    how = (
        f"interrupted; {resume} holds the finished cases. The same command goes on from there."
        if resume
        else "interrupted; nothing was kept. With --resume FILE a run can be continued."
    )
    return console.failed(how, console.INTERRUPTED)


def _told(report: Report, out: list[Path], as_json: bool, wanted: dict[str, float]) -> None:
    """Write and show a report; exit with 1 where a threshold was missed."""
    for path in out:
        report.write(path)
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        _show(report, out)
    if missed := _missed(report, wanted):
        raise console.failed("; ".join(missed) + ".", console.MISSED)


def _judge(url: str | None, model: str | None) -> Judge | None:
    from ..judge import Judge

    if bool(url) != bool(model):
        raise InputError("A judge has an address and a model: give --judge URL and --judge-model.")
    return Judge(url, model) if url and model else None


def _show(report: Report, files: list[Path]) -> None:
    from ..report import COLUMNS, format_score

    rows = [
        (title, format_score(name, report.unedited.get(name)), format_score(name, score))
        for name, title in COLUMNS.items()
        if (score := report.scores.get(name)) is not None
    ]
    out = console.out()
    columns = ("x 100 [95 % interval]", "unedited", report.name)
    n = len(report.rows)
    out.print(console.table(f"{n} case{'s' if n != 1 else ''}", columns, rows))
    if executed := report.environment.get("executed"):
        columns = ("x 100 [95 % interval]", "unedited", report.name, "probes asked")
        out.print(console.table("By kind", columns, _kinds(report, executed)))
    if report.retention:
        points = [
            (str(point["edits"]), format_score("gen.retained", point["retained"]))
            for point in report.retention
        ]
        out.print(console.table("Retention", ("edits so far", "still answered"), points))
    remarks = list(report.environment.get("notes", []))
    if report.cost:
        remarks.insert(
            0,
            f"{report.failures.get('did_not_take', 0)} edits did not take, "
            f"{report.failures.get('raised', 0)} raised an error",
        )
    seconds = report.cost.get("seconds_per_edit")
    if seconds is not None:
        remarks.append(f"{seconds:.2f} s per edit")
    for remark in remarks:
        out.print(Text(remark.rstrip(".") + "."))
    for path in files:
        console.note(f"wrote {path}")


def _kinds(report: Report, executed: dict[str, dict[str, int]]) -> list[tuple[str, ...]]:
    """A row for every kind of probe: its score, and how many could be asked."""
    from ..report import format_score

    rows = []
    for kind, counts in executed.items():
        if score := report.scores.get(f"gen.{kind}"):
            before = format_score(f"gen.{kind}", report.unedited.get(f"gen.{kind}"))
            asked = f"{counts['executed']} of {counts['of']}"
            after = format_score(f"gen.{kind}", score)
            rows.append((kind.replace(":", " "), before, after, asked))
    order = ("efficacy", "generalization", "portability", "locality")
    return sorted(rows, key=lambda row: order.index(row[0].split()[0].removesuffix("_held_out")))


def _thresholds(asked: list[str]) -> dict[str, float]:
    """{score name: least value}; "efficacy" means gen.efficacy."""
    found = {}
    for text in asked:
        name, _, value = text.partition("=")
        try:
            found[name if "." in name else f"gen.{name}"] = float(value)
        except ValueError:
            raise InputError(
                f"--fail-under takes SCORE=VALUE, not {text!r}. Example: --fail-under efficacy=0.95"
            ) from None
    return found


def _missed(report: Report, wanted: dict[str, float]) -> list[str]:
    missed = []
    for name, least in wanted.items():
        if name not in report.scores:
            raise UnknownNameError("score in this report", name, report.scores)
        value = report.scores[name].value
        if not value >= least:
            missed.append(f"{name} is {value:.3f}, below {least:g}")
    return missed
