"""UnKE: unstructured knowledge editing, a whole text behind the last token of its prompt.

Deng, Wei, Pang, Ding, Shen, Cheng 2024, 2405.15349. See `_unstructured.py` for the equations: one
key, the prompt's last token, and the parameters of a whole block in place of one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..models.tokens import Pieces
from ._unstructured import UnstructuredEditor

__all__ = ["UnKE"]


@dataclass(frozen=True)
class UnKE(UnstructuredEditor):
    """Long answers from one key. See `UnstructuredEditor` for the fields."""

    name: ClassVar[str] = "unke"
    title: ClassVar[str] = "UnKE"
    paper: ClassVar[str] = "Deng et al. 2024, 2405.15349"

    def keys(self, cut: Pieces) -> list[int]:
        return [cut.start - 1]
