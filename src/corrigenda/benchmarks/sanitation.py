"""KnowEdit's Sanitation: answers that a model should refuse to give (Ishibashi and Shimodaira 2023,
2309.11852; Zhang et al. 2024, 2401.01286; MIT).

The file is one object {"K_F": [...], "K_R": [...]}. K_F are questions to be forgotten: question,
ground_truth, target_new (the refusal), mostly subject. K_R are questions to be kept: question,
ground_truth. Each edit is judged by its share of those to be kept, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case
from ._records import Record, case, flat

__all__ = ["matches", "parts", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"K_F", "K_R"} <= row.keys()


def parts(record: Record) -> Iterator[Record]:
    """One record per question to be forgotten, with its share of those to be kept."""
    forgotten, kept = record.parts("K_F"), record.parts("K_R")
    for j, one in enumerate(forgotten):
        yield record.part(
            {**one.row, "kept": [other.row for other in kept[j :: len(forgotten)]], "id": j},
            f"K_F[{j}]",
        )


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    question, refusal = record.get("question", str), record.get("target_new", str)
    truth = flat(record.row.get("ground_truth"))
    known = truth[0] if truth else None
    subject = record.get("subject", str, "").strip()
    edit = (
        record.rewrite(question, subject, refusal, target_true=known)
        if subject
        else record.whole(question, refusal, target_true=known)
    )
    probes = [
        one.probe(one.get("question", str), flat(one.row.get("ground_truth")), "locality", "kept")
        for one in record.parts("kept")
    ]
    return case(record, edit, probes, record.row["id"], "knowedit_sanitation")
