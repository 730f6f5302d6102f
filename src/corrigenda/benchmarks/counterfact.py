"""CounterFact: counterfactual single-fact edits (Meng et al. 2022, 2202.05262; MIT licence).

Two record forms are read:

official  case_id, requested_rewrite {prompt, relation_id, target_new {str}, target_true {str},
          subject}, paraphrase_prompts, neighborhood_prompts, attribute_prompts,
          generation_prompts
re-packed case_id, subject, prompt, target_new, ground_truth, rephrase_prompt, locality_prompt,
          locality_ground_truth, and optionally template, relation_id and rebuilt neighbours in
          derived.neighborhood; one official paraphrase and one official neighbour per record

Paraphrases are distractor text and prompt, as in the official file. Neighbourhood prompts are
about other subjects that truly have the old object. Each neighbour is also asked behind the
edited sentence (CounterFact+, Hoelscher-Obermaier et al. 2023, 2305.17553), as "neighborhood+".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case

__all__ = ["matches", "plus_prompt", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has one of the two forms."""
    return (
        isinstance(row.get("requested_rewrite"), dict)
        or {"rephrase_prompt", "locality_prompt"} <= row.keys()
    )


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    return _official(record) if "requested_rewrite" in record.row else _repacked(record)


def plus_prompt(edit: Rewrite, prompt: str) -> str:
    """A neighbourhood prompt behind the edited sentence: "S is in T. Neighbour is in"."""
    return f"{edit.statement}. {prompt}"


def _official(record: Record) -> Case:
    edit = record.rewrite(
        record.get("requested_rewrite.prompt", str),
        record.get("requested_rewrite.subject", str),
        record.get("requested_rewrite.target_new.str", str),
        target_true=record.get("requested_rewrite.target_true.str", str),
        relation=record.get("requested_rewrite.relation_id", str, "") or None,
    )
    probes = [
        *_paraphrases(record, edit, record.texts("paraphrase_prompts")),
        *_neighborhood(record, edit, [(p, None) for p in record.texts("neighborhood_prompts")]),
    ]
    return case(
        record,
        edit,
        probes,
        record.get("case_id", int),
        "counterfact",
        target_source="target_new",
        attribute_prompts=record.texts("attribute_prompts"),
        generation_prompts=record.texts("generation_prompts"),
    )


def _repacked(record: Record) -> Case:
    subject = record.get("subject", str)
    edit = record.rewrite(
        record.get("template", str, "") or record.get("prompt", str),
        subject,
        record.get("target_new", str),
        target_true=record.get("ground_truth", str),
        relation=record.get("relation_id", str, "") or None,
    )
    neighbors: list[tuple[Any, str | None]] = [
        (record.get("locality_prompt", str), record.get("locality_ground_truth", str))
    ]
    for neighbor in record.get("derived.neighborhood", list, []):
        if not isinstance(neighbor, dict) or not isinstance(neighbor.get("answer"), str):
            raise record.wrong("derived.neighborhood should hold {prompt, answer} objects")
        neighbors.append((neighbor.get("prompt"), neighbor["answer"]))
    probes = [
        *_paraphrases(record, edit, [record.get("rephrase_prompt", str)]),
        *_neighborhood(record, edit, neighbors),
    ]
    return case(
        record,
        edit,
        probes,
        record.get("case_id", int),
        "counterfact (re-packed)",
        target_source="target_new",
    )


def _paraphrases(record: Record, edit: Rewrite, prompts: list[str]) -> Iterator[Probe]:
    for prompt in prompts:
        yield record.probe(
            prompt, (edit.target,), "generalization", "paraphrase", foil=edit.target_true
        )


def _neighborhood(
    record: Record, edit: Rewrite, prompts: list[tuple[Any, str | None]]
) -> Iterator[Probe]:
    """Plain neighbours first, then the same behind the edited sentence."""
    plain = [
        record.probe(
            prompt,
            (truth or edit.target_true or "",),
            "locality",
            "neighborhood",
            foil=edit.target,
        )
        for prompt, truth in prompts
    ]
    yield from plain
    for probe in plain:
        yield record.probe(
            plus_prompt(edit, probe.prompt),
            probe.answers,
            "locality",
            "neighborhood+",
            foil=edit.target,
        )
