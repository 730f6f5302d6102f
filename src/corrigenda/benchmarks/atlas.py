"""Cases of the embedded world, whose facts and consequences are all known."""

from __future__ import annotations

from ..edit import Case

__all__ = ["cases", "long_objects"]

USUAL = 100


def cases(limit: int | None = None, seed: int = 0) -> list[Case]:
    """Counterfactual edits with all their consequences as probes, 100 unless told."""
    from ..atlas import edits

    return list(edits(USUAL if limit is None else limit, seed))


def long_objects(limit: int | None = None, seed: int = 0) -> list[Case]:
    """The same, only of objects of several words: an answer must be right to its end."""
    wanted = USUAL if limit is None else limit
    pool = cases(min(20 * wanted, 3000), seed)
    return [case for case in pool if " " in case.edit.target][:wanted]
