"""The nearest of many vectors, exactly: every query against every key."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Metric", "Neighbours", "nearest"]

Metric = Literal["cosine", "dot", "l2"]


class Neighbours(NamedTuple):
    """score: (n, k) similarity, falling along each row. index: (n, k) rows of the keys."""

    score: Tensor
    index: Tensor


def nearest(
    queries: Tensor, keys: Tensor, k: int = 1, metric: Metric = "cosine", *, block: int = 1024
) -> Neighbours:
    """The k keys (m, d) that are nearest to each query (n, d); all m if k is larger.

    metric  "cosine" and "dot" score by similarity, "l2" by the distance with a minus.
    block   queries at a time: block x m scores are held at once.

    Equal scores go to the earlier key. Computed in fp32 at least. Raises `ValueError` for shapes
    that do not go together and for an unknown metric.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or k < 1:
        raise ValueError(
            f"Queries (n, d) and keys (m, d) of the same d, and k >= 1; got "
            f"{tuple(queries.shape)}, {tuple(keys.shape)}, k = {k}."
        )
    if metric not in ("cosine", "dot", "l2"):
        raise ValueError(f"There is no metric {metric!r}; there are cosine, dot and l2.")
    exact = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.to(exact), keys.to(queries.device, exact)
    if metric == "cosine":
        queries = torch.nn.functional.normalize(queries, dim=1)
        keys = torch.nn.functional.normalize(keys, dim=1)
    scores, indices = [], []
    for part in queries.split(block):
        if metric == "l2":
            score = -torch.cdist(part, keys, compute_mode="donot_use_mm_for_euclid_dist")
        else:
            score = part @ keys.T
        ordered = score.sort(dim=1, descending=True, stable=True)
        scores.append(ordered.values[:, :k])
        indices.append(ordered.indices[:, :k])
    return Neighbours(torch.cat(scores), torch.cat(indices))
