"""What MALMEN and RLEdit share: the changes that a network wants, met in the least-squares sense.

For tokens t with inputs x_t and output gradients δ_t, the network's (x̃_t, δ̃_t) say how the output
at x_t should change; one matrix serves all tokens of all edits as well as it can:

    D_t = -η (x_tᵀ x̃_t) δ̃_t        Δ = argmin ‖X Δᵀ - D‖² + e^λ ‖Δ‖²

with η and λ learned for each linear map. The network is run and differentiated in chunks of tokens,
whose gradients ∂L/∂D are had in closed form (`numerics/normal.py`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..edit import Rewrite
from ..model import Site
from ..models.text import TextModel
from ..numerics.normal import NormalEquations
from ._factor_network import FactorEditor, FactorNetwork, lively
from ._gradients import Factors
from ._lessons import Changes, Lesson, changed, outer_loss

__all__ = ["LeastSquaresEditor"]


@dataclass(frozen=True)
class LeastSquaresEditor(FactorEditor):
    """See `FactorEditor` for other fields.

    chunk  tokens that the network is run on at a time; it changes memory and not results.
    """

    chunk: int = 4096

    tokens: ClassVar[Literal["reads", "all"]] = "reads"
    together: ClassVar[int | None] = None
    later: ClassVar[frozenset[str]] = frozenset({"trained", "seed", "chunk"})

    def made(
        self,
        model: TextModel,
        network: FactorNetwork,
        edits: Sequence[Rewrite],
        factors: Mapping[Site, Factors],
    ) -> Changes:
        return {site: fit.change for site, fit in self._fits(network, factors).items()}

    def _fits(self, network: FactorNetwork, factors: Mapping[Site, Factors]) -> dict[Site, _Fit]:
        with torch.no_grad():
            return {site: self._fit(network, j, f) for j, (site, f) in enumerate(factors.items())}

    def _fit(self, network: FactorNetwork, j: int, f: Factors) -> _Fit:
        x, d = lively(f)
        parts = zip(x.split(self.chunk), d.split(self.chunk), strict=True)
        wanted = torch.cat([_wanted(network, j, *part) for part in parts])
        equations = NormalEquations.of(x, float(network.log_ridges[j].exp()))
        return _Fit(x, d, equations, equations.solve(wanted))

    def taught(
        self,
        model: TextModel,
        network: FactorNetwork,
        lessons: Sequence[Lesson],
        replay: Sequence[tuple[float, Sequence[Lesson]]],
        draw: random.Random,
        before: Changes = MappingProxyType({}),
        penalty: float = 0.0,
    ) -> tuple[dict[str, float], Changes]:
        """Add the gradient of the training loss of one joint edit to the network's parameters.

        replay   (weight, lessons) that the change is judged on.
        before   what is changed already; this change comes on top of it.
        penalty  weight of ‖Δ‖².

        Returns the losses and the change.
        """
        with changed(model, [before]):
            fits = self._fits(network, self.factors(model, [lesson.edit for lesson in lessons]))
        made = {site: fit.change for site, fit in fits.items()}
        leaves = {site: (u.clone().requires_grad_(), v) for site, (u, v) in made.items()}
        seen = {"loss": 0.0, "nll": 0.0, "kl": 0.0}
        for weight, some in replay:
            nll, kl = outer_loss(model, [leaves], [some], draw, before)
            loss = weight * self.weighted(network, nll, kl)
            loss.backward()
            for key, value in (("loss", loss), ("nll", weight * nll), ("kl", weight * kl)):
                seen[key] += float(value.detach())
        if penalty:
            norms = sum(((u.T @ u) * (v @ v.T)).sum() for u, v in leaves.values())
            loss = penalty * torch.as_tensor(norms)
            loss.backward()
            seen["loss"] += float(loss.detach())
        for j, (site, fit) in enumerate(fits.items()):
            gradient = leaves[site][0].grad
            assert gradient is not None
            self._backward(network, j, fit, gradient)
        return seen, made

    def _backward(self, network: FactorNetwork, j: int, fit: _Fit, gradient: Tensor) -> None:
        """From ∂L/∂u (o, n) into the network, a chunk at a time."""
        backward = fit.equations.solve(gradient.T)  # ∂L/∂D (n, o)
        ridge = torch.zeros_like(network.log_ridges)
        ridge[j] = fit.equations.ridge_gradient(fit.solved, backward).to(ridge)
        network.log_ridges.backward(ridge)
        parts = (t.split(self.chunk) for t in (fit.inputs, fit.gradients, backward.float()))
        for x, d, wanted in zip(*parts, strict=True):
            _wanted(network, j, x, d).backward(wanted)

    def learn(
        self,
        model: TextModel,
        network: FactorNetwork,
        lessons: Sequence[Lesson],
        draw: random.Random,
    ) -> dict[str, float]:
        return self.taught(model, network, lessons, [(1.0, lessons)], draw)[0]


@dataclass(frozen=True, slots=True)
class _Fit:
    """The solved change of one map: its tokens' factors, the equations, and A (n, o) with Δ = AᵀX."""

    inputs: Tensor
    gradients: Tensor
    equations: NormalEquations
    solved: Tensor

    @property
    def change(self) -> tuple[Tensor, Tensor]:
        return self.solved.T.float(), self.inputs


def _wanted(network: FactorNetwork, j: int, x: Tensor, d: Tensor) -> Tensor:
    """D (n, o) of tokens with inputs (n, i) and output gradients (n, o)."""
    to, of = network(j, x, d)
    return -network.steps[j] * (x * to).sum(1, keepdim=True) * of
