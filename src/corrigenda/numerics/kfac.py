"""Kronecker-factored curvature of a linear map, and the projector onto its flat directions.

For y = W x with output gradients g, the curvature of the loss in W is taken as the product of two
second moments (K-FAC, Martens and Grosse 2015, 1503.05671):

    H ≈ B ⊗ A      A = E[x xᵀ]  (i, i)      B = E[g gᵀ]  (o, o)      vec(Δ)ᵀ H vec(Δ) = tr(Δᵀ B Δ A)

With A = U_A diag(a) U_Aᵀ and B = U_B diag(b) U_Bᵀ the eigenvalues of H are b_i a_j. Changes made of
those below τ, of which M is the mask, have curvature below τ ‖Δ‖²; the projector onto them is

    P(Δ) = U_B [ (U_Bᵀ Δ U_A) ⊙ M ] U_Aᵀ
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FlatDirections", "flat_directions"]


@dataclass(frozen=True, slots=True)
class FlatDirections:
    """The changes of a linear map that cost little. See the module's equations.

    inputs     (i, i) U_A, eigenvectors as columns.
    outputs    (o, o) U_B.
    free       (o, i) bool M: which eigen-directions are kept.
    threshold  τ: all kept directions have a smaller eigenvalue.
    """

    inputs: Tensor
    outputs: Tensor
    free: Tensor
    threshold: float

    @property
    def share(self) -> float:
        """Which part of all directions is kept."""
        return float(self.free.double().mean())

    def project(self, change: Tensor) -> Tensor:
        """P(Δ) for a change (o, i), in its dtype."""
        inputs, outputs = self.inputs.to(change.dtype), self.outputs.to(change.dtype)
        inside = (outputs.T @ change @ inputs) * self.free
        return outputs @ inside @ inputs.T

    def to(self, device: torch.device) -> FlatDirections:
        inputs, outputs, free = (t.to(device) for t in (self.inputs, self.outputs, self.free))
        return FlatDirections(inputs, outputs, free, self.threshold)


def flat_directions(
    a: Tensor, b: Tensor, *, energy: float | None = None, threshold: float | None = None
) -> FlatDirections:
    """Split the eigen-directions of B ⊗ A, for a (i, i) and b (o, o), by their eigenvalue.

    energy     remove the leading directions that hold this share of the trace; 0 removes none.
    threshold  in its place: keep eigenvalues below this value.
    Exactly one of the two. Equal eigenvalues are kept or removed together.
    """
    if (threshold is None) == (energy is None):
        raise ValueError("Give either threshold or energy.")
    (values_a, inputs), (values_b, outputs) = (torch.linalg.eigh(m.double()) for m in (a, b))
    curvature = values_b.clamp_min(0)[:, None] * values_a.clamp_min(0)  # (o, i)
    if energy is not None:
        falling = curvature.flatten().sort(descending=True).values
        before = falling.cumsum(0) - falling  # what the directions ahead of each one hold together
        removed = falling[before < energy * falling.sum()]
        threshold = float(removed[-1]) if len(removed) else float("inf")
    assert threshold is not None
    return FlatDirections(inputs, outputs, curvature < threshold, threshold)
