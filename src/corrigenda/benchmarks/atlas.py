"""Cases of the embedded world, whose facts and consequences are all known."""

from __future__ import annotations

from ..edit import Case

__all__ = ["cases"]

DEFAULT = 100


def cases(limit: int | None = None, seed: int = 0) -> list[Case]:
    """Counterfactual edits of facts that the embedded model knows, 100 unless told."""
    from ..atlas.edits import edits

    return edits(DEFAULT if limit is None else limit, seed)
