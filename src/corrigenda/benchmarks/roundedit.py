"""RoundEdit: an edit and its reversal by editing (Li et al. 2023, 2310.02129; MIT).

Fields: type, edit {relation {id, prompt, query}, subject {label}, object {label}, new_object
{label}} and true_objects [{label}], all objects that the relation has. The fact is edited from o to
o* and then back to o. What the round trip did to the other true objects is for metrics over their
probabilities (D, IR, FR): probes of the kind "other_object" are kept for them. Prompt variants come
from round_prompts.json beside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case
from .conflictedit import fact, variants

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"edit", "true_objects"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    there = fact(record.part(record.get("edit", dict), "edit"))
    if there.target_true is None:
        raise record.unusable("the fact has no object to go back to")
    back = replace(there, target=there.target_true, target_true=there.target)
    return case(
        record,
        there,
        _probes(record, back),
        record.row.get("id", ""),
        "roundedit",
        also=[back],
        in_turn=True,
        type=record.get("type", str, ""),
    )


def _probes(record: Record, back: Rewrite) -> Iterator[Probe]:
    yield record.probe(back.text, (back.target,), "efficacy", "round_trip", foil=back.target_true)
    for prompt in variants(record, "round_prompts.json", back):
        yield record.probe(
            prompt.rstrip(), (back.target,), "generalization", "paraphrase", foil=back.target_true
        )
    for item in record.parts("true_objects"):
        name = item.get("label", str)
        if name.strip() and name != back.target:
            yield record.probe(back.text, (name,), "locality", "other_object", judge="record")
