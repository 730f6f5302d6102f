"""CORE: MEMIT with values that hold in any context.

Park, Choi, Kim, Jo 2025, 2505.23026 ("Context-Robust Knowledge Editing", CoRE).

An edit that works on the bare prompt may fail after other text, because the hidden states above
the edited layer then differ. The value search gets one more term: with h_j^l the output of block l
at the subject's last token after the j-th context, over all blocks above the edited ones,

    agreement · mean_l  Σ_{i<j} ‖h_i^l - h_j^l‖² / d

The sum over pairs is m Σ‖h_j‖² - ‖Σ h_j‖², so it costs nothing beside the forward pass. Keys and
writes are MEMIT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..models.moments import Statistics
from ..models.text import TextModel
from ._keyvalue import Look, Term
from ._spread import MEMIT_VALUES, Past, SpreadEditor, Writer, ridge_writer

__all__ = ["CORE", "disagreement"]


def disagreement(look: Look) -> Tensor:
    """(k,) mean over the upper layers of the squared distances between contexts, over d."""
    hidden, facts = look.hidden, len(look.delta)  # (l, r, d)
    centred = hidden - _mean(hidden, look.fact, facts)[:, look.fact]
    # Around their mean, m points have m Σ‖h‖² as the sum of squared distances over pairs.
    squares = centred.square().sum(-1)  # (l, r)
    sizes = look.fact.bincount(minlength=facts)
    pairs = squares.new_zeros(len(hidden), facts).index_add(1, look.fact, squares) * sizes
    return pairs.mean(0) / hidden.shape[-1]


def _mean(hidden: Tensor, fact: Tensor, facts: int) -> Tensor:
    """(l, k, d) mean over the rows of each fact."""
    layers, _, width = hidden.shape
    total = hidden.new_zeros(layers, facts, width).index_add(1, fact, hidden)
    return total / fact.bincount(minlength=facts)[:, None]


@dataclass(frozen=True)
class CORE(SpreadEditor):
    """MEMIT whose values agree between contexts. See `KeyValueEditor` for the other fields.

    weight     λ: how much ordinary keys are preserved against how well the facts are fitted.
    agreement  weight of the distances between contexts in the value search.
    """

    weight: float | None = None
    agreement: float | None = None

    name: ClassVar[str] = "core"
    title: ClassVar[str] = "CORE"
    paper: ClassVar[str] = "Park et al. 2025, 2505.23026"
    paper_values: ClassVar[dict[str, Any]] = {
        **MEMIT_VALUES,
        "weight": 15000.0,
        "agreement": 0.01,
        "prefixes": ((15, 10),),
    }

    def terms(self) -> tuple[Term, ...]:
        agreement = self.agreement
        return (lambda look: agreement * disagreement(look),) if agreement else ()

    def writer(self, model: TextModel, statistics: Statistics, past: Past) -> Writer:
        assert self.weight is not None
        return ridge_writer(model, statistics, self.weight)
