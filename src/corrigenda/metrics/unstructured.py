"""Edits of whole passages (UnKE: Deng et al. 2024, 2405.15349; AKEW: Wu et al. 2024, 2402.18909).

    ROUGE-L            `longform.rouge`: overlap of the answer with the passage
    BERTScore          (Zhang et al. 2020, 1904.09675) each token's best match in the other text
    fact recall        share of the passage's atomic facts that the answer states

All are secondary: they reward a text that sounds like the passage. Token embeddings come from the
caller, and whether a fact is stated from a judge or a model of inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from .longform import Rouge

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bert_score", "fact_recall"]


def bert_score(answer: Tensor, passage: Tensor) -> Rouge:
    """BERTScore without rescaling: greedy matching of token embeddings by cosine.

    answer   (n, d) contextual embeddings of the answer's tokens.
    passage  (m, d) those of the passage's.

    Each between -1 and 1. Raises `InputError` for a text without tokens or a non-finite embedding.
    """
    import torch

    if (
        not len(answer)
        or not len(passage)
        or not torch.isfinite(torch.cat([answer, passage])).all()
    ):
        raise InputError(
            f"BERTScore needs finite embeddings of both texts; got {len(answer)} and "
            f"{len(passage)} tokens."
        )
    units = [torch.nn.functional.normalize(x.double(), dim=-1) for x in (answer, passage)]
    cosine = units[0] @ units[1].T  # (n, m)
    precision, recall = float(cosine.amax(1).mean()), float(cosine.amax(0).mean())
    whole = precision + recall
    return Rouge(precision, recall, 2 * precision * recall / whole if whole else 0.0)


def fact_recall(stated: Sequence[bool]) -> float:
    """Share of atomic facts that the answer states. Raises `InputError` without facts."""
    if not stated:
        raise InputError("Recall needs at least one atomic fact of the passage.")
    return sum(map(bool, stated)) / len(stated)
