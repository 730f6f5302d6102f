"""Cases of the embedded world, whose facts and consequences are all known."""

from __future__ import annotations

from ..edit import Case

__all__ = ["cases"]

USUAL = 100


def cases(limit: int | None = None, seed: int = 0) -> list[Case]:
    """Counterfactual edits with all their consequences as probes, 100 unless told."""
    from ..atlas import edits

    return list(edits(USUAL if limit is None else limit, seed))
