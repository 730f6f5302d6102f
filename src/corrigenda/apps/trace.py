"""`corrigenda trace`: where a model holds a fact, and at which layers an editor does best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from ..errors import EditError, InputError
from . import console, options

if TYPE_CHECKING:
    from ..edit import Case
    from ..locate import Average, Candidate, Trace
    from ..models import TextModel

__all__ = ["trace"]

PLOTS = (".png", ".svg", ".pdf")


def trace(
    model: options.ModelName,
    prompt: options.Prompt = None,
    subject: options.Subject = None,
    answer: Annotated[
        str | None,
        typer.Option(help="What the model must answer.", show_default="what the model says"),
    ] = None,
    kind: Annotated[
        Literal["block", "mlp", "attention"], typer.Option(help="Which states are restored.")
    ] = "block",
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Layers restored together.",
            show_default="1 for blocks, else a fifth of the depth",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws of the noise.")] = 10,
    noise: Annotated[
        float, typer.Option(help="Its size, in standard deviations of subject embeddings.")
    ] = 3.0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Rank the layers by how an editor does at each.")
    ] = False,
    editor: options.EditorName = "rome",
    settings: options.Settings = None,
    corpus: options.Corpus = None,
    data: Annotated[
        str, typer.Option(help="Facts for --layers, and for a trace without --prompt.")
    ] = "atlas",
    limit: Annotated[int, typer.Option(min=1, help="At most so many of these facts.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 8,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the result.", show_default=False),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Trace which hidden states carry an answer, or rank layers by trying edits.

    A trace disturbs the subject and restores one state at a time. Without --prompt it is averaged
    over facts that the model knows. With --layers an editor runs at every layer on such facts.

    A trace explains where an answer is; it does not say where to edit (Hase et al. 2023). Choose
    layers with --layers, on other facts (--seed) than those that you report on.
    """
    if plot is not None:
        _drawable(plot)
    single = {"--prompt": prompt, "--subject": subject, "--answer": answer}
    given = [name for name, value in single.items() if value is not None]
    if layers and given:
        raise InputError(f"--layers tries edits of --data and takes no {', '.join(given)}.")
    if not layers and given and (prompt is None or subject is None):
        raise InputError(
            "A trace of one fact needs --prompt and --subject. "
            'Example: --prompt "{} is located in" --subject "Eiffel Tower"'
        )
    method = options.editor_from(editor, settings, corpus=corpus, seed=seed) if layers else None
    one = options.loaded(model, device, dtype, seed)
    how = {"kind": kind, "window": window, "samples": samples, "noise": noise, "seed": seed}
    found: Any
    if method is not None:
        found = _chosen(one, method, _known(one, data, limit, seed, max_new_tokens), max_new_tokens)
        result = {
            "model": one.id,
            "editor": method.name,
            "data": data,
            "seed": seed,
            "candidates": [candidate.to_dict() for candidate in found],
        }
    elif prompt is not None and subject is not None:
        from ..locate import trace as traced

        with console.counting("Restoring", "states") as advance:
            found = traced(one, prompt, subject, answer, progress=advance, **how)
        result = found.to_dict()
    else:
        found = _averaged(one, _known(one, data, limit, seed, max_new_tokens), how)
        result = {"model": one.id, "data": data, **found.to_dict()}
    if as_json:
        console.emit(result)
    elif method is not None:
        _show_ranking(found, method.title)
    else:
        _show_effects(found)
    if plot is not None:
        _draw_ranking(found, plot) if method is not None else _draw_effects(found, plot)
        console.note(f"wrote {plot}")


# -- what is asked ----------------------------------------------------------------------------


def _known(model: TextModel, data: str, limit: int, seed: int, max_new_tokens: int) -> list[Case]:
    """Facts of a data set that the model knows.

    Raises `InputError` if it knows none of them.
    """
    from ..benchmarks import load_cases
    from ..evaluate import known_only

    cases = load_cases(data, limit=2 * limit, seed=seed)
    with console.waiting("Asking the unedited model"):
        kept = known_only(model, cases, limit=limit, max_new_tokens=max_new_tokens)
    if not kept:
        raise InputError(
            f"{model.id} gives the true answer of none of {len(cases)} facts of {data}. "
            "Take other facts with --data, or trace one with --prompt and --subject."
        )
    return kept


def _averaged(model: TextModel, cases: Sequence[Case], how: dict[str, Any]) -> Average:
    """The mean trace of the facts, with one level of noise for all."""
    from ..locate import average, noise_level
    from ..locate import trace as traced

    level = how["noise"] * noise_level(model, [case.rewrite.subject for case in cases])
    found, dropped = [], 0
    with console.counting("Tracing", "facts") as advance:
        for done, case in enumerate(cases):
            advance(done, len(cases))
            fact = case.rewrite
            try:
                found.append(
                    traced(model, fact.prompt, fact.subject, fact.target_true, level=level, **how)
                )
            except EditError:
                dropped += 1  # its true answer is not the very next token
    if dropped:
        console.note(f"{dropped} of {len(cases)} facts are not answered at once and are left out.")
    return average(found)


def _chosen(
    model: TextModel, editor: Any, cases: Sequence[Case], max_new_tokens: int
) -> tuple[Candidate, ...]:
    from dataclasses import replace

    from ..evaluate import evaluate
    from ..locate import choose
    from ..locate.choose import windows

    tried = windows(model, editor)
    # The statistics of all layers take one pass over the text together.
    options.prepare(model, replace(editor, layers=tuple(range(model.n_layers))))
    console.note(f"{editor.title} on {model.id}: {len(cases)} facts at {len(tried)} candidates")
    with console.counting("Editing", "candidates") as advance:
        return choose(
            model,
            editor,
            cases,
            evaluate,
            candidates=tried,
            progress=advance,
            max_new_tokens=max_new_tokens,
        )


# -- what is shown ----------------------------------------------------------------------------


def _rows(found: Trace | Average) -> tuple[list[str], str]:
    """Names of the rows, and a line about the whole."""
    several = "" if found.window == 1 else f" in {found.window} neighbouring layers"
    about = (
        f"p = {found.clean:.3f}, with a disturbed subject {found.corrupted:.3f}; "
        f"restoring the {found.kind} output{several} adds"
    )
    from ..locate import Average

    if isinstance(found, Average):
        rows = zip(found.roles, found.counts, strict=True)
        return [f"{role} ({n})" for role, n in rows], f"Mean of {found.facts} facts: {about}"
    first, last = found.subject
    names = [
        (token.strip() or repr(token)) + (" *" if first <= t <= last else "")
        for t, token in enumerate(found.tokens)
    ]
    return names, f"{found.answer!r}: {about}"


def _show_effects(found: Trace | Average) -> None:
    names, about = _rows(found)
    top = max(float(found.effect.max()), 1e-9)
    cells = [
        (name, *(_heat(value, top) for value in row))
        for name, row in zip(names, found.effect.tolist(), strict=True)
    ]
    columns = ("x 100, by layer", *map(str, found.layers))
    out = console.out()
    out.print(Text(about))
    out.print(console.table("", columns, cells))
    out.print(Text("This does not say where to edit; --layers tries that.", "dim"))


def _heat(value: float, top: float) -> Text:
    """A number on a ground that is the darker the larger it is."""
    share = min(max(value / top, 0.0), 1.0)
    text = f"{100 * value:5.1f}".replace("-0.0", " 0.0")
    if share < 0.05:
        return Text(text, "dim")
    ground = "#" + "".join(f"{round(255 + share * (c - 255)):02x}" for c in (94, 60, 153))
    return Text(text, f"{'white' if share > 0.5 else 'black'} on {ground}")


def _show_ranking(found: Sequence[Candidate], title: str) -> None:
    from ..locate.choose import JUDGED
    from ..metrics.titles import HEADLINE, format_score

    names = [name for name in JUDGED if any(name in c.report.scores for c in found)]
    rows = [
        (
            _layers(candidate),
            f"{100 * candidate.score:.1f}",
            *(format_score(name, candidate.report.scores.get(name)) for name in names),
        )
        for candidate in found
    ]
    columns = ("layers", "score", *(HEADLINE[name] for name in names))
    out = console.out()
    facts = len(found[0].report.rows)
    out.print(console.table(f"{title}, {facts} facts, x 100 [95 % interval]", columns, rows))
    out.print(Text("score: harmonic mean of the columns beside it", "dim"))


def _layers(candidate: Candidate) -> str:
    return ", ".join(map(str, candidate.layers))


# -- what is drawn ----------------------------------------------------------------------------


def _drawable(path: Path) -> None:
    """Refuse before the work, not after it."""
    if path.suffix.lower() not in PLOTS:
        raise InputError(f"A plot is written as {', '.join(PLOTS)}, not {path.name!r}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no directory {path.parent} to write the plot into.")
    _figure(1, 1)


def _figure(width: float, height: float) -> Any:
    """An empty figure. Raises `InputError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "Plots need matplotlib, which is not installed: pip install 'corrigenda[plot]'. "
            "--json gives the numbers."
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _draw_effects(found: Trace | Average, path: Path) -> None:
    names, about = _rows(found)
    figure = _figure(2.5 + 0.3 * len(found.layers), 1.2 + 0.28 * len(names))
    axes = figure.subplots()
    top = max(float(found.effect.max()), 1e-9)
    image = axes.pcolormesh(found.effect.tolist(), cmap="Purples", vmin=0.0, vmax=top)
    axes.invert_yaxis()
    axes.set_yticks([t + 0.5 for t in range(len(names))], names)
    step = max(1, len(found.layers) // 12)
    axes.set_xticks([j + 0.5 for j in found.layers[::step]], found.layers[::step])
    axes.set_xlabel(f"layer ({found.kind})")
    axes.set_title(about.replace("; ", ";\n"), fontsize="small", loc="left", parse_math=False)
    figure.colorbar(image, ax=axes, label="added probability")
    figure.savefig(path, dpi=150)


def _draw_ranking(found: Sequence[Candidate], path: Path) -> None:
    from ..locate.choose import JUDGED
    from ..metrics.titles import HEADLINE

    figure = _figure(6.0, 3.5)
    axes = figure.subplots()
    ordered = sorted(found, key=lambda c: c.layers)
    labels = [_layers(c) for c in ordered]
    for name in JUDGED:
        scores = [c.report.scores.get(name) for c in ordered]
        points = [float("nan") if s is None else 100 * s.value for s in scores]
        axes.plot(labels, points, marker="o", label=HEADLINE[name])
    axes.plot(
        labels, [100 * c.score for c in ordered], color="black", linestyle="--", label="score"
    )
    axes.set_xlabel("layers")
    axes.set_ylim(-3, 103)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
