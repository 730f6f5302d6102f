"""RippleEdits: does what an edit implies follow, and only that (Cohen et al. 2024, 2307.12976)?

Six criteria: LG logical generalisation, CI composition with facts of the new object, CII another
subject that reaches it in two hops, SA other names of the subject, PV the other objects of a
one-to-many relation stay, RS other facts of the subject stay.

A *test* is one or more queries joined by OR or AND, behind condition queries: where the unedited
model fails one of these, the test is not executed. An *example* is an edit with its tests; one
whose edit did not take says nothing and is left out, and counted.

    accuracy of an example    passed / executed tests
    score                     mean over the examples that executed a test
    executed                  executed / all tests of the examples whose edit took

Two rules for when a query passes, under two names:

    passes          a name of any target stands in the continuation, as whole words
    passes_paper    a name of every target stands in prompt + continuation, as a substring of the
                    same case. So the published code does it: a name that the prompt mentions
                    always passes, and of several targets all are asked for where the paper's text
                    says "at least one". Names of one character that is no digit are ignored.

Scores by the second rule carry the suffix `.paper`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError, UnknownNameError
from .text import contains

__all__ = [
    "CRITERIA",
    "Example",
    "Ripple",
    "criterion",
    "outcome",
    "passes",
    "passes_paper",
    "ripple",
]

CRITERIA = {
    "LG": "Logical_Generalization",
    "CI": "Compositionality_I",
    "CII": "Compositionality_II",
    "SA": "Subject_Aliasing",
    "PV": "Forgetfulness",
    "RS": "Relation_Specificity",
}
"""The paper's abbreviations and the keys of the files."""

Names = Sequence[str]
"""The names of one target: its label and aliases."""


@dataclass(frozen=True, slots=True)
class Example:
    """One edit.

    took   the edited model answers the edit's own prompt with the new object.
    tests  by criterion, the `outcome` of each test.
    """

    took: bool
    tests: Mapping[str, Sequence[bool | None]]


@dataclass(frozen=True, slots=True)
class Ripple:
    """One criterion over examples.

    value     mean accuracy, 0 to 1; None where no test was executed.
    executed  share of tests that were; None where there were none.
    examples  how many executed a test.
    tests     how many tests those whose edit took have.
    failed    examples that were left out because their edit did not take.
    """

    value: float | None
    executed: float | None
    examples: int
    tests: int
    failed: int


def criterion(key: str) -> str:
    """The abbreviation of a file's key. "Relation_Specifity", as the README has it, is RS too.

    Raises `UnknownNameError` for another key.
    """
    keys = {name: short for short, name in CRITERIA.items()} | {"Relation_Specifity": "RS"}
    if key not in keys:
        raise UnknownNameError("criterion of RippleEdits", key, keys)
    return keys[key]


def passes(continuation: str, targets: Sequence[Names]) -> bool:
    """A name of any target stands in the continuation as whole words.

    Raises `InputError` for a query without targets.
    """
    _check(targets)
    return any(bool(contains(continuation, names)) for names in targets)


def passes_paper(prompt: str, continuation: str, targets: Sequence[Names]) -> bool:
    """The published code's rule; see above. Raises `InputError` for a query without targets."""
    _check(targets)
    text = prompt + continuation
    kept = [[n for n in names if len(n) > 1 or n.isdigit()] for names in targets]
    return all(any(name in text for name in names) for names in kept)


def outcome(
    queries: Sequence[bool], condition: Literal["OR", "AND"], conditions: Sequence[bool] = ()
) -> bool | None:
    """Whether a test passes; None where it is not executed.

    queries     whether the edited model passes each test query.
    conditions  whether the *unedited* model passes each condition query.

    Raises `InputError` for a test without queries or with another condition.
    """
    if not queries or condition not in ("OR", "AND"):
        raise InputError(
            f"A test joins one query or more by OR or AND; this one joins {len(queries)} by "
            f"{condition!r}."
        )
    if not all(conditions):
        return None
    return any(queries) if condition == "OR" else all(queries)


def ripple(examples: Iterable[Example], criterion: str) -> Ripple:
    """The score of one criterion."""
    took = failed = 0
    accuracies: list[float] = []
    executed = total = 0
    for example in examples:
        if not example.took:
            failed += 1
            continue
        took += 1
        tests = example.tests.get(criterion, ())
        done = [result for result in tests if result is not None]
        executed, total = executed + len(done), total + len(tests)
        if done:
            accuracies.append(sum(done) / len(done))
    value = math.fsum(accuracies) / len(accuracies) if accuracies else None
    share = executed / total if total else None
    return Ripple(value, share, len(accuracies), total, failed)


def _check(targets: Sequence[Names]) -> None:
    if not any(targets):
        raise InputError("A query of RippleEdits has no target to look for.")
