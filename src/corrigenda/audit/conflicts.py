"""Do edits contradict or disturb each other?

    disagree   pairs of edits that ask the same and want different answers
    disturbed  for edits in several deltas: how far the probability of an edit's target falls when the
               others are live too, CM = max((p_alone - p_together) / p_alone, -1)

P̄ is the geometric mean probability per token. After Li et al. 2024 (2310.02129).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from ..delta import Delta
from ..edit import Rewrite
from ..metrics.conflict import conflict_magnitude
from ..metrics.text import normalise
from ..models.text import TextModel
from .check import Check, mean, share

__all__ = ["disagree", "disturbed"]


def disagree(edits: Sequence[Rewrite]) -> Check:
    """Edits that another edit contradicts in its own words."""
    wanted: dict[str, set[str]] = {}
    for edit in edits:
        wanted.setdefault(normalise(edit.question), set()).add(normalise(edit.target))
    outcomes = [len(wanted[normalise(edit.question)]) > 1 for edit in edits]
    about = "contradicted by another edit in the same words"
    return share("edits.disagree", about, outcomes, good="low", edits=edits)


def disturbed(
    model: TextModel, deltas: Sequence[Delta], edits: Sequence[Sequence[Rewrite]]
) -> Check:
    """On the unedited model: CM of each edit through the other deltas.

    edits  of each delta. Nothing is asked of a single delta.
    """
    about = "relative fall of P̄(target) through the other deltas (CM)"
    if len(deltas) < 2:
        return mean("tf.disturbed", about, [], good="low")
    alone = []
    for delta, own in zip(deltas, edits, strict=True):
        with delta.applied(model):
            alone += _probabilities(model, own)
    with ExitStack() as stack:
        for delta in deltas:
            stack.enter_context(delta.applied(model))
        together = _probabilities(model, [edit for own in edits for edit in own])
    pairs = [(a, b) for a, b in zip(alone, together, strict=True) if a > 0]
    return mean("tf.disturbed", about, [conflict_magnitude(a, b) for a, b in pairs], good="low")


def _probabilities(model: TextModel, edits: Sequence[Rewrite]) -> list[float]:
    if not edits:
        return []
    return [math.exp(s.mean) for s in model.score([(edit.text, edit.target) for edit in edits])]
