"""Ask probes of a model, as it is and under a delta.

Every prompt is generated once and every (prompt, answer) pair scored once, in batches over the
cases given. Nothing here edits: a delta is applied, measured under, and removed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .delta import Delta
from .edit import Axis, Case
from .metrics.kl import kl_edited_reference, kl_reference_edited
from .metrics.observation import Observation
from .metrics.teacher_forced import from_tokens
from .metrics.text import answer_of, contains

__all__ = ["Budget", "Divergence", "Under", "answered", "efficacy", "observe", "replies", "under"]

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


def observe(model: Any, cases: Sequence[Case], budget: Budget) -> list[list[Observation]]:
    """Ask every probe of every case of the model as it is now."""
    probes = [probe for case in cases for probe in case.probes]
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
    own = [case.on(axis) for case in cases]
    texts = replies(model, [probe.prompt for probes in own for probe in probes], budget)
    return [
        math.fsum(contains(answer_of(texts[p.prompt]), p.answers) for p in probes) / len(probes)
        if probes
        else None
        for probes in own
    ]


def replies(model: Any, prompts: Sequence[str], budget: Budget) -> dict[str, str]:
    """Greedy continuations by prompt; each prompt is asked once."""
    once = list(dict.fromkeys(prompts))
    if not once:
        return {}
    texts = model.generate(once, max_new_tokens=budget.max_new_tokens, batch_size=budget.batch_size)
    return dict(zip(once, texts, strict=True))
