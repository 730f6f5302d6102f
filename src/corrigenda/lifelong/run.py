"""The loop of a lifelong run: solve, measure what is new, now and then measure what is old.

Every result is a line on disk before the next one is begun, and every step's delta is there before
its line is. A run that starts again walks through its own lines until one is missing, takes the
deltas up to there from disk, and goes on: to the same result, but for clocks.

The edits so far stay live between steps, so a step writes only what it adds, and its cost does not
grow with what was there before.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..attempt import Attempt, attempt, described, size_of
from ..delta import Delta
from ..edit import Case
from ..errors import CorrigendaError, InputError, UnknownNameError
from ..evaluate import environment_of
from ..health import health
from ..measure import Budget, answered, replies
from ..metrics.sequential import stratified
from ..metrics.text import preserved
from ..results import Results, content_key
from .alarm import Alarm
from .course import Course
from .plan import Plan
from .states import States

__all__ = ["OnCollapse", "lifelong"]

OnCollapse = Literal["stop", "rollback", "go-on"]
Progress = Callable[[str, int, int], None]
Row = dict[str, Any]

CHOICES = ("stop", "rollback", "go-on")
RESULTS = "run.jsonl"
UNKNOWN = -1


def lifelong(
    model: Any,
    editor: Any,
    cases: Sequence[Case],
    plan: Plan,
    directory: Path | str,
    *,
    untouched: Sequence[Case] = (),
    alarm: Alarm | None = None,
    on_collapse: OnCollapse = "stop",
    rollbacks: int = 20,
    text: str | Path | None = None,
    max_new_tokens: int = 16,
    batch_size: int = 64,
    progress: Progress | None = None,
    command: str = "",
    notes: Sequence[str] = (),
) -> Course:
    """Make the edits of a plan one step after the other, and keep what they do in a directory.

    model        a `TextModel`; it is bit for bit as before when this returns or raises.
    cases        as many as the plan has edits, in the order of the data; none contradicts another.
                 See `divided`.
    directory    of this run alone. Lines that are there already are not made again.
    untouched    cases whose facts no edit is about: their answers should stay.
    on_collapse  what an alarm leads to. "stop": the run ends there. "rollback": the step that did
                 it is found by bisection and taken back, exactly, and the run goes on without it.
                 "go-on": it is recorded.
    rollbacks    the run stops when so many steps had to be taken back.
    text         of the health check; None takes the one that fits the model.

    An edit that raises is a failed edit; what is measured of it is what the model says. An interrupt
    leaves the model restored and the directory such that the same call goes on.

    Raises `InputError` for a plan of another number of edits, `DataError` when the results there
    are a file of another kind, and `TamperedError` when a state on disk is damaged.
    """
    if on_collapse not in CHOICES:
        raise UnknownNameError("action on collapse", on_collapse, CHOICES)
    if len(cases) != plan.edits:
        raise InputError(f"The plan is for {plan.edits} edits, and {len(cases)} cases were given.")
    if plan.step > 1 and not getattr(editor, "batches", True):
        raise InputError(
            f"{editor.name} edits one fact at a time. Give step 1, or an editor for batches "
            "(memit, emmet, alphaedit)."
        )
    ordered = plan.ordered(cases)
    alarm = alarm or Alarm()
    remarks = list(notes)
    if not getattr(editor, "streams", True):
        remarks.append(f"{editor.name} was not made for sequences of edits.")
    environment = environment_of(model, editor, ordered) | {
        "plan": asdict(plan),
        "untouched": len(untouched),
        "alarm": asdict(alarm),
        "on_collapse": on_collapse,
        "rollbacks": rollbacks,
        "text": None if text is None else str(text),
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "command": command,
        "notes": remarks,
    }
    directory = Path(directory)
    with Results(directory / RESULTS) as results:
        run = _Run(
            model, editor, ordered, tuple(untouched), plan, alarm, on_collapse, rollbacks, text,
            Budget(max_new_tokens, batch_size), environment, directory, results,
            progress or _silent,
        )  # fmt: skip
        try:
            run.go()
        finally:
            run.wear(None)
    return Course.read(directory / RESULTS)


@dataclass
class _Run:
    """One run: what stays the same, and how far it is.

    skipped  steps that were taken back, in order.
    whole    the sum of the edits after step `at`; None before the first that took.
    added    steps up to now whose delta is in the sum.
    """

    model: Any
    editor: Any
    cases: list[Case]
    untouched: tuple[Case, ...]
    plan: Plan
    alarm: Alarm
    on_collapse: OnCollapse
    rollbacks: int
    text: str | Path | None
    budget: Budget
    environment: Row
    directory: Path
    results: Results
    progress: Progress
    skipped: tuple[int, ...] = ()
    whole: Delta | None = None
    at: int = 0
    key: str = ""
    added: list[int] = field(default_factory=list)
    handle: int | None = None

    def go(self) -> None:
        """All steps, or what is left of them."""
        self.begin()
        unedited = self.line("unedited", 0, self.unedited)
        healthy = number = 0
        reason = ""
        while number < self.plan.steps and not reason:
            number += 1
            made = self.plan.made(number)
            self.progress("edits", self.plan.made(number - 1), self.plan.edits)
            if number not in self.skipped:
                row = self.line("step", number, self.step)
                if row["added"]:
                    self.added.append(number)
            if self.plan.is_watched(number):
                seen = self.line("watch", number, lambda n: self.watch(n, unedited))
                if not seen["alarm"] or self.on_collapse == "go-on":
                    self.settle(number)
                    healthy = number
                elif self.on_collapse == "stop" or number == healthy:
                    reason = seen["alarm"]
                elif len(self.skipped) == self.rollbacks:
                    reason = f"{seen['alarm']}, and {self.rollbacks} steps were taken back before"
                else:
                    healthy = self.take_back(healthy, number, seen["alarm"], unedited)
                    number = healthy - 1  # what came after it was solved on a broken model
                    continue
            if made in self.plan.checkpoints or reason:
                self.line("checkpoint", number, lambda n: self.checkpoint(n, unedited))
        self.line("end", number, lambda n: {"edits": self.plan.made(n), "collapse": reason})
        self.settle(number)
        self.progress("edits", self.plan.made(number), self.plan.edits)

    # -- lines and states ---------------------------------------------------------------------

    def begin(self) -> None:
        """Name the run by all that it depends on, and announce it."""
        same = ("editor", "model", "plan", "alarm", "on_collapse", "rollbacks", "text", "versions")
        self.key = content_key(
            [self.environment[name] for name in same],
            self.budget.max_new_tokens,
            [asdict(case) for case in self.cases],
            [asdict(case) for case in self.untouched],
        )
        name = content_key("run", self.key)
        if name not in self.results:
            ids = [case.id for case in self.cases]
            value = {"run": self.key, "environment": self.environment, "edits": ids}
            self.results.put(name, "run", value)
        mine = f"states-{self.key[:12]}"
        for other in self.directory.glob("states-*"):
            if other.name != mine:
                shutil.rmtree(other)
        self.states = States(self.directory / mine)

    def line(self, kind: str, number: int, make: Callable[[int], Row]) -> Row:
        """A result from disk, or made now and then on disk."""
        # What a step is solved on depends on the steps taken back before it, nothing after them.
        key = content_key(kind, self.key, number, self.skipped)
        if key not in self.results:
            value = {"run": self.key, "step": number, "skipped": list(self.skipped)}
            self.results.put(key, kind, value | make(number))
        return self.results[key]

    def sum_after(self, number: int) -> Delta | None:
        """The sum of the edits after a step, live on the model."""
        if self.at != number or self.handle is None:
            if self.at != number:
                self.whole, self.at = self.states.restored(number, self.added), number
            self.wear(self.whole)
        return self.whole

    def wear(self, whole: Delta | None) -> None:
        """Make this sum the one that is live."""
        if self.handle is not None:
            self.model.live.pop(self.handle)
            self.handle = None
        if whole is not None:
            self.handle = self.model.live.push(whole)

    def settle(self, number: int) -> None:
        """Nothing before this step will be gone back to."""
        if self.at == number and self.whole is not None:
            self.states.keep_whole(number, self.whole)

    # -- what is done and measured ------------------------------------------------------------

    def step(self, number: int) -> Row:
        """Solve the edits of a step on top of those before, and ask them."""
        whole = self.sum_after(number - 1)
        chosen = self.plan.of_step(number)
        solved = attempt(self.model, self.editor, [self.cases[j] for j in chosen], whole)
        error, delta = solved.error, solved.delta
        if delta is not None and delta:
            new = delta if whole is None else whole + delta
            try:
                self.wear(new)
            except CorrigendaError as caught:  # the sum is not finite, say
                error, delta = described(caught), None
                self.wear(whole)
            else:
                self.states.keep_step(number, delta)
                self.whole = new
        self.at = number
        scores = answered(self.model, [self.cases[j] for j in chosen], self.budget, "efficacy")
        return {
            "edits": self.plan.made(number),
            "positions": list(chosen),
            "added": bool(delta),
            "error": error,
            "took": _took(solved, len(chosen)),
            "immediate": scores,
            "seconds": solved.cost["seconds"],
            "processor_seconds": solved.cost["processor_seconds"],
            "precompute_seconds": solved.cost["precompute_seconds"],
            "resident": solved.cost["resident"],
            "cuda_allocated": solved.cost["cuda_allocated"],
            "bytes": size_of(self.whole) if self.whole is not None else 0,
            "state_bytes": sum(t.nbytes for t in self.whole.state.values()) if self.whole else 0,
        }

    def unedited(self, number: int) -> Row:
        """What the model says before any edit."""
        found = health(self.model, self.text)
        if not math.isfinite(found.nll):
            raise InputError(
                f"The perplexity of {self.model.id} is not finite before any edit. Load it in a "
                "wider dtype (--dtype float32), or give another text."
            )
        return {
            "nll": found.nll,
            "tokens": found.tokens,
            "text": found.text,
            "answers": replies(self.model, _prompts(self.untouched), self.budget),
        }

    def watch(self, number: int, unedited: Row) -> Row:
        """Health, and the share of a few edits that are still answered."""
        self.sum_after(number)
        made = self.plan.made(number)
        nll = health(self.model, self.text).nll
        ratio = math.exp(min(700.0, nll - unedited["nll"]))
        some = [self.cases[j] for j in self.plan.glance(made)]
        kept = [score or 0.0 for score in answered(self.model, some, self.budget, "efficacy")]
        share = math.fsum(kept) / len(kept)
        finite = math.isfinite(nll)
        return {
            "edits": made,
            "nll": nll if finite else None,
            "ratio": ratio if finite else None,
            "retained": share,
            "alarm": self.alarm.reason(ratio if finite else math.inf, share, made),
        }

    def checkpoint(self, number: int, unedited: Row) -> Row:
        """One column of the retention matrix, and what happened to untouched facts."""
        self.sum_after(number)
        made = self.plan.made(number)
        positions = self.plan.asked(made)
        self.progress("checkpoint", made, self.plan.edits)
        some = [self.cases[j] for j in positions]
        row: Row = {"edits": made, "positions": positions}
        for axis in ("efficacy", "generalization"):
            row[axis] = answered(self.model, some, self.budget, axis)
        now = replies(self.model, _prompts(self.untouched), self.budget)
        before = unedited["answers"]
        row["locality"] = [preserved(before[p], now[p]) for p in _prompts(self.untouched)]
        row["retained"] = stratified(
            {j: score or 0.0 for j, score in zip(positions, row["efficacy"], strict=True)}, made
        )
        return row

    def take_back(self, healthy: int, number: int, reason: str, unedited: Row) -> int:
        """Find the first step after `healthy` that the alarm sounds at, and go on without it.

        Returns that step. Bisection: the state before it is healthy and the one after it is not.
        """

        def search(_: int) -> Row:
            low, high = healthy, number
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (
                    (low, middle) if self.watch(middle, unedited)["alarm"] else (middle, high)
                )
            return {"edits": self.plan.made(high), "taken_back": high, "reason": reason}

        found = self.line("rollback", number, search)["taken_back"]
        self.skipped = (*self.skipped, found)
        self.added = [n for n in self.added if n < found]
        self.at = UNKNOWN  # to be taken from disk when it is needed
        return found


def _prompts(cases: Sequence[Case]) -> list[str]:
    return [case.edit.text for case in cases]


def _took(solved: Attempt, edits: int) -> list[bool | None]:
    return [solved.facts(j)["took"] for j in range(edits)]


def _silent(stage: str, done: int, total: int) -> None:
    """Progress for callers that do not ask for any."""
