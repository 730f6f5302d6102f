"""KnowEdit's sets of facts: ZsRE, WikiData_recent and WikiData_counterfact (Yao et al. 2023,
2305.13172; Zhang et al. 2024, 2401.01286; MIT).

Fields: subject, prompt, target_new, ground_truth (texts, in some files nested), rephrase_prompt or
rephrase, locality {Relation_Specificity, Forgetfulness: [{prompt, ground_truth}]} and portability
{Subject_Aliasing, Reasoning, Logical_Generalization: [{prompt, ground_truth}]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..edit import Axis, Case, Probe
from ._records import Record, case, flat

__all__ = ["KINDS", "matches", "questions", "to_case"]

KINDS = {
    "relation_specificity": "same_subject",
    "relation_specifity": "same_subject",  # so spelled in some files
    "forgetfulness": "one_to_many",
    "subject_aliasing": "alias",
    "reasoning": "one_hop",
    "logical_generalization": "logical",
}
"""Kinds of probes by the file's names for them."""


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"prompt", "target_new"} <= row.keys() and (
        isinstance(row.get("portability"), dict) or isinstance(row.get("locality"), dict)
    )


def to_case(record: Record, source: str = "knowedit") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    truth = flat(record.row.get("ground_truth"))
    edit = record.rewrite(
        record.get("prompt", str),
        record.get("subject", str),
        record.get("target_new", str),
        target_true=truth[0] if truth else None,
    )
    probes = [
        record.probe(prompt, (edit.target,), "generalization", "paraphrase", foil=edit.target_true)
        for prompt in flat(record.row.get("rephrase_prompt") or record.row.get("rephrase"))
    ]
    probes += questions(record, "locality")
    probes += questions(record, "portability")
    return case(
        record,
        edit,
        probes,
        record.row.get("id", record.row.get("case_id", "")),
        source,
        target_source="target_new",
    )


def questions(record: Record, axis: Axis) -> list[Probe]:
    """The probes under "locality" or "portability", by KnowEdit's names for their kinds."""
    probes = []
    for name, items in record.get(axis, dict, {}).items():
        kind = KINDS.get(str(name).lower().replace(" ", "_"), str(name).lower())
        if not isinstance(items, list):
            raise record.wrong(f"{axis}.{name} should be a list of {{prompt, ground_truth}}")
        for item in items:
            if not isinstance(item, dict) or "prompt" not in item or "ground_truth" not in item:
                raise record.wrong(f"{axis}.{name} should hold {{prompt, ground_truth}} objects")
            answers = [text for text in flat(item["ground_truth"]) if text.strip()]
            if answers or axis == "locality":
                prompts = flat(item["prompt"]) if isinstance(item["prompt"], list) else None
                prompt = prompts[0] if prompts else item["prompt"]
                probes.append(record.probe(prompt, answers, axis, kind))
    return probes
