"""`corrigenda demo`: move the Eiffel Tower to Rome in the embedded model, and move it back.

One edit of Atlas with ROME. What is shown is measured by the evaluation loop on the probes that
follow from the world itself; the weights are hashed before the edit and after the undo.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.panel import Panel
from rich.text import Text

from .. import atlas
from ..metrics.observation import Observation, scores_of
from ..metrics.text import answer_of
from . import console, options

if TYPE_CHECKING:
    from ..delta import Delta
    from ..edit import Case, Probe, Rewrite
    from ..editor import Editor
    from ..models import TextModel
    from ..report import Report

__all__ = ["demo"]

TOKENS = 30_000
"""Text for the second moments: thirty tokens for each entry of Atlas's keys, collected in seconds."""

AXES = ("efficacy", "generalization", "locality", "portability")


def demo(
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: bool = False,
) -> None:
    """Make the embedded model believe that the Eiffel Tower is in Rome, and undo it.

    Needs no network. Shows which answers moved, which did not, and that the weights are restored
    bit for bit.
    """
    from ..editors import make
    from ..evaluate import evaluate

    started = time.perf_counter()
    model = options.loaded("atlas", device, None, seed)
    case, method = atlas.demo_case(), make("rome", seed=seed, tokens=TOKENS)
    if not as_json:
        _introduce(case.rewrite)
    pristine = weights_now(model)
    options.prepare(model, method)
    with console.waiting(f"{method.title} is solving"):
        delta = method(model, [case.edit])
    with console.waiting("Asking before and after"):
        report = evaluate(model, _Solved(method, delta), [case], seed=seed)
    handle = model.live.push(delta)
    edited = weights_now(model)
    model.live.pop(handle)
    restored = edited != pristine and weights_now(model) == pristine
    seconds = time.perf_counter() - started
    probes = _probes(report)
    if as_json:
        console.emit(_result(case, report, probes, restored, seconds))
    else:
        _show(case, report, probes)
        _show_undo(delta, pristine, edited, restored, seconds)
    if not restored:
        raise console.failed("The weights were not restored. Please report this.", console.MISSED)
    if delta.failed:
        raise console.failed("The edit did not take.", console.MISSED)


@dataclass(frozen=True)
class _Solved:
    """The editor, once it has solved: gives its delta to the evaluation loop."""

    editor: Editor
    delta: Delta

    @property
    def name(self) -> str:
        return self.editor.name

    def arguments(self) -> dict[str, Any]:
        return self.editor.arguments()

    def __call__(
        self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None = None
    ) -> Delta:
        return self.delta


def weights_now(model: TextModel) -> str:
    """sha256 over all weights as they are at this moment, whatever is applied."""
    from ..live import tensor_hash

    digest = hashlib.sha256()
    for name, parameter in model.module.named_parameters():
        digest.update(f"{name} {tensor_hash(parameter)}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Answer:
    """A probe, and what the model answered without and with the edit."""

    probe: Probe
    before: str
    after: str
    passed: bool

    @property
    def kind(self) -> str:
        held_out = self.probe.axis == "generalization" and self.probe.held_out
        return "held out" if held_out else self.probe.kind


def _probes(report: Report) -> list[_Answer]:
    from ..edit import Probe

    found = []
    for part in report.rows[0]["probes"]:
        probe = Probe.from_dict(part["probe"])
        before, after = (Observation.from_dict(part[k]) for k in ("before", "after"))
        scores = scores_of(probe, before, after)
        held_out = "_held_out" if probe.axis == "generalization" and probe.held_out else ""
        found.append(
            _Answer(
                probe,
                answer_of(before.text),
                answer_of(after.text),
                bool(scores[f"gen.{probe.axis}{held_out}"]),
            )
        )
    return found


def _result(
    case: Case, report: Report, probes: Sequence[_Answer], restored: bool, seconds: float
) -> dict[str, Any]:
    own = next(p for p in probes if p.probe.axis == "efficacy")
    scores = {axis: report.scores.get(f"gen.{axis}") for axis in AXES}
    return {
        "edit": case.edit.to_dict(),
        "before": own.before,
        "after": own.after,
        "scores": {axis: score.value if score else None for axis, score in scores.items()},
        "undone_bit_exact": restored,
        "seconds": round(seconds, 2),
    }


# -- showing it -------------------------------------------------------------------------------

TITLES = {
    "rewrite": "The edit",
    "paraphrase": "Other wordings",
    "held out": "Wordings that training held out",
    "alias": "Another name of the subject",
    "inverse": "Asked the other way round",
    "one_hop": "What follows in one step",
    "two_hop": "What follows in two steps",
    "same_subject": "Other facts about the subject",
    "neighborhood": "Others that share the old answer",
    "one_to_many": "Others that share the new answer",
    "far": "Unrelated facts",
}
SHOWN = 4
"""Answers shown of each kind; the scores count them all."""


def _introduce(edit: Rewrite) -> None:
    text = Text.assemble(
        f"Atlas believes: {edit.text} ",
        (edit.target_true or "", "bold"),
        f".\nROME rewrites one matrix, so that it says: {edit.text} ",
        (edit.target, "bold"),
        ".",
    )
    console.out().print(Panel(text, expand=False))


def _show(case: Case, report: Report, probes: Sequence[_Answer]) -> None:
    out = console.out()
    for title, axes in (
        ("What should change", ("efficacy", "generalization", "portability")),
        ("What should stay", ("locality",)),
    ):
        rows: list[tuple[Any, ...]] = []
        for kind in dict.fromkeys(p.kind for p in probes if p.probe.axis in axes):
            group = [p for p in probes if p.kind == kind]
            for j, p in enumerate(group[:SHOWN]):
                label = TITLES.get(kind, kind) if j == 0 else ""
                good = Text("yes", "green") if p.passed else Text("no", "red")
                style = "bold" if p.before != p.after else "dim"
                rows.append((label, p.probe.prompt, p.before, console.shown(p.after, style), good))
            if len(group) > SHOWN:
                share = sum(p.passed for p in group)
                rows.append(("", Text(f"all {len(group)}: {share} as wanted", "dim"), "", "", ""))
        out.print(console.table(title, ("", "prompt", "before", "after", "as wanted"), rows))
    cells = [
        (axis, f"{score.value:.2f}", f"{score.n_prompts}")
        for axis in AXES
        if (score := report.scores.get(f"gen.{axis}"))
    ]
    out.print(console.table("Scores", ("", "score", "prompts"), cells))


def _show_undo(delta: Delta, pristine: str, edited: str, restored: bool, seconds: float) -> None:
    name, norm = next(iter(delta.norms().items()))
    rows = [
        ("before the edit", pristine[:16]),
        ("with the edit", edited[:16]),
        ("after the undo", console.shown(pristine[:16] if restored else "different", "bold")),
    ]
    out = console.out()
    out.print(console.table("sha256 of all weights", ("", ""), rows))
    verdict = "Undone, bit for bit." if restored else "The weights were NOT restored."
    out.print(
        Text.assemble(
            (verdict, "bold green" if restored else "bold red"),
            f" The edit changed {name} by a rank-one matrix of norm {norm:.2f}. {seconds:.1f} s.",
        )
    )
