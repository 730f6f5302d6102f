"""How far an edited fact travels among agents that talk (generative agents: Park et al. 2023,
2304.03442).

A fact is edited into some of N agents, they live together, and all are asked.

    rate        agents that know it and remember hearing it / N
    density     2 E / (N (N - 1)): pairs of agents that know each other, of all pairs
    mutation    share of the knowers whose version differs from what was edited in

Whoever claims to know it without a memory of it made it up; such claims are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["Claim", "Hearsay", "density", "hearsay", "hops"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one agent said.

    knows       it claims to know the fact.
    remembered  a memory of hearing it was found.
    altered     its version is not the one that was edited in.
    """

    knows: bool
    remembered: bool = False
    altered: bool = False


@dataclass(frozen=True, slots=True)
class Hearsay:
    """Spread among n agents.

    rate          verified knowers / n, 0 to 1.
    hallucinated  claims without a memory; they count as not knowing.
    mutation      share of the verified knowers with another version; None without knowers.
    """

    rate: float
    hallucinated: int
    mutation: float | None
    n: int


def hearsay(claims: Iterable[Claim]) -> Hearsay:
    """Spread by what all agents claim. Raises `InputError` without agents."""
    claims = list(claims)
    if not claims:
        raise InputError("The spread of a fact needs agents to ask.")
    sure = [claim for claim in claims if claim.knows and claim.remembered]
    made_up = sum(claim.knows and not claim.remembered for claim in claims)
    mutation = sum(claim.altered for claim in sure) / len(sure) if sure else None
    return Hearsay(len(sure) / len(claims), made_up, mutation, len(claims))


def density(edges: Iterable[tuple[str, str]], agents: int) -> float:
    """Share of all pairs of agents that know each other, 0 to 1; a pair counts once.

    Raises `InputError` for fewer than two agents or an agent that knows itself.
    """
    pairs = {frozenset(edge) for edge in edges}
    if agents < 2 or any(len(pair) < 2 for pair in pairs):
        raise InputError(f"A density needs two agents or more and pairs of them; got {agents}.")
    return 2 * len(pairs) / (agents * (agents - 1))


def hops(heard_from: Mapping[str, str | None], agent: str) -> int | None:
    """How many tellings stand between an agent and one that was edited; None if there is no path.

    heard_from  whom each knower heard it from first; None for those it was edited into.
    """
    seen: set[str] = set()
    name, count = agent, 0
    while name in heard_from and name not in seen:
        seen.add(name)
        source = heard_from[name]
        if source is None:
            return count
        name, count = source, count + 1
    return None
