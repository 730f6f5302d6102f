"""Ask probes of a model, as it is and under a delta.

Every prompt is generated once and every (prompt, answer) pair scored once, in batches over the
cases given. Nothing here edits: a delta is applied, measured under, and removed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .delta import Delta
from .edit import Axis, Case, Condition, Probe
from .metrics.kl import kl_edited_reference, kl_reference_edited
from .metrics.observation import Observation
from .metrics.teacher_forced import from_tokens
from .metrics.text import answer_of, contains, settled

__all__ = [
    "Budget",
    "Divergence",
    "Under",
    "answered",
    "efficacy",
    "executable",
    "observe",
    "replies",
    "under",
]

Divergence = tuple[float, float]
"""KL(reference || edited) and KL(edited || reference) of the next token, in nats."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long an answer may get, and how many prompts go through the model together."""

    max_new_tokens: int = 16
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class Under:
    """What the probes of some cases got under a delta, case by case and probe by probe."""

    observations: list[list[Observation]]
    divergences: list[list[Divergence | None]]  # of locality probes; None elsewhere
    apply_seconds: float
    undo_seconds: float


def executable(
    model: Any, cases: Sequence[Case], budget: Budget
) -> tuple[list[Case], dict[str, tuple[int, int]]]:
    """The cases without the probes whose conditions the unedited model does not meet (as in
    RippleEdits, Cohen et al. 2023, arXiv:2307.12976), and by "axis:kind" how many stay of how many.

    A condition is met when the free answer contains one of its answers as whole words. Probes of a
    test of several (`Probe.group`) all stay: their test counts, or not, as a whole.
    """
    every = [probe for case in cases for probe in case.probes]
    met = _met(model, [probe for probe in every if not probe.group], budget)

    def stays(probe: Probe) -> bool:
        return bool(probe.group) or all(met[one] for one in probe.conditions)

    share: dict[str, tuple[int, int]] = {}
    for probe in every:
        apart = probe.axis == "generalization" and probe.held_out
        name = f"{probe.axis}{'_held_out' if apart else ''}:{probe.kind}"
        done, asked = share.get(name, (0, 0))
        share[name] = done + stays(probe), asked + 1
    kept = [replace(case, probes=tuple(filter(stays, case.probes))) for case in cases]
    return kept, share


def observe(
    model: Any, cases: Sequence[Case], budget: Budget, *, unedited: bool = False
) -> list[list[Observation]]:
    """Ask every probe of every case of the model as it is now; of an unedited one, their conditions
    too."""
    probes = [probe for case in cases for probe in case.probes]
    met = _met(model, probes, budget) if unedited else {}
    texts = replies(model, [probe.prompt for probe in probes], budget)
    wanted = [(p.prompt, p.answers[0]) for p in probes if p.answers]
    wanted += [(p.prompt, p.foil) for p in probes if p.foil]
    pairs = list(dict.fromkeys(wanted))
    found = model.score(pairs, batch_size=budget.batch_size) if pairs else []
    scores = {
        pair: from_tokens(one.logprobs.tolist(), one.correct.tolist())
        for pair, one in zip(pairs, found, strict=True)
    }
    return [
        [
            Observation(
                texts[p.prompt],
                scores[p.prompt, p.answers[0]] if p.answers else None,
                scores[p.prompt, p.foil] if p.foil else None,
                all(met[one] for one in p.conditions) if unedited and p.conditions else None,
            )
            for p in case.probes
        ]
        for case in cases
    ]


def under(model: Any, delta: Delta, cases: Sequence[Case], budget: Budget) -> Under:
    """Ask every probe again with the delta applied; it is removed whatever happens."""
    prompts = list(
        dict.fromkeys(p.prompt for case in cases for p in case.probes if p.axis == "locality")
    )
    reference = model.next_logprobs(prompts, batch_size=budget.batch_size) if prompts else None
    start = time.perf_counter()
    with delta.applied(model):
        applied = time.perf_counter()
        observations = observe(model, cases, budget)
        edited = model.next_logprobs(prompts, batch_size=budget.batch_size) if prompts else None
        measured = time.perf_counter()
    undone = time.perf_counter()
    moved: dict[str, Divergence] = {}
    if reference is not None and edited is not None:
        there = kl_reference_edited(reference, edited).tolist()
        back = kl_edited_reference(reference, edited).tolist()
        moved = dict(zip(prompts, zip(there, back, strict=True), strict=True))
    divergences = [
        [moved[p.prompt] if p.axis == "locality" else None for p in case.probes] for case in cases
    ]
    return Under(observations, divergences, applied - start, undone - measured)


def efficacy(model: Any, cases: Sequence[Case], budget: Budget) -> list[float]:
    """For each case, the share of its own prompts whose answer contains the target."""
    return [score or 0.0 for score in answered(model, cases, budget, "efficacy")]


def answered(model: Any, cases: Sequence[Case], budget: Budget, axis: Axis) -> list[float | None]:
    """For each case, the share of its prompts on one axis whose free answer contains what is
    wanted; None for a case that has none."""
    own = [[p for p in case.on(axis) if p.judge == "contains"] for case in cases]
    texts = replies(model, [probe.prompt for probes in own for probe in probes], budget)
    return [
        math.fsum(contains(answer_of(texts[p.prompt]), p.answers) for p in probes) / len(probes)
        if probes
        else None
        for probes in own
    ]


def _met(model: Any, probes: Sequence[Probe], budget: Budget) -> dict[Condition, bool]:
    """Which conditions the model's free answers meet."""
    conditions = list(dict.fromkeys(one for probe in probes for one in probe.conditions))
    texts = replies(model, [one.prompt for one in conditions], budget)
    return {one: bool(contains(answer_of(texts[one.prompt]), one.answers)) for one in conditions}


def replies(model: Any, prompts: Sequence[str], budget: Budget) -> dict[str, str]:
    """Greedy continuations by prompt, each as far as its answer goes; each prompt is asked once."""
    once = list(dict.fromkeys(prompts))
    if not once:
        return {}
    texts = model.generate(
        once,
        max_new_tokens=budget.max_new_tokens,
        batch_size=budget.batch_size,
        until=settled,
    )
    return dict(zip(once, texts, strict=True))
