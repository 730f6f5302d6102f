"""Cases of the embedded worlds, whose facts and consequences are all known."""

from __future__ import annotations

from ..edit import Case

__all__ = ["cases", "long_objects"]

USUAL = 100


def cases(limit: int | None = None, seed: int = 0, world: str = "atlas") -> list[Case]:
    """Counterfactual edits with all their consequences as probes, 100 unless told; at most as many
    as the world has facts to edit (atlas 3,632, census 15,700)."""
    from ..atlas.closure import editable, edits
    from ..atlas.worlds import world_named

    one = world_named(world)
    wanted = USUAL if limit is None else min(limit, len(editable(one)))
    return edits(wanted, seed, world=one)


def long_objects(limit: int | None = None, seed: int = 0) -> list[Case]:
    """The same, only of objects of several words: an answer must be right to its end."""
    wanted = USUAL if limit is None else limit
    pool = cases(min(20 * wanted, 3000), seed)
    return [case for case in pool if " " in case.edit.target][:wanted]
