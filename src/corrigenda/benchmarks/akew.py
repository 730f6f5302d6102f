"""AKEW: edits given as facts or as paragraphs that state them (Wu et al. 2024, 2402.18909).

Fields: requested_rewrite, one object (CounterFact, WikiUpdate) or a list of them (MQuAKE-CF), each
{prompt, subject, target_new {str} or answer_new, target_true {str} or answer_true, question,
fact_new_uns (the paragraph), unsfact_triplets_GPT [{subject, prompt, target}] (facts drawn from
it)}; CounterFact adds paraphrase_prompts and neighborhood_prompts, MQuAKE-CF questions and
new_answer, and some files loc and loc_ans.

Two forms of the edit: "unstructured", whose target is the paragraph, and "structured", the fact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ..edit import Case, Probe, Rewrite
from ._records import Record, case, flat
from .mquake import multi_hop

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    rewrites = row.get("requested_rewrite")
    first = rewrites[0] if isinstance(rewrites, list) and rewrites else rewrites
    return isinstance(first, dict) and "fact_new_uns" in first


def to_case(record: Record, form: Literal["unstructured", "structured"] = "unstructured") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    whole = record.row.get("requested_rewrite")
    one = isinstance(whole, dict)
    parts = [record.part(whole, "requested_rewrite")] if one else record.parts("requested_rewrite")
    if not parts:
        raise record.wrong("the field requested_rewrite is empty; it should hold the edited facts")
    facts = [_fact(part) for part in parts]
    text = form == "unstructured"
    edits = [_paragraph(p, f) for p, f in zip(parts, facts, strict=True)] if text else facts
    probes: list[Probe] = []
    for part, made, known in zip(parts, edits, facts, strict=True):
        probes.append(part.rewrite_probe(made, judge="overlap" if text else "contains"))
        probes += _questions(part, known)
    probes += [
        record.probe(
            prompt, (facts[0].target,), "generalization", "paraphrase", foil=facts[0].target_true
        )
        for prompt in record.texts("paraphrase_prompts")
    ]
    if "questions" in record.row:
        probes += multi_hop(record)
    return case(
        record,
        edits[0],
        [*probes, *_locality(record, facts[0])],
        record.row.get("case_id", ""),
        "akew",
        also=edits[1:],
        target_source="fact_new_uns" if text else "target_new",
        form=form,
    )


def _fact(record: Record) -> Rewrite:
    return record.rewrite(
        record.get("prompt", str),
        record.get("subject", str),
        _answers(record, "new")[0],
        target_true=next(iter(_answers(record, "true", needed=False)), None),
        relation=record.get("relation_id", str, "") or None,
    )


def _paragraph(record: Record, fact: Rewrite) -> Rewrite:
    return record.rewrite(
        fact.prompt, fact.subject, record.get("fact_new_uns", str), relation=fact.relation
    )


def _answers(record: Record, which: str, *, needed: bool = True) -> list[str]:
    """target_new {"str"} or answer_new, with answer_new_alias; the same for "true"."""
    found = record.get(f"target_{which}.str", str, "") or next(
        iter(flat(record.row.get(f"answer_{which}"))), ""
    )
    if not found and needed:
        raise record.wrong(f"the field target_{which}.str or answer_{which} is missing")
    return [text for text in (found, *flat(record.row.get(f"answer_{which}_alias"))) if text]


def _questions(record: Record, fact: Rewrite) -> Iterator[Probe]:
    """The fact as a question, and the facts that were drawn from the paragraph."""
    if question := record.get("question", str, "").strip():
        yield record.probe(
            question, _answers(record, "new"), "generalization", "question", foil=fact.target_true
        )
    for triple in record.parts("unsfact_triplets_GPT"):
        prompt = triple.get("prompt", str).replace("{}", triple.get("subject", str), 1)
        target = triple.get("target", str)
        if prompt.strip() and target.strip():
            yield triple.probe(prompt, (target,), "portability", "sub_fact")


def _locality(record: Record, fact: Rewrite) -> Iterator[Probe]:
    for prompt in record.texts("neighborhood_prompts"):
        truth = (fact.target_true,) if fact.target_true else ()
        yield record.probe(prompt, truth, "locality", "neighborhood", foil=fact.target)
    if (question := record.get("loc", str, "")).strip():
        yield record.probe(question, flat(record.row.get("loc_ans")), "locality", "unrelated")
