"""CounterFact+: the edited sentence in front of every neighbour (Hoelscher-Obermaier et al. 2023,
2305.17553; MIT).

    "{rewrite prompt} {o*}. {neighbourhood prompt}"

It needs no file of its own: cases are those of CounterFact without the plain neighbours. The data
set `counterfact` asks both.
"""

from __future__ import annotations

from dataclasses import replace

from ..edit import Case
from . import counterfact
from ._records import Record

__all__ = ["matches", "to_case"]

matches = counterfact.matches


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    case = counterfact.to_case(record)
    kept = tuple(probe for probe in case.probes if probe.kind != "neighborhood")
    return replace(case, probes=kept, source=case.source.replace("counterfact", "counterfact_plus"))
