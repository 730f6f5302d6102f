"""LEME: long passages about the edited subject and a related entity (Rosati et al. 2024, 2402.09394;
MIT).

Records are those of CounterFact or zsRE with coupled_prompts_and_properties {subject_entity
{coupled_prompt, ground_truth}, coupled_entities [{entity, coupled_prompt, ground_truth or
overlapping_ground_truth}]}; in some files the field is called dependancies. The prompts ask for an
essay. The passages are kept for metrics of long texts; the old facts are in `meta`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..edit import Case, Probe
from . import counterfact, zsre
from ._records import Record

__all__ = ["matches", "to_case"]

NAMES = ("coupled_prompts_and_properties", "dependancies")


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return any(name in row for name in NAMES)


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    base = (counterfact if counterfact.matches(record.row) else zsre).to_case(record)
    name = next((name for name in NAMES if record.row.get(name) is not None), None)
    if name is None:
        raise record.unusable("it has no coupled entity")
    coupled = record.part(record.row[name], name)
    subject = coupled.part(coupled.get("subject_entity", dict), "subject_entity")
    related = coupled.parts("coupled_entities")
    old = {"subject": subject.get("ground_truth", dict, {})}
    for one in related:
        facts = one.row.get("ground_truth", one.row.get("overlapping_ground_truth"))
        old[one.get("entity", str)] = facts or {}
    return replace(
        base,
        probes=(*base.probes, *_passages(subject, related, base.edit.target)),
        source=f"leme ({base.source})",
        meta=base.meta | {"old_facts": old},
    )


def _passages(subject: Record, related: list[Record], target: str) -> Iterator[Probe]:
    prompt = subject.get("coupled_prompt", str)
    if related:
        prompt += f"\n- relationship to {related[0].get('entity', str)}"
    yield subject.probe(prompt, (target,), "generalization", "main_passage", judge="record")
    for one in related[:1]:
        asked = one.get("coupled_prompt", str)
        yield one.probe(asked, (target,), "portability", "related_passage", judge="record")
