"""Portability of zsRE and CounterFact edits (Yao et al. 2023, 2305.13172; MIT as EasyEdit).

Records are those of zsRE or CounterFact with one thing more:

one hop   portability {"New Question", "New Answer"}: needs the new object and one more known fact
alias     CounterFact alternative_subject; zsRE alter_subject_question
inverse   "inverse question", answered by the subject
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..edit import Case, Probe, Rewrite
from . import counterfact, zsre
from ._records import Record

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has one of these forms."""
    marks = {"alternative_subject", "alter_subject_question", "inverse question"}
    more = row.get("portability")
    return bool(marks & row.keys()) or (isinstance(more, dict) and "New Question" in more)


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    base = (counterfact if counterfact.matches(record.row) else zsre).to_case(record)
    assert isinstance(base.edit, Rewrite)
    probes = (*base.probes, *_more(record, base.edit))
    return replace(base, probes=probes, source=f"portability ({base.source})")


def _more(record: Record, edit: Rewrite) -> Iterator[Probe]:
    if "portability" in record.row:
        question = record.get("portability.New Question", str)
        answer = record.get("portability.New Answer", str)
        yield record.probe(question, (answer,), "portability", "one_hop")
    if "alternative_subject" in record.row:
        alias = record.get("alternative_subject", str)
        prompt = edit.prompt.replace("{}", alias, 1)
        yield record.probe(prompt, (edit.target,), "portability", "alias")
    if "alter_subject_question" in record.row:
        question = record.get("alter_subject_question", str)
        yield record.probe(question, (edit.target,), "portability", "alias")
    if "inverse question" in record.row:
        question = record.get("inverse question", str)
        yield record.probe(question, (edit.subject,), "portability", "inverse")
