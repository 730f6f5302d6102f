"""The loss of every method that descends a gradient: the NLL of target tokens, teacher-forced.

The logits at position t predict the token at t + 1. That shift is made in `predicting` and
nowhere else. Positions are marked by a mask, so padding on either side cannot move them.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nll_at", "predicting", "target_nll"]


def predicting(targets: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns), each (n,), of the positions that predict the marked tokens.

    targets  (b, t) bool, True at target tokens. The result is in reading order, row by row.

    Raises `ValueError` if a first column is marked: no position predicts it.
    """
    if bool(targets[:, :1].any()):
        raise ValueError("A token in the first column is marked as target; nothing predicts it.")
    rows, columns = targets.nonzero(as_tuple=True)
    return rows, columns - 1


def nll_at(logits: Tensor, wanted: Tensor, rows: Tensor, count: int) -> Tensor:
    """(count,) mean negative log-likelihood of the wanted tokens of each row, in nats.

    logits  (n, V) at the predicting positions. wanted: (n,) token ids. rows: (n,) the row that
    each position belongs to. Every row weighs its tokens equally; a row without any is 0.
    """
    logprobs = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
    sums = torch.zeros(count, dtype=logprobs.dtype, device=logprobs.device)
    sizes = torch.bincount(rows, minlength=count).clamp_min(1)
    return sums.index_add(0, rows, -logprobs) / sizes


def target_nll(logits: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
    """(b,) mean NLL of the marked tokens of each row of a padded batch.

    logits (b, t, V) as a causal model returns them for ids (b, t); targets (b, t) bool. For one
    row this is the model's own loss with `labels` that are -100 outside of the targets.
    """
    rows, columns = predicting(targets)
    return nll_at(logits[rows, columns], ids[rows, columns + 1], rows, ids.shape[0])
