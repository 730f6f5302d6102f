"""IKE with retrieval: the new facts nearest to the prompt go in front of it.

Zheng, Li, Dong, Fan, Wu, Xu, Chang 2023, 2305.12740. There a fact is put into the context of every
prompt; with many facts only some fit. Here the index is asked: with e(·) an embedding of texts and
k_j = e(prompt of edit j),

    shown(x) = the `limit` facts with the largest  cos(e(x), k_j),  those of at least `least`

the nearest one last. A prompt near no fact is left as it is, and its answer is that of the unedited
model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..context import Retrieval
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..models.text import TextModel
from ._retrieval import RetrievalEditor

__all__ = ["RAGIKE"]


@dataclass(frozen=True)
class RAGIKE(RetrievalEditor):
    """Put the nearest new facts into the context. See `RetrievalEditor` for the other fields.

    limit           at most this many facts are shown.
    least           smallest cosine with which a fact is shown; -1: the nearest always are.
    demonstrations  texts in front of the facts.
    """

    limit: int = 3
    least: float | None = None
    demonstrations: tuple[str, ...] = ()

    name: ClassVar[str] = "rag-ike"
    title: ClassVar[str] = "IKE with retrieval"
    paper: ClassVar[str] = "Zheng et al. 2023, 2305.12740"
    change: ClassVar[str] = "Prefix"
    paper_values: ClassVar[dict[str, Any]] = {"least": -1.0}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        least = self.least if self.least is None or self.least > -1 else None
        found = Retrieval(
            self.told(edits),
            self.keys(model, edits),
            query=self.query or "{}",
            head="".join(self.demonstrations),
            limit=self.limit,
            least=least,
            encoder=self.encoder,
        )
        return Solution({"context": found})
