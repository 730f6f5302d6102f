"""Harmful questions by category, without attacks and answers (from SafeEdit, Wang et al. 2024,
2403.14472; MIT as EasyEdit).

Fields: question, category. One concept, "harm", of questions labelled by their category.
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
    return {"question", "category"} <= row.keys() and "answer" not in row


def gather(records: Iterable[Record]) -> Iterator[Case]:
    """One case. Raises `DataError` naming the record if a field is missing or of the wrong type."""
    return concepts(
        records,
        lambda r: ("harm", r.get("question", str), r.get("category", str)),
        "safeedit_questions",
    )
