"""Relations with templates, for linear relation decoding (Hernandez et al. 2024, 2308.09124; MIT).

The official files hold one relation each: name, prompt_templates, prompt_templates_zs, properties
{relation_type} and samples [{subject, object}]. Re-packed records hold one sample each: relation,
group, subject, object, templates, templates_zs. The rewrite states the fact as it is: its target is
the true object. The other templates are paraphrases; the zero-shot ones are questions with the
beginning of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case
from ._records import Record, case

__all__ = ["matches", "parts", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has one of the two forms."""
    return {"prompt_templates", "samples"} <= row.keys() or {
        "relation",
        "templates",
        "object",
    } <= row.keys()


def parts(record: Record) -> Iterator[Record]:
    """One record per sample."""
    if "samples" not in record.row:
        yield record
        return
    shared = {
        "relation": record.get("name", str),
        "group": record.get("properties.relation_type", str, ""),
        "templates": record.texts("prompt_templates"),
        "templates_zs": record.texts("prompt_templates_zs"),
    }
    for j, sample in enumerate(record.parts("samples")):
        yield record.part(
            shared | {"id": f"{shared['relation']}:{j}"} | sample.row, f"samples[{j}]"
        )


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    subject, target = record.get("subject", str), record.get("object", str)
    templates = [text for text in record.texts("templates") if "{}" in text]
    if not templates:
        raise record.wrong("the field templates holds no template with {} for the subject")
    edit = record.rewrite(
        templates[0], subject, target, target_true=target, relation=record.get("relation", str)
    )
    others = [(text, "paraphrase") for text in templates[1:]]
    others += [(text, "zero_shot") for text in record.texts("templates_zs") if "{}" in text]
    probes = [
        record.probe(text.replace("{}", subject), (target,), "generalization", kind)
        for text, kind in others
    ]
    return case(
        record,
        edit,
        probes,
        record.row.get("id", ""),
        "lre",
        target_source="object",
        group=record.get("group", str, ""),
    )
