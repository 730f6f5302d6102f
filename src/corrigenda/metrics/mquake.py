"""MQuAKE: questions whose answer follows from edits over several hops (Zhong et al. 2023, 2305.14795).

A case has one to four edits, a chain of hops that uses them, and three wordings of one question.

    edit-wise       share of the edits that the model answers with their new object
    all edits       1 iff it answers every one of them so
    instance-wise   1 iff it answers every hop of the edited chain, those that no edit made too
    multi-hop       1 iff any of the wordings is answered, which is the paper's rule
    .all, .mean     every wording; the share of them: stricter, and ours
    hop-wise        1 iff the multi-hop answer and every hop are right (Gu et al. 2024, 2312.15194):
                    an answer reached along a wrong path does not count

The paper's match is the exact string or an alias, nothing normalised (`exact`). A free generation
goes on after the answer and never equals it, so ours is `text.contains`; scores by the paper's
match carry the suffix `.paper`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .text import contains

__all__ = ["MultiHop", "Quake", "exact", "multi_hop", "quake"]

Match = Callable[[str, Sequence[str]], float]
"""From an answer and the names of the right one to 1.0 or 0.0."""


@dataclass(frozen=True, slots=True)
class MultiHop:
    """One question in several wordings. Each 0 to 1."""

    any: float
    mean: float
    all: float


@dataclass(frozen=True, slots=True)
class Quake:
    """One case. Each 0 to 1; the mean over cases is the score."""

    edit_wise: float
    all_edits: float
    instance_wise: float
    multi_hop: MultiHop
    hop_wise: float


def exact(answer: str, names: Sequence[str]) -> float:
    """The paper's match: the answer is one of the names, character for character."""
    return float(answer in names)


def multi_hop(answers: Sequence[str], names: Sequence[str], match: Match = contains) -> MultiHop:
    """Score the answers to the wordings of one question.

    Raises `InputError` without wordings or without names.
    """
    if not answers or not any(names):
        raise InputError(
            f"A multi-hop question needs a wording and a name of its answer; got {len(answers)} "
            f"and {len(names)}."
        )
    hits = [match(answer, names) for answer in answers]
    return MultiHop(max(hits), sum(hits) / len(hits), min(hits))


def quake(
    edits: Iterable[tuple[str, Sequence[str]]],
    hops: Iterable[tuple[str, Sequence[str]]],
    answers: Sequence[str],
    names: Sequence[str],
    match: Match = contains,
) -> Quake:
    """Score one case.

    edits    (answer of the edited model, names of the new object) of each edit's cloze.
    hops     the same of each hop of the edited chain.
    answers  to the wordings of the multi-hop question, whose answer has these names.

    Raises `InputError` for a case without edits, hops or wordings.
    """
    told = [match(answer, wanted) for answer, wanted in edits]
    walked = [match(answer, wanted) for answer, wanted in hops]
    if not told or not walked:
        raise InputError(f"A case has {len(told)} edits and {len(walked)} hops; it needs both.")
    question = multi_hop(answers, names, match)
    path = min(walked)
    return Quake(sum(told) / len(told), min(told), path, question, min(path, question.any))
