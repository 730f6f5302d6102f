"""MQuAKE: multi-hop questions over edited facts (Zhong et al. 2023, 2305.14795).

Fields: case_id, requested_rewrite [{prompt, subject, relation_id, target_new, target_true,
question}] (one to four facts, edited together), questions (three wordings of one multi-hop
question), answer, answer_alias (before), new_answer, new_answer_alias (after), single_hops and
new_single_hops [{question, cloze, answer, answer_alias}]. MQuAKE-T adds answer_extended;
MQuAKE-Remastered writes target_new_str for target_new {"str"} in its Parquet files.

The multi-hop questions are one test of which any counts; the hops after the edit are one test of
which all count. Old answers are in `meta`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    rewrites = row.get("requested_rewrite")
    plain = isinstance(rewrites, list) and not any(
        isinstance(one, dict) and "fact_new_uns" in one for one in rewrites
    )
    return plain and {"questions", "new_answer"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    rewrites = record.parts("requested_rewrite")
    if not rewrites:
        raise record.wrong("the field requested_rewrite is empty; it should hold the edited facts")
    edits = [rewrite(one) for one in rewrites]
    return case(
        record,
        edits[0],
        [
            *(
                one.rewrite_probe(edit, group="edits")
                for one, edit in zip(rewrites, edits, strict=True)
            ),
            *_questions(rewrites, edits),
            *multi_hop(record),
            *_hops(record),
        ],
        record.row.get("case_id", ""),
        "mquake",
        also=edits[1:],
        target_source="target_new",
        old_answers=_answers(record, "answer") + record.texts("answer_extended"),
        old_hops=[
            [hop.get("question", str), _answers(hop, "answer")]
            for hop in record.parts("single_hops")
        ],
    )


def rewrite(record: Record) -> Rewrite:
    """One of the edited facts."""
    return record.rewrite(
        record.get("prompt", str),
        record.get("subject", str),
        _text(record, "target_new"),
        target_true=_text(record, "target_true"),
        relation=record.get("relation_id", str, "").strip() or None,
    )


def multi_hop(record: Record) -> Iterator[Probe]:
    """The wordings of the multi-hop question: one test, passed by any of them."""
    answers = _answers(record, "new_answer")
    old = record.get("answer", str, "").strip() or None
    for question in record.texts("questions"):
        yield record.probe(
            question,
            answers,
            "portability",
            "multi_hop",
            foil=old if old != answers[0] else None,
            group="multi_hop",
            require="any",
        )


def _questions(rewrites: list[Record], edits: list[Rewrite]) -> Iterator[Probe]:
    """The edited facts as questions."""
    for one, edit in zip(rewrites, edits, strict=True):
        if question := one.get("question", str, "").strip():
            yield one.probe(
                question, (edit.target,), "generalization", "question", foil=edit.target_true
            )


def _hops(record: Record) -> Iterator[Probe]:
    """The hops after the edit: one test, passed if each is answered."""
    for hop in record.parts("new_single_hops"):
        yield hop.probe(
            hop.get("question", str),
            _answers(hop, "answer"),
            "portability",
            "single_hop",
            group="single_hops",
        )


def _answers(record: Record, name: str) -> list[str]:
    return [record.get(name, str), *record.texts(f"{name}_alias")]


def _text(record: Record, name: str) -> str:
    flat = f"{name}_str"
    return record.get(flat if flat in record.row else f"{name}.str", str)
