"""The only loop that edits, measures and restores.

    single      each case alone: its delta is applied, its probes are measured, it is removed
    batch       all edits in one call; all cases are measured on the one edited model
    sequential  edits come one after the other (or `step` at a time), each on top of those before;
                all cases are measured on the final model, and at checkpoints all edits so far

A case may hold several edits: they are made in one call, or one on top of the other where the case
or the editor wants that. Each probe is asked of the unedited model too, under the same rules. An
edit that raises, or that did not take, stays in the tables as what it is. The model is restored
after every case, whatever happens. With `resume`, finished cases are on disk before the next one is
begun.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .attempt import Attempt, attempt, described
from .cache import cached_value, code_digest
from .delta import Delta
from .edit import Case, Edit, Probe, Rewrite
from .editor import versions
from .errors import CorrigendaError, DataError, InputError, UnknownNameError
from .measure import Budget, Divergence, efficacy, executable, observe, under
from .metrics.observation import Observation
from .metrics.sequential import CHECKPOINTS
from .metrics.text import answer_of, contains, settled
from .report import Report
from .results import Results, content_key, read_results

__all__ = [
    "Mode",
    "environment_of",
    "evaluate",
    "known_only",
    "partial_report",
    "times",
    "with_rewrite_probe",
    "without_conflicts",
]

Mode = Literal["single", "batch", "sequential"]
Progress = Callable[[str, int, int], None]
Row = dict[str, Any]

MODES = ("single", "batch", "sequential")
CASES_AT_ONCE = 16  # fills batches of prompts; few enough to hold their next-token rows


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
    resume          file of finished cases: read first, then appended to.
    seed            of the bootstrap; a seed other than 0 also shuffles the order of a sequence.
    command         how this was started, for the record.

    In batch and sequential mode, of edits that contradict each other (same subject and relation,
    another target) only the first is kept; the report says how many went. An interrupt leaves the
    model restored and the file of finished cases readable (`partial_report`).

    Raises `InputError` when there is nothing to evaluate or the editor has no such mode, and
    `DataError` when `resume` is a file of another kind.
    """
    if mode not in MODES:
        raise UnknownNameError("evaluation mode", mode, MODES)
    if mode == "batch" and not getattr(editor, "batches", True):
        raise InputError(
            f"{editor.name} edits one fact at a time and has no batch mode. "
            "Use sequential mode, or an editor for batches (memit, emmet, alphaedit)."
        )
    if step < 1:
        raise InputError(f"A sequence advances by at least 1 edit per step, not {step}.")
    _fitting(editor, cases)
    budget = Budget(max_new_tokens, batch_size)
    found, notes = _chosen(model, cases, mode, known_only, budget)
    executed: dict[str, tuple[int, int]] = {}
    if any(p.conditions and not p.group for case in found for p in case.probes):
        found, executed = executable(model, found, budget)
        done, asked = (sum(counts) for counts in zip(*executed.values(), strict=True))
        notes.append(
            f"Executed: {done} of {asked} probes ({done / asked:.1%}), those whose conditions the "
            "unedited model meets."
        )
    if mode == "sequential":
        if seed:
            random.Random(seed).shuffle(found)
        if not getattr(editor, "streams", True):
            notes.append(f"{editor.name} was not made for sequences of edits.")
    environment = environment_of(model, editor, found) | {
        "mode": mode,
        "step": step if mode == "sequential" else None,
        "checkpoints": times(checkpoints, len(found), step) if mode == "sequential" else [],
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "seed": seed,
        "command": command,
        "notes": notes,
    }
    if executed:
        environment["executed"] = {
            name: {"executed": done, "of": asked} for name, (done, asked) in executed.items()
        }
    with Results(resume) as results:
        run = _Run(model, editor, found, environment, budget, results, progress or _silent)
        run.begin()
        rows = run.single() if mode == "single" or editor is None else run.joint()
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

    Cases that do not name the true answer are left out. Raises `InputError` if none names it.
    """
    candidates = [case for case in cases if case.edit.target_true]
    if cases and not candidates:
        raise InputError(
            "None of these cases names its true answer (target_true), so it cannot be checked "
            "whether the model knows it. Drop --known-only, or use data with true answers."
        )
    kept: list[Case] = []
    for part in _chunks(candidates, 4 * batch_size):
        answers = model.generate(
            [case.edit.text for case in part],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            until=settled,
        )
        kept += [
            case
            for case, answer in zip(part, answers, strict=True)
            if contains(answer_of(answer), case.edit.target_true or ())
        ]
        if limit is not None and len(kept) >= limit:
            return kept[:limit]
    return kept


def partial_report(path: Path | str) -> Report:
    """The report of the cases that an interrupted run had finished: the file's latest run.

    Raises `DataError` if the file holds no finished case.
    """
    lines = read_results(Path(path))
    runs = [line["value"] for line in lines if line["kind"] == "run"]
    stored = {line["key"]: line["value"] for line in lines if line["kind"] == "case"}
    rows = [stored[key] for key in runs[-1]["keys"] if key in stored] if runs else []
    if not rows:
        raise DataError(f"{path} holds no finished case. Start the run again with the same file.")
    return Report.build(rows, runs[-1]["environment"])


@dataclass
class _Run:
    """One evaluation: what stays the same from case to case."""

    model: Any
    editor: Any
    cases: list[Case]
    environment: dict[str, Any]
    budget: Budget
    results: Results
    progress: Progress
    keys: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Name every row by all that it depends on, and announce the run."""
        same = ("editor", "model", "mode", "max_new_tokens", "versions")
        base: list[Any] = [self.environment[name] for name in same]
        joint = self.environment["mode"] != "single"
        if joint:  # each row depends on all edits, on their order and on the steps
            base += [[edit.to_dict() for case in self.cases for edit in case.edits]]
            base += [self.environment["step"], self.environment["checkpoints"]]
        self.keys = [
            content_key("case", base, asdict(case), position if joint else 0)
            for position, case in enumerate(self.cases)
        ]
        run = content_key("run", self.keys, self.environment["seed"])
        if run not in self.results:
            self.results.put(run, "run", {"environment": self.environment, "keys": self.keys})

    # -- the modes ----------------------------------------------------------------------------

    def single(self) -> list[Row]:
        """Each case alone on the unedited model."""
        total = len(self.cases)
        for chunk in _chunks(range(total), CASES_AT_ONCE):
            todo = self.open(chunk)
            if not todo:
                continue
            # All of them are asked, also those that are finished: prompts that go through the
            # model together share their padding, so a resumed run gives the very same bits.
            cases = [self.cases[j] for j in chunk]
            befores = self.unedited(cases)
            for j, before in zip(chunk, befores, strict=True):
                self.progress("cases", j, total)
                if j in todo:
                    self.alone(j, before)
        self.progress("cases", total, total)
        return [self.results[key] for key in self.keys]

    def alone(self, j: int, before: list[Observation]) -> None:
        case = self.cases[j]
        solved = self.solve([case])
        row = solved.facts()
        after, moved = before, None
        if solved.delta:
            try:
                found = under(self.model, solved.delta, [case], self.budget)
            except CorrigendaError as error:
                # An edit that cannot be used: other weights, or a context that is too long.
                row["error"] = described(error)
            else:
                after, moved = found.observations[0], found.divergences[0]
                row["cost"]["apply_seconds"] = found.apply_seconds
                row["cost"]["undo_seconds"] = found.undo_seconds
        self.write(j, row, before, after, moved)

    def joint(self) -> list[Row]:
        """All edits on one model, then all cases on the final one."""
        total = len(self.cases)
        if not self.open(range(total)):
            return [self.results[key] for key in self.keys]
        if self.environment["mode"] == "batch":
            self.progress("edits", 0, total)
            solved = self.solve(self.cases)
            whole, facts = solved.delta, [solved.facts(j) for j in range(total)]
            histories: list[dict[int, float]] = [{} for _ in range(total)]
        else:
            whole, facts, histories = self.sequence()
        for chunk in _chunks(range(total), CASES_AT_ONCE):
            self.progress("final model", chunk[0], total)
            todo = self.open(chunk)
            if not todo:
                continue
            cases = [self.cases[j] for j in chunk]  # all of them, as in `single`
            befores = self.unedited(cases)
            found = under(self.model, whole, cases, self.budget) if whole else None
            for at, j in enumerate(chunk):
                if j not in todo:
                    continue
                after = found.observations[at] if found else befores[at]
                moved = found.divergences[at] if found else None
                self.write(j, facts[j], befores[at], after, moved, histories[j])
        self.progress("final model", total, total)
        return [self.results[key] for key in self.keys]

    def sequence(self) -> tuple[Delta | None, list[Row], list[dict[int, float]]]:
        """Edits on top of each other. Each is scored right away, and all so far at checkpoints."""
        total, step = len(self.cases), self.environment["step"]
        whole: Delta | None = None
        facts: list[Row] = []
        histories: list[dict[int, float]] = [{} for _ in range(total)]
        for chunk in _chunks(range(total), step):
            self.progress("edits", chunk[0], total)
            solved = self.solve([self.cases[j] for j in chunk], whole)
            if solved.delta is not None:
                whole = solved.delta if whole is None else whole + solved.delta
            facts += [solved.facts(j) for j in range(len(chunk))]
            made = chunk[-1] + 1
            asked = range(made) if made in self.environment["checkpoints"] else chunk
            with whole.applied(self.model) if whole else nullcontext():
                scores = efficacy(self.model, [self.cases[j] for j in asked], self.budget)
            for j, score in zip(asked, scores, strict=True):
                histories[j][made] = score
        self.progress("edits", total, total)
        return whole, facts, histories

    def unedited(self, cases: Sequence[Case]) -> list[list[Observation]]:
        """What the probes get before any edit: the same for every editor that is given these cases,
        so it is kept in the cache, as long as the code that asks them stays as it is."""
        same = ("model", "versions", "platform", "scorer")
        about = [*(self.environment[n] for n in same), asdict(self.budget), code_digest()]
        asked = [[asdict(probe) for probe in case.probes] for case in cases]

        def made() -> list[list[Row]]:
            found = observe(self.model, cases, self.budget, unedited=True)
            return [[one.to_dict() for one in own] for own in found]

        kept = cached_value(content_key("unedited", about, asked), made)
        return [[Observation.from_dict(one) for one in own] for own in kept]

    # -- one call of the editor, one row ------------------------------------------------------

    def solve(self, cases: Sequence[Case], onto: Delta | None = None) -> Attempt:
        """Ask the editor. What it raises is kept as the reason why these edits failed."""
        if self.editor is None:
            return Attempt()
        return attempt(self.model, self.editor, cases, onto)

    def open(self, chunk: Sequence[int]) -> list[int]:
        """Those of these cases that are not finished yet."""
        return [j for j in chunk if self.keys[j] not in self.results]

    def write(
        self,
        j: int,
        facts: Row,
        before: Sequence[Observation],
        after: Sequence[Observation],
        moved: Sequence[Divergence | None] | None,
        history: dict[int, float] | None = None,
    ) -> None:
        """One finished case, durably."""
        case = self.cases[j]
        moved = moved if moved is not None else [None] * len(case.probes)
        probes = [
            {
                "probe": probe.to_dict(),
                "before": a.to_dict(),
                "after": b.to_dict(),
                # JSON has no infinity; None inside the pair stands for it.
                "kl": kl and [x if math.isfinite(x) else None for x in kl],
            }
            for probe, a, b, kl in zip(case.probes, before, after, moved, strict=True)
        ]
        row = {
            "id": case.id,
            "source": case.source,
            "position": j + 1,
            "edit": case.edit.to_dict(),
            **({"also": [edit.to_dict() for edit in case.also]} if case.also else {}),
            **facts,
            "history": {str(n): score for n, score in (history or {}).items()},
            "probes": probes,
        }
        self.results.put(self.keys[j], "case", row)


# -- which cases ------------------------------------------------------------------------------


def _chosen(
    model: Any, cases: Sequence[Case], mode: Mode, known: bool, budget: Budget
) -> tuple[list[Case], list[str]]:
    """The cases to evaluate, and remarks on those that are not among them."""
    found, notes = [with_rewrite_probe(case) for case in cases], []
    if known and found:
        found = _known_only(
            model,
            found,
            max_new_tokens=budget.max_new_tokens,
            batch_size=budget.batch_size,
        )
        notes.append(
            f"Known only: {len(found)} of {len(cases)} cases, whose true answer the unedited "
            "model gives."
        )
    if mode != "single":
        found, gone = without_conflicts(found)
        if gone:
            notes.append(f"Left out: {gone} cases that contradict an earlier edit.")
    if not found:
        raise InputError(
            "There is nothing to evaluate: no case was given."
            if not cases
            else f"There is nothing to evaluate: the unedited model knows the true answer of none "
            f"of the {len(cases)} cases. Take more cases, or drop --known-only."
        )
    untold = next((case for case in found if not _answered_freely(case)), None)
    if mode == "sequential" and untold is not None:
        raise InputError(
            f"Whether the edit {untold.edit.text[:60]!r} is retained cannot be told from what the "
            "answer contains, and a sequence is measured by that. Use single or batch mode."
        )
    return found, notes


def _fitting(editor: Any, cases: Sequence[Case]) -> None:
    """Raises `InputError` for cases that ask for another kind of edit than the editor takes."""
    takes = getattr(editor, "takes", None)
    if takes is None:
        return
    for case in cases:
        if wrong := next((edit for edit in case.edits if not isinstance(edit, takes)), None):
            raise InputError(
                f"{editor.name} takes {takes.__name__} edits, and the cases of "
                f"{case.source or 'this set'} ask for a {type(wrong).__name__}. `corrigenda editors "
                "--json` says what each method takes."
            )


def _answered_freely(case: Case) -> bool:
    return any(probe.judge == "contains" for probe in case.on("efficacy"))


_known_only = known_only  # `evaluate` has an argument of that name


def with_rewrite_probe(case: Case) -> Case:
    """A case is at least judged by its own prompt."""
    edit = case.edits[-1] if case.in_turn else case.edit
    if case.on("efficacy") or not isinstance(edit, Rewrite):
        return case
    probe = Probe(edit.text, (edit.target,), "efficacy", "rewrite", foil=edit.target_true)
    return replace(case, probes=(probe, *case.probes))


def without_conflicts(cases: Sequence[Case]) -> tuple[list[Case], int]:
    """Keep the first of the cases that leave one subject and relation with different targets."""
    first: dict[tuple[str, ...], str] = {}
    kept = []
    for case in cases:
        facts = {_fact(edit): edit.target for edit in case.edits}
        if all(first.get(fact, target) == target for fact, target in facts.items()):
            first |= facts
            kept.append(case)
    return kept, len(cases) - len(kept)


def _fact(edit: Edit) -> tuple[str, ...]:
    """What an edit is about: two edits of it with different targets contradict each other."""
    if isinstance(edit, Rewrite):
        return edit.subject.lower(), edit.relation or edit.prompt
    return (json.dumps(edit.to_dict()),)


def times(checkpoints: Sequence[int] | None, total: int, step: int) -> list[int]:
    """Checkpoints as numbers of edits that are reached: ends of steps, and the end."""
    if checkpoints is not None and any(n < 1 for n in checkpoints):
        raise InputError(f"Checkpoints are numbers of edits from 1 on, not {list(checkpoints)}.")
    wanted = CHECKPOINTS if checkpoints is None else checkpoints
    reached = {-(-n // step) * step for n in wanted if n < total}
    return sorted({n for n in reached if n < total} | {total})


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# -- what is recorded -------------------------------------------------------------------------


def environment_of(model: Any, editor: Any, cases: Sequence[Case]) -> dict[str, Any]:
    """What a result depends on: editor, model, data, scorer, versions."""
    sources = list(dict.fromkeys(case.source for case in cases if case.source))
    targets = {str(case.meta["target_source"]) for case in cases if "target_source" in case.meta}
    return {
        "editor": None
        if editor is None
        else {"name": editor.name, "arguments": _plain(editor.arguments())},
        "model": {
            "id": model.id,
            "weights": model.weights_hash(),
            "tokenizer": model.tokenizer_hash,
            "dtype": str(getattr(model, "dtype", "")),
            "device": str(getattr(model, "device", "")),
            "live": [delta.id for delta in model.live.deltas],
        },
        "data": {
            "sources": sources,
            "cases": len(cases),
            "id": content_key([asdict(case) for case in cases])[:16],
            "target_source": sorted(targets),
        },
        "scorer": {
            "headline": "gen: greedy continuation; its first non-empty line, cut after one "
            "sentence; contains the target as whole words",
            "teacher_forced": "tf: the gold prefix is fed",
            "stop": "EOS, the token limit, or the end of the answer's sentence",
        },
        "versions": versions() | {"python": platform.python_version()},
        "platform": platform.platform(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _plain(value: Any) -> Any:
    """As JSON would give it back."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _silent(stage: str, done: int, total: int) -> None:
    """Progress for callers that do not ask for any."""
