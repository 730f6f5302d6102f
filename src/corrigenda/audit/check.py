"""What one check of an audit returns: a rate with its interval, and how the model was asked.

An edit *holds* on a prompt when the answer, generated freely, begins with the new object; the old
object *returns* when the answer begins with that. All checks here judge generations (`gen.*`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..edit import Rewrite
from ..metrics.statistics import bootstrap, wilson
from ..metrics.text import answer_of, begins
from ..models.text import TextModel

__all__ = ["LENGTH", "Check", "holds", "mean", "returns", "share"]

LENGTH = 12  # tokens of an answer


@dataclass(frozen=True, slots=True)
class Check:
    """One number of an audit.

    name       "gen.rephrased.worst".
    about      what was asked, in a few words.
    value      a share of edits, 0 to 1, or a mean; None where nothing could be asked (n = 0).
    low, high  its 95 % interval: Wilson for shares, percentile bootstrap over edits for means.
    good       "high" when an edit that holds has a high value, "low" when a low one.
    worst      edits that did badly, in words.
    """

    name: str
    about: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    good: str = "high"
    worst: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def share(
    name: str,
    about: str,
    outcomes: Sequence[bool],
    *,
    good: str = "high",
    edits: Sequence[Rewrite] = (),
    **detail: Any,
) -> Check:
    """The share of outcomes that are true. edits: to name the bad ones, one per outcome."""
    if not outcomes:
        return Check(name, about, None, None, None, 0, good, (), detail)
    low, high = wilson(sum(outcomes), len(outcomes))
    bad = [
        edit.statement
        for edit, outcome in zip(edits, outcomes, strict=False)
        if outcome != (good == "high")
    ]
    value = sum(outcomes) / len(outcomes)
    return Check(name, about, value, low, high, len(outcomes), good, tuple(bad[:5]), detail)


def mean(
    name: str, about: str, values: Sequence[float], *, good: str = "high", **detail: Any
) -> Check:
    """The mean over edits."""
    if not values:
        return Check(name, about, None, None, None, 0, good, (), detail)
    low, high = bootstrap(values, draws=2000)
    return Check(name, about, sum(values) / len(values), low, high, len(values), good, (), detail)


def holds(model: TextModel, prompts: Sequence[str], edits: Sequence[Rewrite]) -> list[bool]:
    """Of the model as it is now: whether each answer begins with its edit's target."""
    return _begin(model, prompts, [edit.target for edit in edits])


def returns(model: TextModel, prompts: Sequence[str], edits: Sequence[Rewrite]) -> list[bool]:
    """Whether each answer begins with its edit's old object; false where that is not known."""
    return _begin(model, prompts, [edit.target_true or "" for edit in edits])


def _begin(model: TextModel, prompts: Sequence[str], names: Sequence[str]) -> list[bool]:
    if not prompts:
        return []
    answers = model.generate(prompts, max_new_tokens=LENGTH)
    return [
        bool(name and begins(answer_of(answer), name))
        for answer, name in zip(answers, names, strict=True)
    ]
