"""Which edits a run makes, in which order, and what is asked when.

Everything is fixed beforehand by numbers that are recorded, so that a run can be resumed and
repeated. Edits are counted in the order in which they are made.

At a checkpoint after t edits all of them are asked while that is cheap. Beyond, all of the oldest
and of the newest tenth, and of those between a sample that stays the same as far as it can: every
edit has a random rank, and the lowest ranks are asked. `metrics.sequential.stratified` takes the
mean of such a sample.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..edit import Case
from ..errors import InputError
from ..evaluate import times, with_rewrite_probe, without_conflicts
from ..metrics.sequential import strata

__all__ = ["Plan", "divided"]

ALIKE = 2
"""Edits that are asked at a checkpoint are a sample once there are more than so many times it."""


@dataclass(frozen=True)
class Plan:
    """The steps of a run.

    edits        how many.
    step         edits per call of the editor.
    order        0: as they come; another number shuffles them.
    checkpoints  numbers of edits at which retention is measured; the last is `edits`.
    watch        health is looked at after every so many edits, and at checkpoints.
    sample       edits between the oldest and the newest tenth that are asked at a checkpoint.
    watched      edits that are asked when health is looked at.
    seed         of the samples.

    Raises `InputError` for numbers below 1.
    """

    edits: int
    step: int = 1
    order: int = 0
    checkpoints: tuple[int, ...] = ()
    watch: int = 100
    sample: int = 100
    watched: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("edits", "step", "watch", "sample", "watched"):
            if getattr(self, name) < 1:
                raise InputError(f"A run needs {name} of at least 1, not {getattr(self, name)}.")
        found = times(self.checkpoints or None, self.edits, self.step)
        object.__setattr__(self, "checkpoints", tuple(found))

    @property
    def steps(self) -> int:
        """How many calls of the editor there are."""
        return -(-self.edits // self.step)

    def made(self, number: int) -> int:
        """Edits after so many steps."""
        return min(number * self.step, self.edits)

    def of_step(self, number: int) -> range:
        """The edits of a step, steps counted from 1 and edits from 0."""
        return range(self.made(number - 1), self.made(number))

    def is_watched(self, number: int) -> bool:
        """Whether health is looked at after this step."""
        made, before = self.made(number), self.made(number - 1)
        return made // self.watch > before // self.watch or made in self.checkpoints

    def ordered(self, cases: Sequence[Case]) -> list[Case]:
        """The cases in the order of this run."""
        found = list(cases)
        if self.order:
            random.Random(self.order).shuffle(found)
        return found

    def asked(self, made: int) -> list[int]:
        """The edits that are asked at a checkpoint."""
        oldest, between, newest = strata(made)
        if made <= ALIKE * self.sample:
            return list(range(made))
        return sorted([*oldest, *self._lowest(between, self.sample), *newest])

    def glance(self, made: int) -> list[int]:
        """The edits that are asked when health is looked at."""
        return self._lowest(range(made), self.watched)

    def _lowest(self, among: range, count: int) -> list[int]:
        return sorted(sorted(among, key=self._ranks.__getitem__)[:count])

    @cached_property
    def _ranks(self) -> list[int]:
        """A random rank for every edit."""
        ranks = list(range(self.edits))
        random.Random(f"sample/{self.seed}").shuffle(ranks)
        return ranks


def divided(
    cases: Sequence[Case], edits: int | None, untouched: int
) -> tuple[list[Case], list[Case], list[str]]:
    """The cases to edit, cases whose facts stay untouched, and remarks.

    Of edits that contradict an earlier one (same subject and relation, another target) only the
    first is kept. Untouched facts are taken from what is left, those first whose subject is in no
    edit. edits: None takes all but the untouched.

    Raises `InputError` if there are fewer cases than that.
    """
    kept, gone = without_conflicts([with_rewrite_probe(case) for case in cases])
    wanted = len(kept) - untouched if edits is None else edits
    if wanted < 1 or wanted > len(kept):
        raise InputError(
            f"{wanted} edits and {untouched} untouched facts were asked for, and there are "
            f"{len(kept)} cases that do not contradict each other. Ask for fewer, or take a larger "
            "data set."
        )
    sequence, rest = kept[:wanted], kept[wanted:]
    subjects = {case.rewrite.subject.lower() for case in sequence}
    facts = {_fact(case) for case in sequence}
    apart = sorted(
        (case for case in rest if _fact(case) not in facts),
        key=lambda case: case.rewrite.subject.lower() in subjects,
    )[:untouched]
    shared = sum(case.rewrite.subject.lower() in subjects for case in apart)
    notes = [f"Left out: {gone} cases that contradict an earlier edit."] if gone else []
    if untouched:
        notes.append(
            f"Untouched: {len(apart)} facts, {shared} of them about a subject of which another "
            "fact is edited."
        )
    return sequence, apart, notes


def _fact(case: Case) -> tuple[str, str]:
    return case.rewrite.subject.lower(), case.rewrite.relation or case.rewrite.prompt
