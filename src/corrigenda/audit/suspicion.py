"""Was this checkpoint edited? One checkpoint alone, without the one it came from.

A rank-one change that is large beside the weights leaves two marks (Youssef et al. 2025, 2505.20819):
a first singular value that stands apart from the second, and rows that point the same way. For
every linear map of the blocks, with singular values σ and unit rows r_a (and columns likewise),

    gap      log σ_1 / σ_2
    rows     root mean square of cos(r_a, r_b) over a ≠ b
    columns  the same of columns

What is usual differs between roles and models, so each is compared with the same role's in the other
layers: the *excess* is the measure minus the median of its siblings. A checkpoint's score is its
largest excess. Scores of checkpoints that were never edited calibrate it: the p-value of a score
is the share of them that reach it, itself counted among them,

    p = (1 + #{unedited scores >= score}) / (1 + #unedited),

so that "p <= a" is said of at most a share a of unedited checkpoints like them (conformal; Vovk et
al. 2005). Changes that are spread over many directions, as fine-tuning makes them, leave no such
mark, and neither do edits that are small beside the weights.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..models.linear import is_linear, matrix
from ..models.text import TextModel

__all__ = [
    "MEASURES",
    "Measure",
    "Suspect",
    "excesses",
    "marks",
    "measured",
    "p_value",
    "score",
    "suspicion",
    "threshold",
]

Measure = Literal["gap", "rows", "columns"]
MEASURES: tuple[Measure, ...] = ("gap", "rows", "columns")


@dataclass(frozen=True, slots=True)
class Suspect:
    """One linear map: what was measured of it, and how far that is from its siblings.

    group  the role that it shares with its siblings.
    """

    tensor: str
    group: str
    measures: Mapping[Measure, float]
    excess: Mapping[Measure, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def marks(weight: Tensor) -> dict[Measure, float]:
    """The measures of one matrix (o, i); unchanged by its sign, its scale and its transposition
    (which exchanges rows and columns)."""
    w = weight.detach().cpu().double()
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    first, second = torch.linalg.eigvalsh(small).clamp_min(0).flip(0)[:2].sqrt().tolist()
    gap = math.log(first / second) if second > 0 else math.inf if first > 0 else 0.0
    return {"gap": gap, "rows": _likeness(w), "columns": _likeness(w.T)}


def _likeness(w: Tensor) -> float:
    """Root mean square cosine between different rows, from ‖R Rᵀ‖_F = ‖Rᵀ R‖_F."""
    n = len(w)
    if n < 2:
        return 0.0
    r = torch.nn.functional.normalize(w, dim=1)
    r = r[r.norm(dim=1) > 0.5]  # rows of zeros point nowhere
    gram = r @ r.T if len(r) <= r.shape[1] else r.T @ r
    pairs = len(r) * (len(r) - 1)
    return math.sqrt(max(float(gram.square().sum()) - len(r), 0.0) / pairs) if pairs else 0.0


def measured(
    model: TextModel, only: Iterable[str] | None = None
) -> dict[str, tuple[str, dict[Measure, float]]]:
    """{tensor: (role, measures)} for every linear map of the blocks, as the model is now.

    only  names of parameters; all if None.
    """
    wanted = None if only is None else set(only)
    found: dict[str, tuple[str, dict[Measure, float]]] = {}
    for layer in range(model.n_layers):
        row, index = model.row(layer)
        block = f"{row.blocks}.{index}"
        for path, module in model.block(layer).named_modules():
            name = f"{block}.{path}.weight"
            if path and is_linear(module) and (wanted is None or name in wanted):
                found[name] = f"{row.blocks}.*.{path}", marks(matrix(module))
    return found


def excesses(
    found: Mapping[str, tuple[str, Mapping[Measure, float]]],
) -> tuple[Suspect, ...]:
    """Every map beside its siblings. One without siblings has no excess and is left out."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, (group, _) in found.items():
        groups[group].append(name)
    suspects = []
    for group, names in groups.items():
        for name in names if len(names) > 1 else ():
            own = found[name][1]
            usual = {
                m: median(found[other][1][m] for other in names if other != name) for m in MEASURES
            }
            suspects.append(
                Suspect(name, group, dict(own), {m: own[m] - usual[m] for m in MEASURES})
            )
    return tuple(suspects)


def suspicion(model: TextModel, by: Measure = "gap") -> tuple[Suspect, ...]:
    """The linear maps of a model, the most suspicious first.

    Raises `InputError` for a model with one layer, where nothing can be compared.
    """
    found = excesses(measured(model))
    if not found:
        raise InputError(
            f"{model.id} has no linear map with a sibling in another layer, so nothing tells what "
            "is usual in it. Compare it with the model that it came from: `corrigenda diff`."
        )
    return tuple(sorted(found, key=lambda one: -one.excess[by]))


def score(suspects: Sequence[Suspect], by: Measure = "gap") -> float:
    """The largest excess: the score of a checkpoint."""
    return max(one.excess[by] for one in suspects)


def p_value(value: float, unedited: Sequence[float]) -> float:
    """The share of unedited scores that reach this one, itself counted among them; 1 with none."""
    return (1 + sum(other >= value for other in unedited)) / (1 + len(unedited))


def threshold(unedited: Sequence[float], rate: float) -> float:
    """The score above which at most a share `rate` of checkpoints like the unedited ones lies.

    Infinite when there are too few of them for that rate (fewer than 1/rate - 1).

    Raises `InputError` for a rate that is no share.
    """
    if not 0 < rate < 1:
        raise InputError(f"A false-positive rate lies between 0 and 1; {rate} does not.")
    place = math.ceil((len(unedited) + 1) * (1 - rate))
    return sorted(unedited)[place - 1] if place <= len(unedited) else math.inf
