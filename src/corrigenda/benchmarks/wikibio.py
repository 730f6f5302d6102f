"""KnowEdit's WikiBio: a wrong sentence in a generated biography, to be put right (Manakul et al.
2023; Hartvigsen et al. 2023, 2211.11031; Zhang et al. 2024, 2401.01286; MIT).

Fields: text (the passage up to the sentence), labels (the right sentence), concept (the person) and
locality {Relation_Specificity: [{prompt, ground_truth}]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..edit import Case
from ._records import Record, case
from .knowedit import questions

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"text", "labels", "concept"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    text, sentence = record.get("text", str), record.get("labels", str)
    edit = record.rewrite(text, record.get("concept", str), sentence)
    return case(
        record,
        edit,
        [record.rewrite_probe(edit, judge="overlap"), *questions(record, "locality")],
        record.row.get("id", ""),
        "knowedit_wikibio",
        target_source="labels",
    )
