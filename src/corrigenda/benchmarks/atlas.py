"""Cases of the embedded worlds, whose facts and consequences are all known."""

from __future__ import annotations

from collections.abc import Callable

from ..edit import Case

__all__ = ["MADE", "cases", "census", "lingual", "long_objects", "ripple"]

USUAL = 100


def cases(limit: int | None = None, seed: int = 0, world: str = "atlas") -> list[Case]:
    """Counterfactual edits with all their consequences as probes, 100 unless told; at most as many
    as the world has facts to edit (atlas 3,632, census 15,700)."""
    from ..atlas.closure import edits
    from ..atlas.worlds import world_named

    return edits(_wanted(limit, world), seed, world=world_named(world))


def _wanted(limit: int | None, world: str = "atlas") -> int:
    from ..atlas.closure import editable
    from ..atlas.worlds import world_named

    return USUAL if limit is None else min(limit, len(editable(world_named(world))))


def long_objects(limit: int | None = None, seed: int = 0) -> list[Case]:
    """The same, only of objects of several words: an answer must be right to its end."""
    wanted = USUAL if limit is None else limit
    pool = cases(min(20 * wanted, 3000), seed)
    return [case for case in pool if " " in case.edit.target][:wanted]


def ripple(limit: int | None = None, seed: int = 0) -> list[Case]:
    """The same edits with every fact that must follow and the facts next to them that must stay."""
    from ..atlas.ripple import cases

    return cases(_wanted(limit), seed)


def lingual(limit: int | None = None, seed: int = 0) -> list[Case]:
    """Edits in English, French, German and Spanish in turn, each asked in all four."""
    from ..atlas.lingual import cases

    return cases(_wanted(limit), seed)


def census(limit: int | None = None, seed: int = 0) -> list[Case]:
    """Counterfactual edits of the larger world, at most 15,700."""
    return cases(limit, seed, "census")


MADE: dict[str, Callable[[int | None, int], list[Case]]] = {
    "atlas": cases,
    "atlas_long": long_objects,
    "atlas_ripple": ripple,
    "atlas_lingual": lingual,
    "census": census,
}
"""Data sets that are made from the world as they are asked for, rather than read from a file."""
