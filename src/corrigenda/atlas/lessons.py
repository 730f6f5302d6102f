"""Edits to train editors on, of facts that evaluations leave alone.

Methods with a trained part (KE, MEND, MALMEN, RLEdit, SERAC) learn from edits of other facts than
those that they are judged by. Kept for judging are the facts of `edits(n, seed)` for the seeds 0 to
9 and n up to 100; `lessons` draws from all others.
"""

from __future__ import annotations

import random

from ..edit import Case
from .closure import counterfactual, editable
from .graph import World
from .graph import world as shipped_world

__all__ = ["lessons", "reserved"]

SEEDS, EACH = range(10), 100


def reserved(world: World | None = None) -> frozenset[tuple[str, str]]:
    """The facts (subject, relation) that are kept for judging."""
    facts = editable(shipped_world() if world is None else world)
    each = min(EACH, len(facts))
    return frozenset(
        fact for seed in SEEDS for fact in random.Random(f"edits/{seed}").sample(facts, each)
    )


def lessons(n: int | None = None, seed: int = 0, world: World | None = None) -> list[Case]:
    """Random counterfactual edits of facts that are not reserved, each fact at most once.

    n  at most so many; None: of all such facts.
    """
    world = shipped_world() if world is None else world
    kept = reserved(world)
    free = [fact for fact in editable(world) if fact not in kept]
    rng = random.Random(f"lessons/{seed}")
    chosen = rng.sample(free, len(free) if n is None else min(n, len(free)))
    return [
        counterfactual(world, rng, subject, relation, f"{world.name}-lesson-{seed}-{number:04d}")
        for number, (subject, relation) in enumerate(chosen)
    ]
