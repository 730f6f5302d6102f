"""True and false statements (Marks and Tegmark 2023, 2310.06824; Azaria and Mitchell 2023; Casper et
al. 2023).

Fields: statement, label (1 true, 0 false, or a word) and, where several sets share a file, subset.
One concept per subset or, in the official .csv files, per file.
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
    return {"statement", "label"} <= row.keys()


def gather(records: Iterable[Record]) -> Iterator[Case]:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    return concepts(records, _statement, "truth_statements")


def _statement(record: Record) -> tuple[str, str, str]:
    label = str(record.row.get("label", "")).strip()
    label = {"1": "true", "0": "false"}.get(label, label.lower())
    if not label.isalpha():
        raise record.wrong(f"the label should be 1, 0 or a word, not {record.row.get('label')!r}")
    file = record.path.name.partition(".")[0] if record.path else "truth"
    return record.get("subset", str, file), record.get("statement", str), label
