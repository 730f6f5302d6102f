"""ConflictEdit: two edits that contradict each other (Li et al. 2023, 2310.02129; MIT).

Fields: type ("coverage", "reverse", "composite"), rule, triples and edits, two of {relation {id,
prompt, query}, subject {label}, object {label}, new_object {label}}, in their order. With e1 towards
o1 and then e2 towards o2:

coverage   the same fact twice. o2 should win over o1 at its prompt.
reverse    e2 says of o1, by the inverse relation, that it belongs to o2. Asked of o2, e1's relation
           should now give o1, and of e1's subject no longer.
composite  e2 says what follows from an unedited fact (triples[0]) and e1, differently. At e1's prompt
           o2 should win over o1; the tied fact should stay.

The edits are made one on top of the other. Probes of the kind "implied" ask for what the later edit
implies, against the earlier; "superseded" ones are kept for the conflict score of the reverse
type. Prompt variants come from conflict_prompts.json beside the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..edit import Case, Probe, Rewrite
from ..errors import DataError
from ._records import Record, case

__all__ = ["fact", "matches", "to_case", "variants"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"edits", "triples", "type"} <= row.keys()


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    parts = record.parts("edits")
    kind = record.get("type", str)
    if len(parts) != 2:
        raise record.wrong(f"the field edits should hold two edits in order, not {len(parts)}")
    if kind not in _PROBES:
        raise record.wrong(f"the type should be one of {', '.join(_PROBES)}, not {kind!r}")
    first, second = (fact(part) for part in parts)
    return case(
        record,
        first,
        _PROBES[kind](record, first, second),
        record.row.get("id", ""),
        f"conflictedit_{kind}",
        also=[second],
        in_turn=True,
        rule=record.get("rule", str, ""),
    )


def fact(record: Record, target: str = "new_object") -> Rewrite:
    """One of the benchmark's edits, or with `target` "object" one of its triples."""
    old = record.get("object.label", str)
    return record.rewrite(
        record.get("relation.prompt", str).rstrip(),
        record.get("subject.label", str),
        record.get(f"{target}.label", str),
        target_true=old if target != "object" else None,
        relation=record.get("relation.id", str, "") or None,
    )


def variants(record: Record, name: str, edit: Rewrite) -> list[str]:
    """Other wordings of an edit's prompt, from the file of that name beside the data; none if it is
    not there."""
    if record.path is None:
        return []
    return [
        template.replace("{}", edit.subject)
        for template in _templates(record.path.with_name(name)).get(edit.relation or "", [])
    ]


@cache
def _templates(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}). Fetch it again, or remove it.") from None


def _coverage(record: Record, first: Rewrite, second: Rewrite) -> Iterator[Probe]:
    answers = (second.target,)
    yield record.probe(second.text, answers, "efficacy", "rewrite", foil=first.target)
    yield from _paraphrases(record, second, first.target)


def _reverse(record: Record, first: Rewrite, second: Rewrite) -> Iterator[Probe]:
    yield record.rewrite_probe(second)
    yield from _paraphrases(record, second, second.target_true)
    implied = first.prompt.replace("{}", second.target, 1)
    yield record.probe(implied, (first.target,), "portability", "implied")
    yield record.probe(first.text, (first.target,), "portability", "superseded", judge="record")


def _composite(record: Record, first: Rewrite, second: Rewrite) -> Iterator[Probe]:
    yield record.rewrite_probe(second)
    yield from _paraphrases(record, second, second.target_true)
    yield record.probe(first.text, (second.target,), "portability", "implied", foil=first.target)
    triples = record.parts("triples")
    if not triples:
        raise record.wrong("the field triples is missing or empty; its first is the tied fact")
    tied = fact(triples[0], "object")
    yield record.probe(tied.text, (tied.target,), "locality", "tied_fact")


def _paraphrases(record: Record, edit: Rewrite, foil: str | None) -> Iterator[Probe]:
    for prompt in variants(record, "conflict_prompts.json", edit):
        yield record.probe(
            prompt.rstrip(), (edit.target,), "generalization", "paraphrase", foil=foil
        )


_PROBES = {"coverage": _coverage, "reverse": _reverse, "composite": _composite}
