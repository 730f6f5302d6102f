"""QAEdit: edits from question-answering sets (Yang et al. 2025, 2502.11177; Apache-2.0).

Fields: prompt, subject, target, rephrase and locality [{loc, loc_ans}]. The targets are true
answers that models get wrong, so there is no old answer to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..edit import Case
from ._records import Record, case

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"prompt", "target", "rephrase"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    edit = record.rewrite(
        record.get("prompt", str), record.get("subject", str), record.get("target", str)
    )
    probes = [
        record.probe(record.get("rephrase", str), (edit.target,), "generalization", "paraphrase")
    ]
    for item in record.get("locality", list, []):
        if not isinstance(item, dict) or not {"loc", "loc_ans"} <= item.keys():
            raise record.wrong("locality should hold {loc, loc_ans} objects")
        answers = (str(item["loc_ans"]),) if str(item["loc_ans"]).strip() else ()
        probes.append(record.probe(item["loc"], answers, "locality", "unrelated"))
    return case(record, edit, probes, record.row.get("id", ""), "qaedit", target_source="target")
