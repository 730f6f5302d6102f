"""AlphaEdit: MEMIT's writes, confined to the null space of ordinary keys.

Fang, Jiang, Wang, Ma, Shi, Wang, He, Chua 2024, 2410.02355.

With C = U Σ Uᵀ the second moment of keys over ordinary text, U₀ the eigenvectors of its small
eigenvalues and P = U₀U₀ᵀ, a change Δ = ΔP leaves the outputs of ordinary keys alone. Per layer

    Δ = R Kᵀ U₀ (U₀ᵀ(K Kᵀ + K_p K_pᵀ)U₀ + ridge·I)⁻¹ U₀ᵀ

where K_p are the keys of all earlier edits, so that those stay put too. After all layers are
written the new keys are read on the edited model and join K_p; they are kept in the delta's state,
so undoing an edit also removes its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..cache import cached_tensors
from ..errors import InputError
from ..live import tensor_hash
from ..model import Site
from ..models.moments import Statistics
from ..models.text import TextModel
from ..numerics.solve import Factor, inside, null_space, ridge_in
from ._spread import MEMIT_VALUES, Past, SpreadEditor, Writer, held

__all__ = ["AlphaEdit"]


@dataclass(frozen=True)
class AlphaEdit(SpreadEditor):
    """Sequences of edits that leave ordinary keys and earlier edits alone.

    threshold  eigenvalues of C below this span the null space (the paper's absolute rule).
    energy     in its place: the leading directions that hold this share of C's trace are
               protected, which does not depend on the scale of the activations.
    ridge      L2 weight on the change.
    """

    threshold: float | None = None
    energy: float | None = None
    ridge: float | None = None

    name: ClassVar[str] = "alphaedit"
    title: ClassVar[str] = "AlphaEdit"
    paper: ClassVar[str] = "Fang et al. 2024, 2410.02355"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {**MEMIT_VALUES, "ridge": 10.0, "threshold": 0.02}

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        ridge = self.ridge
        assert ridge is not None
        bases = self._null_spaces(model, statistics)
        held = {
            site: _held(model, site, basis, ridge, past.get(site)) for site, basis in bases.items()
        }
        return lambda site, keys, residuals: ridge_in(
            bases[site], keys, residuals, ridge, held=held[site]
        )

    def remarks(self, model: TextModel, statistics: Statistics) -> dict[str, Any]:
        bases = self._null_spaces(model, statistics)
        return {
            "null_space_share": {
                s.parameter: round(b.shape[1] / b.shape[0], 4) for s, b in bases.items()
            }
        }

    def _null_spaces(self, model: TextModel, statistics: Statistics) -> dict[Site, Tensor]:
        """U₀ (i, m) per site. Raises `InputError` where no direction is free."""
        rule: dict[str, float | None] = {"threshold": self.threshold}
        if self.energy is not None:
            rule = {"energy": self.energy}
        bases = {s: _basis(model, m.mean, rule) for s, m in statistics.moments.items()}
        for site, basis in bases.items():
            if basis.shape[1] == 0:
                raise InputError(
                    f"The null space at {site.module} is empty under {rule}: every direction is in "
                    "use. Raise the threshold, or use energy=0.9 or so."
                )
        return bases


def _held(model: TextModel, site: Site, basis: Tensor, ridge: float, past: Tensor | None) -> Factor:
    """The factor of UᵀK_pK_pᵀU + ridge·I."""

    def make(keys: Tensor | None) -> Factor:
        return inside(basis, ridge, keys)

    return held(
        model, site, past, make, lambda keys: basis.double().T @ keys.double(), id(basis), ridge
    )


def _basis(model: TextModel, moment: Tensor, rule: dict[str, float | None]) -> Tensor:
    """The eigendecomposition, from memory or the cache where it was made before."""
    key = f"null-{tensor_hash(moment)}-{rule}"
    return model.remembered(
        key, lambda: cached_tensors(key, lambda: {"basis": null_space(moment, **rule)[0]})["basis"]
    )
