"""Entity Inferences: what follows from a new entity's definition, among candidates (Onoe et al. 2023,
2305.01651).

Fields as in ECBD, but a sentence has labels (candidates) and the record label, the right one; in
some files def_target and label are the plain words. The candidates of each sentence are in `meta`,
for the paper's measure: whether the right one is the likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe
from ._records import Record, case
from .ecbd import MASK, definition, sentences, span

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    asked = row.get("probe_sentences")
    return isinstance(asked, dict) and any(
        isinstance(one, dict) and "labels" in one for one in asked.values()
    )


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    asked = [
        (sentence, [span(text) for text in one.texts("labels")])
        for sentence, one in sentences(record)
    ]
    return case(
        record,
        definition(record),
        _probes(record, asked),
        record.row.get("ex_id", ""),
        "entity_inferences",
        candidates=[list(pair) for pair in asked],
        subset=record.get("subset", str, ""),
    )


def _probes(record: Record, asked: list[tuple[str, list[str]]]) -> Iterator[Probe]:
    right = span(record.get("label", str))
    for sentence, candidates in asked:
        left = sentence.partition(MASK)[0].rstrip()
        foil = next((other for other in candidates if other != right), None)
        if left:
            yield record.probe(left, (right,), "portability", "inference", foil=foil)
