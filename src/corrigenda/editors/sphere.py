"""SPHERE: keep edits out of the directions in which the neurons of a layer spread.

Liu et al. 2025, 2510.01172 ("Energy-Regularized Sequential Model Editing on Hyperspheres").

The rows of W, scaled to length 1, are points on a sphere; edits that move them together raise
their energy Σ_{a≠b} 1/‖ŵ_a - ŵ_b‖, and the model degrades. With U the leading eigenvectors of
Ŵᵀ Ŵ / o that hold the share η of its trace, an editor's change loses its part in them:

    Δ' = Δ (I - α U Uᵀ)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from ..delta import Dense, LowRank
from ..editor import Editor
from ..models.text import TextModel
from ..numerics.solve import null_space
from ._wrapped import FilterEditor, Place

__all__ = ["SPHERE", "free_directions"]


@dataclass(frozen=True)
class SPHERE(FilterEditor):
    """Another editor's change with less of the principal directions of the rows of W.

    of     the paper's choice is AlphaEdit.
    alpha  how much of them is taken out; 0: nothing, 1: all.
    share  η: of the trace that the principal directions hold.
    """

    of: str | Editor = "alphaedit"
    alpha: float = 0.5
    share: float = 0.5

    name: ClassVar[str] = "sphere"
    title: ClassVar[str] = "SPHERE"
    paper: ClassVar[str] = "Liu et al. 2025, 2510.01172"
    streams: ClassVar[bool] = True

    def restrained(
        self, model: TextModel, change: LowRank | Dense, place: Place
    ) -> LowRank | Dense:
        if self.alpha == 0:
            return change
        key = f"sphere-{place.name}-{model.live.pristine_hash(place.name)}-{self.share}"
        free = model.remembered(key, lambda: free_directions(place.pristine, self.share))
        if isinstance(change, Dense):
            return Dense(self.turned(change.d, free))
        return LowRank(change.u, self.turned(change.v, free))

    def turned(self, rows: Tensor, free: Tensor) -> Tensor:
        """(n, i) rows times I - αUUᵀ, which is (1 - α)·I + α·FFᵀ with F the free directions."""
        rows = rows.double()
        return (1 - self.alpha) * rows + self.alpha * (rows @ free) @ free.T


def free_directions(weight: Tensor, share: float) -> Tensor:
    """F (i, m) float64, orthonormal: all directions but the leading eigenvectors of ŴᵀŴ/o that
    hold `share` of its trace. weight: (o, i)."""
    rows = normalize(weight.double(), dim=1)
    return null_space(rows.T @ rows / len(rows), energy=share)[0]
