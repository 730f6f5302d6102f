"""How two deltas relate: where they overlap and whether they pull the same way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from .delta import Delta, Dense, LowRank
from .numerics.lowrank import inner

__all__ = ["Difference", "change_inner", "difference"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two deltas side by side.

    norms    {parameter: (Frobenius norm in a, in b)}; 0 where one does not touch it.
    cosines  {parameter: cosine between the two changes} where both touch it: 1 the same
             direction, 0 unrelated, -1 opposite.
    cosine   over all parameters together.
    common   edits that both were solved for; `only_a`, `only_b` the others.
    """

    a: str
    b: str
    norms: dict[str, tuple[float, float]]
    cosines: dict[str, float]
    cosine: float
    common: tuple[dict[str, Any], ...]
    only_a: tuple[dict[str, Any], ...]
    only_b: tuple[dict[str, Any], ...]

    @property
    def shared(self) -> tuple[str, ...]:
        """Parameters that both change."""
        return tuple(self.cosines)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.a[:12]} and {self.b[:12]}: cosine {self.cosine:+.4f}"]
        for name, (a, b) in self.norms.items():
            beside = f", cosine {self.cosines[name]:+.4f}" if name in self.cosines else ""
            lines.append(f"  {name}: norms {a:.4g} and {b:.4g}{beside}")
        lines.append(
            f"  edits: {len(self.common)} in common, "
            f"{len(self.only_a)} only in the first, {len(self.only_b)} only in the second"
        )
        return "\n".join(lines)


def difference(a: Delta, b: Delta) -> Difference:
    """Compare two deltas site by site."""
    ours, theirs = a.weights, b.weights
    names = list(dict.fromkeys([*ours, *theirs]))
    norms_a, norms_b = a.norms(), b.norms()
    norms = {n: (norms_a.get(n, 0.0), norms_b.get(n, 0.0)) for n in names}
    products = {n: change_inner(ours[n], theirs[n]) for n in names if n in ours and n in theirs}
    whole_a = sum(x * x for x, _ in norms.values()) ** 0.5
    whole_b = sum(y * y for _, y in norms.values()) ** 0.5
    said_a = {_key(e): e for e in a.provenance.edits}
    said_b = {_key(e): e for e in b.provenance.edits}
    return Difference(
        a=a.id,
        b=b.id,
        norms=norms,
        cosines={n: _cosine(p, *norms[n]) for n, p in products.items()},
        cosine=_cosine(sum(products.values()), whole_a, whole_b),
        common=tuple(e for k, e in said_a.items() if k in said_b),
        only_a=tuple(e for k, e in said_a.items() if k not in said_b),
        only_b=tuple(e for k, e in said_b.items() if k not in said_a),
    )


def change_inner(a: LowRank | Dense, b: LowRank | Dense | Tensor) -> float:
    """Frobenius inner product of two changes (or a change and a matrix) of one shape, float64."""
    if isinstance(b, LowRank):
        if isinstance(a, LowRank):
            return inner(a.u, a.v, b.u, b.v)
        a, b = b, a
    other = b.d if isinstance(b, Dense) else b
    if isinstance(a, LowRank):
        return float((a.u.double() * (other.double() @ a.v.double().T)).sum())  # tr(uᵀ M vᵀ)
    return float((a.d.double() * other.double()).sum())


def _cosine(product: float, a: float, b: float) -> float:
    return max(-1.0, min(1.0, product / (a * b))) if a > 0 and b > 0 else 0.0


def _key(edit: dict[str, Any]) -> str:
    return json.dumps(edit, sort_keys=True, default=str)
