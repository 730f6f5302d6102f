"""Teacher-forced scores: the gold tokens are fed, and each is judged given those before it.

    m(t|p)  = (1/L) sum_j log p(t_j | p, t_<j)          mean log-probability (natural logarithm)
    P       = exp(m)                                    geometric mean per token
    strict  = 1 iff the argmax is the target at all L positions
    ratio   = share of positions where it is

Feeding the gold prefix flatters a model, so these are reported under `tf.*` and never as the
headline. A tie counts only if the argmax, which is the lowest id, is the target. Non-finite
scores are failures, never dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EditError

__all__ = ["TeacherForced", "from_logits", "from_tokens", "geometric_mean", "mean_logprob"]


@dataclass(frozen=True, slots=True)
class TeacherForced:
    """Scores of one target of L tokens.

    mean       mean log-probability in nats; -inf when a score was not finite.
    total      log-probability of the whole target.
    strict     1.0 iff every token is the argmax.
    ratio      share of tokens that are the argmax.
    tokens     L.
    ties       positions at which several ids share the highest logit.
    nonfinite  a logit was NaN or infinite: the scores above are zero.
    """

    mean: float
    total: float
    strict: float
    ratio: float
    tokens: int
    ties: int = 0
    nonfinite: bool = False

    @property
    def probability(self) -> float:
        """Geometric mean probability per token; not the probability of the whole text."""
        return math.exp(self.mean)


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean log-probability per token. Raises `EditError` for an empty target."""
    if not len(logprobs):
        raise EditError("The target has no tokens, so it has no score. Give a non-empty target.")
    return math.fsum(float(x) for x in logprobs) / len(logprobs)


def geometric_mean(logprobs: Sequence[float]) -> float:
    """exp of the mean log-probability."""
    return math.exp(mean_logprob(logprobs))


def from_tokens(logprobs: Sequence[float], correct: Sequence[bool]) -> TeacherForced:
    """Scores from the log-probability of each target token and whether it is the argmax.

    Raises `EditError` for an empty target.
    """
    values = [float(x) for x in logprobs]
    mean = mean_logprob(values)
    if not all(math.isfinite(x) for x in values):
        return TeacherForced(-math.inf, -math.inf, 0.0, 0.0, len(values), nonfinite=True)
    hits = [bool(x) for x in correct]
    return TeacherForced(
        mean, math.fsum(values), float(all(hits)), sum(hits) / len(hits), len(values)
    )


def from_logits(logits: Any, target: Sequence[int]) -> TeacherForced:
    """Scores from logits (L, V), as torch tensor or array, and the L target ids.

    Counts ties. Raises `EditError` for an empty target.
    """
    import torch

    ids = torch.as_tensor(target, dtype=torch.long)
    scores = torch.as_tensor(logits).float()
    if not ids.numel():
        raise EditError("The target has no tokens, so it has no score. Give a non-empty target.")
    if not bool(torch.isfinite(scores).all()):
        return TeacherForced(-math.inf, -math.inf, 0.0, 0.0, len(ids), nonfinite=True)
    logprobs = scores.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    highest = scores == scores.amax(-1, keepdim=True)  # (L, V)
    lowest_id = highest.int().cumsum(-1).eq(1).int().argmax(-1)
    base = from_tokens(logprobs.tolist(), (lowest_id == ids).tolist())
    ties = int((highest.sum(-1) > 1).sum())
    return TeacherForced(base.mean, base.total, base.strict, base.ratio, base.tokens, ties)
