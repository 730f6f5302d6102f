"""Tests of several questions, some of which count only where the unedited model knows enough.

    executed   the unedited model met every condition (RippleEdits, Cohen et al. 2023, 2307.12976)
    passed     any, or all, of the questions got a right answer (MQuAKE, Zhong et al. 2023,
               2305.14795: any of three)

Of one record:

    gen.tests             share of the executed tests that passed, by the rule that they name
    gen.tests.executed    share of the tests that were executed
    gen.tests.taken       gen.tests, only of records whose edit took (RippleEdits' protocol)
    gen.tests.all         stricter: every question of a test of several
    gen.tests.mean        share of the right answers to a test of several
    gen.tests.exact       by its own rule, but an answer is one of the names letter by letter, as
                          in MQuAKE's notebook

Each also by kind, as `gen.tests:multi_hop`. The mean over records is the mean over examples that
the papers print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Answered", "scores", "verdict"]


@dataclass(frozen=True, slots=True)
class Answered:
    """How one question of a test was answered.

    passed   by the usual rule: the answer contains one of the names.
    exact    the answer is one of the names.
    met      whether the unedited model met the conditions; None where there are none.
    """

    kind: str
    passed: bool
    exact: bool
    require: Literal["all", "any"] = "all"
    met: bool | None = None


def verdict(passed: Sequence[bool], require: Literal["all", "any"]) -> bool:
    """Whether a test is passed. A test without questions is not."""
    return bool(passed) and (all(passed) if require == "all" else any(passed))


def scores(
    tests: Mapping[str, Sequence[Answered]], took: bool | None = None
) -> dict[str, list[float]]:
    """The scores of one record's tests, {name: one value per test}.

    took  whether the record's edit took; None where that was not asked.
    """
    found: dict[str, list[float]] = {}
    for questions in tests.values():
        first = questions[0]
        executed = all(one.met is not False for one in questions)
        values = {"gen.tests.executed": float(executed)}
        if executed:
            passed = [one.passed for one in questions]
            values["gen.tests"] = float(verdict(passed, first.require))
            values["gen.tests.exact"] = float(
                verdict([one.exact for one in questions], first.require)
            )
            if took:
                values["gen.tests.taken"] = values["gen.tests"]
            if len(questions) > 1:
                values["gen.tests.all"] = float(verdict(passed, "all"))
                values["gen.tests.mean"] = sum(passed) / len(passed)
        for name, value in values.items():
            for full in (name, f"{name}:{first.kind}"):
                found.setdefault(full, []).append(value)
    return found
