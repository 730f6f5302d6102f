"""AnyEdit: a text of any length, piece by piece, each behind a key of its own.

Jiang et al. 2025, 2502.05628. What one hidden state can make a model say is limited, so the target
is cut into pieces of a few tokens, and the token before each piece is its key. See
`_unstructured.py` for the equations; with one piece this is UnKE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError
from ..models.tokens import Pieces
from ._unstructured import UnstructuredEditor

__all__ = ["AnyEdit"]


@dataclass(frozen=True)
class AnyEdit(UnstructuredEditor):
    """Long answers from several keys. See `UnstructuredEditor` for the other fields.

    piece  tokens of the target behind each key.
    """

    piece: int = 40

    name: ClassVar[str] = "anyedit"
    title: ClassVar[str] = "AnyEdit"
    paper: ClassVar[str] = "Jiang et al. 2025, 2502.05628"

    def keys(self, cut: Pieces) -> list[int]:
        if self.piece < 1:
            raise InputError(f"A piece of {self.piece} tokens is none. Give piece=1 or more.")
        return list(range(cut.start - 1, len(cut.ids) - 1, self.piece))
