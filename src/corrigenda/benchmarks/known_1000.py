"""Facts that GPT-2 XL answers, for causal tracing (Meng et al. 2022, 2202.05262; MIT).

Fields: known_id, subject, attribute (the true answer), prompt, template, relation_id, prediction.
The rewrite states the fact as it is: its target is its true answer. The prompt is read rather than
the template, which in this file stops a word short of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..edit import Case
from ._records import Record, case

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"known_id", "attribute"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    attribute = record.get("attribute", str)
    edit = record.rewrite(
        record.get("prompt", str),
        record.get("subject", str),
        attribute,
        target_true=attribute,
        relation=record.get("relation_id", str, "") or None,
    )
    return case(
        record, edit, (), record.get("known_id", int), "known_1000", target_source="attribute"
    )
