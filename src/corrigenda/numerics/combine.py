"""Several changes of the same weights as one: TIES and DARE.

TIES (Yadav et al. 2023, 2306.01708). Changes that are merged disturb each other through small
entries that say little, and through entries of opposite sign. So each change is trimmed to its
largest entries, every weight elects the sign that has more mass, and the merged entry is the mean
of those that agree with it:

    s = sign Σ_k τ̂_k          τ = Σ_k τ̂_k [sign τ̂_k = s] / |{k : sign τ̂_k = s}|

DARE (Yu et al. 2023, 2311.03099). Each entry is dropped with probability p and the rest is divided
by 1 - p, which leaves the change the same on average and makes it sparse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["dare", "ties", "trimmed"]


def trimmed(change: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    """The change with all but its largest entries set to 0, over all tensors together.

    density  share of entries to keep, in [0, 1].
    """
    _share("density", density)
    magnitudes = torch.cat([t.abs().flatten() for t in change.values()] or [torch.empty(0)])
    kept = round(density * len(magnitudes))
    if kept == 0:
        return {name: torch.zeros_like(t) for name, t in change.items()}
    least = magnitudes.kthvalue(len(magnitudes) - kept + 1).values
    return {name: torch.where(t.abs() >= least, t, 0) for name, t in change.items()}


def ties(changes: Sequence[Mapping[str, Tensor]], density: float) -> dict[str, Tensor]:
    """Merge changes by name; one that lacks a name is 0 there. See the module's equation."""
    sparse = [trimmed(change, density) for change in changes]
    merged = {}
    for name in dict.fromkeys(name for change in sparse for name in change):
        stacked = torch.stack([change[name] for change in sparse if name in change])  # (k, ...)
        agrees = (stacked.sign() == stacked.sum(0).sign()) & (stacked != 0)
        merged[name] = (stacked * agrees).sum(0) / agrees.sum(0).clamp_min(1)
    return merged


def dare(
    change: Mapping[str, Tensor], drop: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """The change with entries dropped at random and the rest rescaled.

    drop  probability p in [0, 1).
    """
    _share("drop", drop)
    if drop == 1:
        raise ValueError("drop = 1 leaves nothing to rescale. Give less than 1.")
    kept = {n: torch.rand(t.shape, generator=generator) >= drop for n, t in change.items()}
    return {name: t * kept[name] / (1 - drop) for name, t in change.items()}


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share between 0 and 1, not {value}.")
