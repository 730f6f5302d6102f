"""RECT: keep only the largest relative changes.

Gu, Xu, Ma, Lu, Ling, Chang, Peng 2024, 2401.04700 ("Model Editing Harms General Abilities").

Of an editor's change Δ, the entries with the largest |Δ| / |W| stay, the share `keep` of them; the
others are zero. What an edit must say is in few entries, and the rest of it overfits:

    Δ'_ij = Δ_ij  where |Δ_ij| / (|W_ij| + ε) is among the largest,  else 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..delta import Dense, LowRank
from ..errors import InputError
from ..models.text import TextModel
from ._wrapped import FilterEditor, Place

__all__ = ["RECT", "largest"]

EPSILON = 1e-8


@dataclass(frozen=True)
class RECT(FilterEditor):
    """Another editor's change, reduced to its largest relative entries.

    keep  share of the entries of each matrix that stay; 1 leaves the change as it is.
    """

    keep: float = 0.4

    name: ClassVar[str] = "rect"
    title: ClassVar[str] = "RECT"
    paper: ClassVar[str] = "Gu et al. 2024, 2401.04700"
    change: ClassVar[str] = "Dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.keep <= 1:
            raise InputError(f"RECT keeps a share between 0 and 1 of the entries, not {self.keep}.")

    def restrained(
        self, model: TextModel, change: LowRank | Dense, place: Place
    ) -> LowRank | Dense:
        if self.keep == 1:
            return change
        delta = change.matrix()
        ratio = delta.abs() / (place.weight.float().abs() + EPSILON)
        return Dense(torch.where(largest(ratio, self.keep), delta, 0.0))


def largest(scores: Tensor, share: float) -> Tensor:
    """(o, i) True at the round(share · o · i) largest scores; exactly as many, also with ties."""
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[scores.flatten().topk(round(share * scores.numel())).indices] = True
    return chosen.view(scores.shape)
