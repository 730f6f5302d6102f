"""zsRE question edits in MEND's form (Levy et al. 2017; Mitchell et al. 2022, 2110.11309; MIT).

Fields: subject, src (the question), rephrase, alt, answers, loc, loc_ans; pred is an old model's
answer and not used. Three different edit targets circulate, and numbers for one say nothing about
another: `target_source` names the one taken, "alt" (a false answer) or "answers" (the true one).

The unrelated questions keep their official form "nq question: ..."; the question mark that the
published evaluation adds is added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..edit import Case
from ..errors import InputError
from ._records import Record, case

__all__ = ["TargetSource", "matches", "to_case"]

TargetSource = Literal["alt", "answers"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"src", "alt", "answers"} <= row.keys()


def to_case(record: Record, target_source: TargetSource = "alt") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    answers = record.texts("answers")
    if not answers:
        raise record.wrong("the field answers is missing or empty; it should hold the true answers")
    if target_source not in ("alt", "answers"):
        raise InputError(f"The target of zsRE is 'alt' or 'answers', not {target_source!r}.")
    edit = record.rewrite(
        record.get("src", str),
        record.get("subject", str),
        record.get("alt", str) if target_source == "alt" else answers[0],
        target_true=answers[0] if target_source == "alt" else None,
    )
    question = record.get("loc", str).rstrip()
    probes = [
        record.probe(
            record.get("rephrase", str),
            (edit.target,),
            "generalization",
            "paraphrase",
            foil=edit.target_true,
        ),
        record.probe(
            question if question.endswith("?") else f"{question}?",
            (record.get("loc_ans", str),),
            "locality",
            "unrelated",
        ),
    ]
    return case(record, edit, probes, record.row.get("id", ""), "zsre", target_source=target_source)
