"""LEME's annotations: whether a passage supports a claim, as people say (Rosati et al. 2024,
2402.09394; MIT).

Fields: content ("Passage: ... Claim: ..."), classification (supports, contradicts, neutral) and
method, label, question_type. One concept, "entailment", of labelled texts: for checking a judge of
entailment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..edit import Case
from ._concepts import concepts
from ._records import Record

__all__ = ["gather", "matches"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"content", "classification"} <= row.keys()


def gather(records: Iterable[Record]) -> Iterator[Case]:
    """One case. Raises `DataError` naming the record if a field is missing or of the wrong type."""
    return concepts(
        records,
        lambda r: ("entailment", r.get("content", str), r.get("classification", str)),
        "leme_annotations",
    )
