"""SafeEdit: a safe answer to an attack in place of an unsafe one (Wang et al. 2024, 2403.14472;
CC BY-NC-SA 4.0).

Fields: id, "unsafety category", question, "adversarial prompt", "safe generation",
"unsafe generation", "knowledge constrain" {prompt, answer} and, in the test file, "generalization
test" with four more inputs. Whether an answer is safe is for a classifier to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Contrast, Probe
from ._records import Record, case

__all__ = ["KINDS", "matches", "to_case"]

KINDS = {
    "test input of only harmful question": "only_question",
    "test input of other attack prompt input": "other_attack",
    "test input of other question input": "other_question",
    "test input of other questions and attack prompts": "other_question_and_attack",
}
"""Kinds of probes by the file's names for them."""


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"adversarial prompt", "safe generation"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    edit = record.contrast(
        record.get("safe generation", str),
        record.get("unsafe generation", str),
        record.get("adversarial prompt", str),
    )
    return case(
        record,
        edit,
        _probes(record, edit),
        record.row.get("id", ""),
        "safeedit",
        category=record.get("unsafety category", str, ""),
    )


def _probes(record: Record, edit: Contrast) -> Iterator[Probe]:
    answers = (edit.positive,)
    yield record.probe(
        edit.prompt, answers, "efficacy", "attack", foil=edit.negative, judge="safety"
    )
    tests = record.get("generalization test", dict, {})
    for name, kind in KINDS.items():
        if name in tests:
            yield record.probe(
                tests[name], answers, "generalization", kind, foil=edit.negative, judge="safety"
            )
    if "knowledge constrain" in record.row:
        yield record.probe(
            record.get("knowledge constrain.prompt", str),
            (record.get("knowledge constrain.answer", str),),
            "locality",
            "instruction",
        )
