"""ECBD, entity cloze by date: a new entity's definition, and sentences about it (Onoe et al. 2022,
2023, 2305.01651; Padmanabhan et al. 2023, 2306.09306).

Fields: ex_id, ent_str, definition and probe_sentences {name: {probe_sentence, label}}. Definition
and sentences have one span masked by <extra_id_0>; def_target and label give it as "<extra_id_0> the
span <extra_id_1>". The edit is the definition with its span. A probe asks for a sentence's span
from the words on its left; a sentence that begins with its span cannot be asked so, and is left
out. On the axis "locality" the sentences are about entities that the model knows. The whole
sentences are in `meta`, for models that fill gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Axis, Case, Probe, Rewrite
from ._records import Record, case

__all__ = ["MASK", "definition", "matches", "sentences", "span", "to_case"]

MASK = "<extra_id_0>"
END = "<extra_id_1>"


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"ent_str", "definition", "probe_sentences"} <= row.keys()


def to_case(record: Record, axis: Axis = "portability") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    asked = [(sentence, span(one.get("label", str))) for sentence, one in sentences(record)]
    return case(
        record,
        definition(record),
        _probes(record, asked, axis),
        record.row.get("ex_id", ""),
        "ecbd",
        probe_sentences=[list(pair) for pair in asked],
        continuations=record.texts("augmented_probes"),
    )


def definition(record: Record) -> Rewrite:
    """The definition as an edit: its masked span is the target."""
    text, target = record.get("definition", str), span(record.get("def_target", str))
    entity = record.get("ent_str", str)
    if text.count(MASK) != 1:
        raise record.wrong(f"the definition should hold {MASK} once: {text[:60]!r}")
    before, after = (part.replace("{}", "") for part in text.split(MASK))
    before, after = before.rstrip(), after if after.strip(" .,;:!?") else ""
    if entity in before:
        at = before.rfind(entity)
        before = before[:at] + "{}" + before[at + len(entity) :]
    elif entity in after:
        after = after.replace(entity, "{}", 1)
    elif before:  # it calls the entity otherwise: what stands before the span is the subject
        entity, before = before, "{}"
    else:
        raise record.unusable(f"the definition begins with its span and does not name {entity}")
    return record.rewrite(before, entity, target, after=after)


def sentences(record: Record) -> Iterator[tuple[str, Record]]:
    """The sentences with a masked span, and the objects that hold them."""
    for name, row in record.get("probe_sentences", dict).items():
        one = record.part(row, f"probe_sentences.{name}")
        sentence = one.get("probe_sentence", str)
        if sentence.count(MASK) != 1:
            raise one.wrong(f"the sentence should hold {MASK} once: {sentence[:60]!r}")
        yield sentence, one


def span(label: str) -> str:
    """The words between the two marks."""
    return label.partition(MASK)[2].partition(END)[0].strip() or label.strip()


def _probes(record: Record, asked: list[tuple[str, str]], axis: Axis) -> Iterator[Probe]:
    for sentence, answer in asked:
        left = sentence.partition(MASK)[0].rstrip()
        if left and answer:
            yield record.probe(left, (answer,), axis, "inference")
