"""Several deltas as one: sums, TIES, DARE, and analogies of task vectors.

Deltas are task vectors in the sense of Ilharco et al. 2022 (2212.04089): changes of one base model.
How TIES and DARE treat their entries is in `numerics/combine.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Literal

import torch

from .delta import Delta, Dense
from .errors import DeltaError
from .numerics.combine import dare, ties

__all__ = ["analogy", "merge"]


def merge(
    deltas: Sequence[Delta],
    method: Literal["sum", "ties", "dare"] = "sum",
    *,
    scale: float | Sequence[float] = 1.0,
    density: float = 0.2,
    drop: float = 0.9,
    seed: int = 0,
) -> Delta:
    """One delta in place of several that were made for the same base model.

    method   "sum": scale_1 τ_1 + scale_2 τ_2 + ...
             "ties": each is trimmed to its largest entries; of what is left, the mean of the
             entries that agree with the elected sign.
             "dare": the sum, after entries are dropped at random and the rest rescaled.
    scale    λ, one for all or one for each.
    density  TIES: share of entries that are kept.
    drop     DARE: probability that an entry is dropped.
    seed     of what is dropped.

    Raises `DeltaError` for deltas of different bases, for changes that have no entries in weights,
    and for a wrong number of scales.
    """
    if not deltas:
        return Delta()
    scales = [scale] * len(deltas) if isinstance(scale, int | float) else list(scale)
    if len(scales) != len(deltas):
        raise DeltaError(f"{len(deltas)} deltas need as many scales or one, not {len(scales)}.")
    scaled = [delta * by for delta, by in zip(deltas, scales, strict=True)]
    total = reduce(add, scaled)
    if method == "sum":
        return total
    vectors = [{n: c.matrix() for n, c in delta.weights.items()} for delta in scaled]
    generator = torch.Generator().manual_seed(seed)
    if method == "ties":
        settings = {"density": density}
        merged = ties(vectors, density)
    elif method == "dare":
        settings = {"drop": drop, "seed": seed}
        sparse = [dare(vector, drop, generator) for vector in vectors]
        merged = {n: sum((v[n] for v in sparse if n in v), torch.zeros(())) for n in total.weights}
    else:
        raise DeltaError(f"There is no way of merging called {method!r}: use sum, ties or dare.")
    about = {"merge": method, "scale": scales, **settings}
    return replace(
        total,
        changes={name: Dense(change) for name, change in merged.items()},
        provenance=total.provenance.model_copy(update={"arguments": about, "outcomes": ()}),
    )


def analogy(a: Delta, b: Delta, c: Delta) -> Delta:
    """τ_c + (τ_b - τ_a): a is to b as c is to the result."""
    return c + (b - a)
