"""The only loop that edits, measures and restores.

    single      each case alone: its delta is applied, its probes are measured, it is removed
    batch       all edits in one call; all cases are measured on the one edited model
    sequential  edits come one after the other (or `step` at a time), each on top of those before;
                all cases are measured on the final model, and at checkpoints all edits so far

Each probe is asked of the unedited model too, under the same rules. An edit that raises, or that
did not take, stays in the tables as what it is. The model is restored after every case, whatever
happens. With `resume`, finished cases are on disk before the next one is begun.
"""

from __future__ import annotations

import math
import platform
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from .delta import Delta, LowRank, Prefix
from .edit import Case, Probe, Rewrite
from .editor import EditWarning
from .errors import CorrigendaError, DataError, InputError, UnknownNameError
from .journal import Journal, content_key, read_journal
from .metrics.cost import Cost, measured
from .metrics.kl import kl_edited_reference, kl_reference_edited
from .metrics.observation import Observation
from .metrics.sequential import CHECKPOINTS
from .metrics.teacher_forced import TeacherForced, from_tokens
from .metrics.text import answer_of, contains
from .report import Report

__all__ = ["Mode", "evaluate", "known_only", "partial_report"]

Mode = Literal["single", "batch", "sequential"]
Progress = Callable[[str, int, int], None]
MODES = ("single", "batch", "sequential")
CASES_AT_ONCE = 16  # enough prompts to fill batches; few enough to hold their next-token rows


def evaluate(
    model: Any,
    editor: Any,
    cases: Sequence[Case],
    *,
    mode: Mode = "single",
    batch_size: int = 64,
    max_new_tokens: int = 16,
    known_only: bool = False,
    checkpoints: Sequence[int] | None = None,
    step: int = 1,
    progress: Progress | None = None,
    resume: Path | None = None,
    seed: int = 0,
    command: str = "",
) -> Report:
    """Measure an editor on cases.

    model           a `TextModel`: generate, score, next_logprobs and live are used.
    editor          an `Editor`; None gives the unedited model's own row.
    batch_size      prompts per forward.
    max_new_tokens  fixed budget of every greedy answer; EOS ends it earlier.
    known_only      keep the cases whose true answer the unedited model gives.
    checkpoints     numbers of edits at which a sequence is measured; the end is always added.
                    None takes the usual grid 1, 2, 3, 6, 10, 18, 32, 56, 100, ...
    step            edits per call in a sequence.
    progress        called with (stage, done, total).
    resume          journal of finished cases: read first, then appended to. Raises `DataError`
                    for a file that is something else.
    seed            of the bootstrap; a seed other than 0 also shuffles the order of a sequence.
    command         how this was started, for the record.

    In batch and sequential mode, of edits that contradict each other (same subject and relation,
    another target) only the first is kept; the report says how many went. Raises `InputError`
    when there is nothing to evaluate. An interrupt leaves the model restored and the journal
    readable (`partial_report`).
    """
    if mode not in MODES:
        raise UnknownNameError("evaluation mode", mode, MODES)
    if mode == "batch" and editor is not None and not getattr(editor, "batches", True):
        raise InputError(
            f"{editor.name} edits one fact at a time and has no batch mode. "
            "Use --mode sequential, or an editor for batches (memit, emmet, alphaedit)."
        )
    if step < 1:
        raise InputError(f"A sequence advances by at least 1 edit per step, not {step}.")
    found, notes = [_with_rewrite_probe(case) for case in cases], []
    asked = len(found)
    if known_only:
        found = _known_only(
            model, found, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
        notes.append(f"Known only: {len(found)} of {asked} cases, whose true answer the model gives.")
    if mode != "single":
        found, gone = _without_conflicts(found)
        if gone:
            notes.append(f"{gone} cases were left out because they contradict an earlier edit.")
    if not found:
        raise InputError(
            f"There is nothing to evaluate: {asked} cases were given and 0 are left. "
            + ("The unedited model knows none of them; drop --known-only." if known_only else "")
        )
    if mode == "sequential" and seed:
        random.Random(seed).shuffle(found)
    if mode == "sequential" and not getattr(editor, "streams", True):
        notes.append(f"{editor.name} was not made for sequences of edits.")
    times = _checkpoints(checkpoints, len(found), step) if mode == "sequential" else []
    environment = _environment(model, editor, found) | {
        "mode": mode,
        "step": step,
        "checkpoints": times,
        "seed": seed,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
        "known_only": {"kept": len(found), "of": asked} if known_only else None,
        "command": command,
        "notes": notes,
    }
    with Journal(resume) as journal:
        run = _Run(model, editor, found, mode, batch_size, max_new_tokens, times, step, journal)
        run.begin(environment, progress or _silent)
        rows = run.joint() if mode != "single" and editor is not None else run.single()
    return Report.build(rows, environment)


def known_only(
    model: Any,
    cases: Sequence[Case],
    *,
    limit: int | None = None,
    max_new_tokens: int = 16,
    batch_size: int = 64,
) -> list[Case]:
    """The cases whose true answer the model gives by free generation, at most `limit` of them.

    Cases that do not say what the true answer is are left out. Raises `InputError` if none does.
    """
    candidates = [case for case in cases if case.edit.target_true]
    if cases and not candidates:
        raise InputError(
            "None of these cases names its true answer (target_true), so it cannot be checked "
            "whether the model knows it. Drop --known-only, or use data with true answers."
        )
    kept: list[Case] = []
    chunk = max(1, 4 * batch_size)
    for at in range(0, len(candidates), chunk):
        part = candidates[at : at + chunk]
        answers = model.generate(
            [case.edit.text for case in part], max_new_tokens=max_new_tokens, batch_size=batch_size
        )
        for case, answer in zip(part, answers, strict=True):
            if contains(answer_of(answer), case.edit.target_true or ()):
                kept.append(case)
        if limit is not None and len(kept) >= limit:
            return kept[:limit]
    return kept


_known_only = known_only  # `evaluate` has an argument of that name


def partial_report(path: Path) -> Report:
    """The report of the cases that an interrupted run finished; of the file's latest run.

    Raises `DataError` if the file holds no finished case.
    """
    lines = read_journal(Path(path))
    runs = [line for line in lines if line["kind"] == "run"]
    if runs:
        keys = set(runs[-1]["value"]["keys"])
        rows = {line["key"]: line["value"] for line in lines if line["key"] in keys}
        if rows:
            return Report.build(list(rows.values()), runs[-1]["value"]["environment"])
    raise DataError(f"{path} holds no finished case yet. Start the run again with the same file.")


@dataclass
class _Run:
    """One evaluation: what stays the same from case to case."""

    model: Any
    editor: Any
    cases: list[Case]
    mode: str
    batch_size: int
    max_new_tokens: int
    times: list[int]
    step: int
    journal: Journal
    keys: list[str] = field(default_factory=list)
    progress: Progress = lambda stage, done, total: None

    def begin(self, environment: dict[str, Any], progress: Progress) -> None:
        """Name every row by all that it depends on, and announce the run in the journal."""
        self.progress = progress
        base: list[Any] = [
            environment[name]
            for name in ("editor", "model", "mode", "max_new_tokens", "versions")
        ]
        if self.mode != "single":
            # A row of a joint run depends on all the edits, on their order and on the steps.
            edits = [case.edit.to_dict() for case in self.cases]
            base += [edits, self.step, self.times]
        self.keys = [
            content_key("case", base, _dump_case(case), 0 if self.mode == "single" else position)
            for position, case in enumerate(self.cases, start=1)
        ]
        name = content_key("run", self.keys)
        if name not in self.journal:
            self.journal.put(name, "run", {"environment": environment, "keys": self.keys})

    # -- the three modes ----------------------------------------------------------------------

    def single(self) -> list[dict[str, Any]]:
        """Each case alone on the unedited model."""
        total, done = len(self.cases), 0
        for at in range(0, total, CASES_AT_ONCE):
            chunk = [
                j for j in range(at, min(at + CASES_AT_ONCE, total))
                if self.keys[j] not in self.journal
            ]
            done = min(at + CASES_AT_ONCE, total) - len(chunk)
            befores = self.observe([self.cases[j] for j in chunk])
            for j, before in zip(chunk, befores, strict=True):
                self.progress("cases", done, total)
                self.one(j, before)
                done += 1
        self.progress("cases", total, total)
        return [self.journal.get(key) for key in self.keys]

    def one(self, j: int, before: list[Observation]) -> None:
        case = self.cases[j]
        delta, facts = self.solve([case], None)
        try:
            after, kl = self.changed(delta, [case], [before])
        except CorrigendaError as error:
            # The edit cannot be used (refused by the weights, or its context is too long).
            facts |= {"error": _described(error)}
            after, kl = [before], [[None] * len(before)]
        self.write(j, facts, before, after[0], kl[0])

    def joint(self) -> list[dict[str, Any]]:
        """All edits on one model, and then all cases on the final one."""
        if all(key in self.journal for key in self.keys):
            return [self.journal.get(key) for key in self.keys]
        delta, facts, history = self.sequence() if self.mode == "sequential" else self.batch()
        total = len(self.cases)
        for at in range(0, total, CASES_AT_ONCE):
            chunk = [
                j for j in range(at, min(at + CASES_AT_ONCE, total))
                if self.keys[j] not in self.journal
            ]
            cases = [self.cases[j] for j in chunk]
            befores = self.observe(cases)
            afters, kls = self.changed(delta, cases, befores)
            for j, before, after, kl in zip(chunk, befores, afters, kls, strict=True):
                self.write(j, facts[j], before, after, kl, history[j])
            self.progress("final model", min(at + CASES_AT_ONCE, total), total)
        return [self.journal.get(key) for key in self.keys]

    def batch(self) -> tuple[Delta | None, list[dict[str, Any]], list[dict[int, float]]]:
        """One call for all edits."""
        self.progress("edits", 0, len(self.cases))
        delta, facts = self.solve(self.cases, None)
        self.progress("edits", len(self.cases), len(self.cases))
        n = len(self.cases)
        return delta, [self.of_one(facts, j, delta) for j in range(n)], [{} for _ in range(n)]

    def sequence(self) -> tuple[Delta | None, list[dict[str, Any]], list[dict[int, float]]]:
        """Edits on top of each other, with each one's score right away and at checkpoints."""
        whole: Delta | None = None
        facts: list[dict[str, Any]] = []
        n = len(self.cases)
        history: list[dict[int, float]] = [{} for _ in range(n)]
        for at in range(0, n, self.step):
            self.progress("edits", at, n)
            part = self.cases[at : at + self.step]
            made = at + len(part)
            delta, found = self.solve(part, whole)
            if delta is not None:
                whole = delta if whole is None else whole + delta
            facts += [self.of_one(found, j, delta) for j in range(len(part))]
            since = 0 if made in self.times else at
            with self.live(whole):
                scores = self.efficacy(self.cases[since:made])
            for j, score in zip(range(since, made), scores, strict=True):
                history[j][made] = score
        self.progress("edits", n, n)
        return whole, facts, history

    # -- editing ------------------------------------------------------------------------------

    def solve(
        self, cases: list[Case], onto: Delta | None
    ) -> tuple[Delta | None, dict[str, Any]]:
        """Ask the editor; no delta if it raises. The facts go into the rows."""
        if self.editor is None:
            return None, {"error": None}
        delta, error = None, None
        with _edit_warnings() as messages, measured() as cost:
            try:
                delta = (
                    self.editor(self.model, [case.edit for case in cases])
                    if onto is None
                    else self.editor(self.model, [case.edit for case in cases], onto=onto)
                )
            except Exception as caught:
                error = _described(caught)
        return delta, {
            "error": error,
            "warnings": messages,
            "cost": _cost(cost, delta),
            "edits": len(cases),
        }

    def of_one(self, facts: dict[str, Any], j: int, delta: Delta | None) -> dict[str, Any]:
        """The facts of a shared call as they are for its j-th edit: sums are divided."""
        n = facts["edits"]
        cost = {
            name: value / n if value is not None and name in _SHARED else value
            for name, value in facts["cost"].items()
        }
        return facts | {"cost": cost, "outcome": j}

    @contextmanager
    def live(self, delta: Delta | None) -> Iterator[None]:
        with delta.applied(self.model) if delta else nullcontext():
            yield

    # -- measuring ----------------------------------------------------------------------------

    def observe(self, cases: Sequence[Case]) -> list[list[Observation]]:
        """Ask every probe of every case once of the model as it is now."""
        probes = [probe for case in cases for probe in case.probes]
        prompts = list(dict.fromkeys(probe.prompt for probe in probes))
        texts = dict(zip(prompts, self.generate(prompts), strict=True))
        pairs = list(
            dict.fromkeys(
                (probe.prompt, answer)
                for probe in probes
                for answer in (*probe.answers[:1], probe.foil)
                if answer is not None
            )
        )
        scores = dict(zip(pairs, self.score(pairs), strict=True))
        seen = iter(probes)
        return [
            [
                Observation(
                    texts[probe.prompt],
                    scores[probe.prompt, probe.answers[0]] if probe.answers else None,
                    scores[probe.prompt, probe.foil] if probe.foil is not None else None,
                )
                for probe, _ in zip(seen, case.probes, strict=False)
            ]
            if case.probes
            else []
            for case in cases
        ]

    def changed(
        self, delta: Delta | None, cases: list[Case], befores: list[list[Observation]]
    ) -> tuple[list[list[Observation]], list[list[tuple[float, float] | None]]]:
        """The same probes under a delta, and how far next-token distributions moved."""
        if not delta:
            return befores, [[None] * len(case.probes) for case in cases]
        prompts = list(
            dict.fromkeys(p.prompt for case in cases for p in case.probes if p.axis == "locality")
        )
        reference = self.next_logprobs(prompts)
        start = time.perf_counter()
        with self.live(delta):
            self.applied_in = time.perf_counter() - start
            afters = self.observe(cases)
            edited = self.next_logprobs(prompts)
            start = time.perf_counter()
        self.undone_in = time.perf_counter() - start
        moved: dict[str, tuple[float, float]] = {}
        if prompts:
            forward = kl_reference_edited(reference, edited).tolist()
            backward = kl_edited_reference(reference, edited).tolist()
            moved = dict(zip(prompts, zip(forward, backward, strict=True), strict=True))
        kls = [[moved.get(p.prompt) if p.axis == "locality" else None for p in case.probes]
               for case in cases]
        return afters, kls

    def efficacy(self, cases: Sequence[Case]) -> list[float]:
        """Mean over each case's own prompts of whether the answer contains the target."""
        probes = [case.on("efficacy") for case in cases]
        prompts = list(dict.fromkeys(probe.prompt for own in probes for probe in own))
        texts = dict(zip(prompts, self.generate(prompts), strict=True))
        return [
            math.fsum(contains(answer_of(texts[p.prompt]), p.answers) for p in own) / len(own)
            for own in probes
        ]

    def generate(self, prompts: list[str]) -> list[str]:
        if not prompts:
            return []
        return self.model.generate(
            prompts, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size
        )

    def score(self, pairs: list[tuple[str, str]]) -> list[TeacherForced]:
        found = self.model.score(pairs, batch_size=self.batch_size) if pairs else []
        return [from_tokens(one.logprobs.tolist(), one.correct.tolist()) for one in found]

    def next_logprobs(self, prompts: list[str]) -> torch.Tensor:
        if not prompts:
            return torch.empty(0, 0)
        return self.model.next_logprobs(prompts, batch_size=self.batch_size)

    def write(
        self,
        j: int,
        facts: dict[str, Any],
        before: list[Observation],
        after: list[Observation],
        kl: list[tuple[float, float] | None],
        history: dict[int, float] | None = None,
    ) -> None:
        """One finished case, durably."""
