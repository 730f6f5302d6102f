"""WikiBigEdit: changes of Wikidata in the order of time (Thede et al. 2025, 2503.05683).

Fields: tag ("new" or "update"), subject, relation, object, update (the question; in some files src),
ans (in some files alt), rephrase, personas (the question in another voice; in some files
genv2_mixed), loc, loc_ans, mhop, mhop_ans (both null for most). The file's dates are in its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"update", "ans"} <= row.keys() or {"mhop", "tag", "src", "alt"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    edit = record.rewrite(
        _either(record, "update", "src"),
        record.get("subject", str),
        _either(record, "ans", "alt"),
        relation=record.get("relation", str, "") or None,
    )
    return case(
        record,
        edit,
        _probes(record, edit),
        record.row.get("id", ""),
        "wikibigedit",
        tag=record.get("tag", str, ""),
        target_source="ans",
        step=record.path.name.partition(".")[0] if record.path else "",
    )


def _probes(record: Record, edit: Rewrite) -> Iterator[Probe]:
    target = (edit.target,)
    yield record.probe(record.get("rephrase", str), target, "generalization", "paraphrase")
    voice = record.get("personas", str, "") or record.get("genv2_mixed", str, "")
    if voice.strip():
        yield record.probe(voice, target, "generalization", "persona")
    if (question := record.get("loc", str, "")).strip():
        yield record.probe(question, (record.get("loc_ans", str),), "locality", "unrelated")
    if (question := record.get("mhop", str, "")).strip():
        yield record.probe(question, (record.get("mhop_ans", str),), "portability", "two_hop")


def _either(record: Record, name: str, other: str) -> str:
    return record.get(name if name in record.row or other not in record.row else other, str)
