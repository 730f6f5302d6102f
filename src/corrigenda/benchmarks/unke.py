"""UnKEBench: paragraphs as answers (Deng et al. 2024, 2405.15349).

Fields: id, question, para_question, answer (a paragraph), sub_question and sub_answer (as many of
either, about its sentences). No subject is named; the whole question stands for it, so that methods
that look a subject up take the question's last token, as the paper does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"question", "para_question", "answer"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    edit = record.whole(record.get("question", str), record.get("answer", str))
    return case(record, edit, _probes(record, edit), record.row.get("id", ""), "unke")


def _probes(record: Record, edit: Rewrite) -> Iterator[Probe]:
    yield record.rewrite_probe(edit, judge="overlap")
    yield record.probe(
        record.get("para_question", str),
        (edit.target,),
        "generalization",
        "paraphrase",
        judge="overlap",
    )
    questions, answers = record.texts("sub_question"), record.texts("sub_answer")
    if len(questions) != len(answers):
        raise record.wrong(
            f"there are {len(questions)} texts in sub_question and {len(answers)} in sub_answer"
        )
    for question, answer in zip(questions, answers, strict=True):
        if question.strip() and answer.strip():
            yield record.probe(question, (answer,), "portability", "sub_question", judge="overlap")
