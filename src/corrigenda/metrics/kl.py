"""How far the next-token distribution moved: Kullback-Leibler divergence in nats.

    KL(p || q) = sum_v p(v) (log p(v) - log q(v))

over the whole vocabulary at one stated position, in fp32 or better. CounterFact+ (Hoelscher-Obermaier
et al. 2023, 2305.17553) calls KL(edited || reference) on neighborhood prompts NKL. Published values
were divided by the vocabulary size ("batchmean" over a single row); `nats_of_published` takes that
back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kl_edited_reference", "kl_reference_edited", "nats_of_published"]


def kl_reference_edited(reference: Tensor, edited: Tensor) -> Tensor:
    """KL(reference || edited) per row: (..., V) log-probabilities to (...,) nats.

    Infinite where the edited model excludes what the reference allows, NaN only where an input is.
    """
    p, q = reference.double(), edited.double()
    weight = p.exp()
    # 0 log 0 is 0 also where log 0 is minus infinity on both sides.
    terms = weight * (p - q)
    return terms.where(weight != 0, terms.new_zeros(())).sum(-1)


def kl_edited_reference(reference: Tensor, edited: Tensor) -> Tensor:
    """KL(edited || reference) per row: (..., V) log-probabilities to (...,) nats."""
    return kl_reference_edited(edited, reference)


def nats_of_published(value: float, vocabulary: int) -> float:
    """The divergence in nats behind a published NKL, from the size of that model's vocabulary."""
    return value * vocabulary
