"""From texts into weights: what the memory tells a model with every prompt, it learns once.

The edits of a memory are solved by an editor, by context distillation unless told otherwise: the
model with the edits in its context teaches the model without them (Padmanabhan et al. 2023,
2306.09306). Then both forms are asked the same, by free generation:

    context   the model reads the edits that a prompt is about, as it would behind the proxy
    weights   the model under the editor's delta, with nothing in front of the prompt

A case's score is the mean over its axes (efficacy, generalization, portability, locality) of the
share of probes passed, so that no axis counts more for having more probes. The form with the higher
mean is kept; of equal ones the weights, which cost no tokens and no proxy.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..attempt import described
from ..delta import Delta
from ..disk import new_directory, write_synced
from ..edit import Axis, Case, Rewrite
from ..editor import Editor, EditWarning
from ..errors import CorrigendaError, InputError
from ..evaluate import with_rewrite_probe
from ..measure import Budget, observe
from ..metrics.observation import Observation, scores_of
from ..metrics.statistics import paired_bootstrap, wilson
from ..models.text import TextModel
from .memory import EditMemory, Remembered
from .prompting import Telling
from .scope import Query, Scope

__all__ = ["AXES", "Consolidated", "InContext", "Share", "cases_of", "consolidated", "wording_for"]

AXES: tuple[Axis, ...] = ("efficacy", "generalization", "portability", "locality")

Form = Literal["context", "weights"]
Progress = Callable[[str], None]


class InContext:
    """A model that reads the edits a prompt is about: what a proxy does, without the network."""

    def __init__(
        self, model: Any, memory: Sequence[Remembered], scope: Scope, telling: Telling
    ) -> None:
        self.model, self.memory, self.scope, self.telling = model, memory, scope, telling

    def given(self, prompt: str) -> str:
        """What the model is to read for a prompt."""
        found = self.scope.select(Query(prompt), self.memory)[-self.telling.limit :]
        return self.telling.told([match.edit for match in found], prompt).text or prompt

    def generate(self, prompts: Sequence[str], **how: Any) -> list[str]:
        return self.model.generate([self.given(prompt) for prompt in prompts], **how)


class _Free:
    """A model that only generates: scores that need logits are not taken."""

    def __init__(self, model: TextModel) -> None:
        self.generate = model.generate


@dataclass(frozen=True, slots=True)
class Share:
    """How many probes passed of those asked, with the 95 % Wilson interval."""

    passed: int
    asked: int

    def to_dict(self) -> dict[str, Any]:
        low, high = wilson(self.passed, self.asked)
        return {
            "passed": self.passed,
            "asked": self.asked,
            "share": self.passed / self.asked,
            "low": low,
            "high": high,
        }


@dataclass(frozen=True)
class Consolidated:
    """Both forms on the same cases, and which one is kept.

    delta       of the form that is kept: of weights, or of the prompt.
    scores      by form and axis.
    difference  weights minus context: mean of the cases' scores, and its 95 % interval.
    error       why there is no form in weights; then the context is kept.
    """

    kept: Form
    delta: Delta
    editor: str
    model: str
    edits: int
    cases: int
    seed: int
    scores: dict[str, dict[str, Share]]
    difference: tuple[float, float, float] | None = None
    error: str | None = None
    failed: int = 0
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        difference = self.difference
        return {
            "kept": self.kept,
            "delta": self.delta.id,
            "editor": self.editor,
            "model": self.model,
            "edits": self.edits,
            "cases": self.cases,
            "seed": self.seed,
            "did_not_take": self.failed,
            "error": self.error,
            "scores": {
                form: {axis: share.to_dict() for axis, share in found.items()}
                for form, found in self.scores.items()
            },
            "weights_minus_context": difference
            and dict(zip(("mean", "low", "high"), difference, strict=True)),
            "notes": list(self.notes),
        }

    def markdown(self) -> str:
        lines = [
            f"# {self.edits} edit{'s' if self.edits != 1 else ''} of {self.model}, in context and "
            "in weights",
            "",
            f"Kept: **{WORDS[self.kept]}**. Editor: {self.editor}. {self.cases} cases, free "
            f"generation, 95 % Wilson intervals, seed {self.seed}.",
            "",
            "| x 100 | " + " | ".join(WORDS[form] for form in self.scores) + " |",
            "|---|" + "---:|" * len(self.scores),
        ]
        for axis in AXES:
            cells = [found.get(axis) for found in self.scores.values()]
            if any(cells):
                lines.append(f"| {axis} | " + " | ".join(map(_cell, cells)) + " |")
        if self.difference is not None:
            mean, low, high = (100 * x for x in self.difference)
            lines += [
                "",
                f"Weights minus context, mean of the cases' scores: {mean:+.1f} [{low:+.1f}, "
                f"{high:+.1f}] (paired bootstrap over cases).",
            ]
        if self.error is not None:
            lines += ["", f"There is no form in weights: {self.error}"]
        lines += [line for note in self.notes for line in ("", note)]
        return "\n".join(lines) + "\n"

    def write(self, directory: Path) -> None:
        """delta/, report.json and report.md, all of them or nothing."""
        with new_directory(directory) as part:
            self.delta.save(part / "delta")
            report = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
            write_synced(part / "report.json", report.encode())
            write_synced(part / "report.md", self.markdown().encode())


WORDS: dict[str, str] = {"context": "edits in context", "weights": "edits in weights"}


def _cell(share: Share | None) -> str:
    if share is None:
        return ""
    one = share.to_dict()
    return f"{100 * one['share']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def wording_for(model: TextModel) -> str:
    """How a fact is told to this model: as it learned to read one, where that is known."""
    from ..editors.definition import Definition

    return Definition().resolved(model).form or "{}. "


def cases_of(
    model: TextModel, edits: Sequence[Rewrite], known: Sequence[Case] = ()
) -> tuple[list[Case], str]:
    """A case for every edit, and a remark on where its questions come from: from the `known` case
    of the same edit, else what follows from it in an Atlas world, else prompts that fit any edit."""
    from ..serving.scorecard import questions

    by_fact = {_key(case.edit): case for case in known if isinstance(case.edit, Rewrite)}
    found, notes = [], []
    for edit in edits:
        case = by_fact.get(_key(edit))
        if case is None:
            asked = questions(model, [edit])
            case = Case(edit, asked.probes)
            notes.append(asked.note)
        found.append(with_rewrite_probe(case))
    if len(notes) < len(found):
        notes.append(f"{len(found) - len(notes)} cases are the data set's own.")
    return found, " ".join(dict.fromkeys(notes))


def consolidated(
    model: TextModel,
    memory: EditMemory,
    editor: Editor,
    *,
    scope: Scope,
    telling: Telling,
    known: Sequence[Case] = (),
    max_new_tokens: int = 16,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Consolidated:
    """Put a memory's active edits into weights, and keep whichever form is better.

    known  cases whose probes are asked, for edits that they hold.

    An editor that fails is no error: then the context is kept, and the report says why. The model
    is as it was afterwards. Raises `InputError` where the memory holds no active edit.
    """
    active = memory.active()
    if not active:
        raise InputError(
            f"{memory.ledger.directory} holds no active edit to consolidate. Make one, or redo one."
        )
    edits = [one.edit for one in active]
    editor.check(model, edits)
    cases, note = cases_of(model, edits, known)
    budget = Budget(max_new_tokens)
    progress("Asking the unedited model")
    free = _Free(model)
    before = observe(free, cases, budget, unedited=True)
    progress("Asking with the edits in context")
    reader = InContext(free, active, scope, telling)
    seen: dict[Form, list[list[Observation]]] = {"context": observe(reader, cases, budget)}
    progress(f"{editor.title} is solving")
    solved, error = _solved(model, editor, edits)
    if solved is not None:
        progress("Asking with the edits in weights")
        with solved.applied(model):
            seen["weights"] = observe(free, cases, budget)
    rows = {form: _passed(cases, before, after) for form, after in seen.items()}
    scores: dict[str, dict[str, Share]] = {form: _shares(found) for form, found in rows.items()}
    difference = None
    kept: Form = "context"
    if solved is not None:
        means = {form: [_mean(row) for row in found] for form, found in rows.items()}
        mean, (low, high), _ = paired_bootstrap(means["weights"], means["context"], seed=seed)
        difference = (mean, low, high)
        kept = "weights" if mean >= 0 else "context"
    notes = [note] if note else []
    if kept == "context":
        notes.append(
            f"The edits stay texts. `corrigenda proxy --ledger {memory.ledger.directory}` applies "
            "them as measured here, to prompts that they are about. The delta beside this report "
            "holds the same texts for a local model, which then reads the nearest with every prompt."
        )
    delta = solved if kept == "weights" and solved is not None else memory.delta(edits)
    return Consolidated(
        kept,
        delta,
        editor.name,
        model.id,
        len(edits),
        len(cases),
        seed,
        scores,
        difference,
        error,
        len(solved.failed) if solved is not None else 0,
        tuple(notes),
    )


def _solved(
    model: TextModel, editor: Editor, edits: Sequence[Rewrite]
) -> tuple[Delta | None, str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)  # what did not take is counted
        try:
            if editor.batches:
                return editor(model, edits), None
            whole: Delta | None = None
            for edit in edits:
                one = editor(model, [edit], onto=whole)
                whole = one if whole is None else whole + one
            return whole, None
        except CorrigendaError as error:
            return None, described(error)


def _passed(
    cases: Sequence[Case],
    before: Sequence[Sequence[Observation]],
    after: Sequence[Sequence[Observation]],
) -> list[dict[str, list[bool]]]:
    """Of each case, by axis, which probes passed. Those that the unedited model would have to know
    more for say nothing."""
    found = []
    for case, firsts, seconds in zip(cases, before, after, strict=True):
        row: dict[str, list[bool]] = {}
        for probe, first, second in zip(case.probes, firsts, seconds, strict=True):
            if first.met is False:
                continue
            scores = scores_of(probe, first, second)
            name = f"{probe.axis}_held_out" if probe.held_out else probe.axis
            value = scores.get(f"gen.{name}", scores.get(f"gen.{probe.axis}"))
            if value is not None:
                row.setdefault(probe.axis, []).append(value == 1.0)
        found.append(row)
    return found


def _shares(rows: Sequence[dict[str, list[bool]]]) -> dict[str, Share]:
    every = {axis: [ok for row in rows for ok in row.get(axis, ())] for axis in AXES}
    return {axis: Share(sum(found), len(found)) for axis, found in every.items() if found}


def _mean(row: dict[str, list[bool]]) -> float:
    """A case's score: the mean over its axes."""
    shares = [sum(found) / len(found) for found in row.values()]
    return sum(shares) / len(shares) if shares else 0.0


def _key(edit: Rewrite) -> tuple[str, str, str]:
    return edit.text, edit.subject, edit.target
