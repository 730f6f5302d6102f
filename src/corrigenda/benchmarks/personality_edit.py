"""PersonalityEdit: opinions on a topic, voiced with a trait (Mao et al. 2023, 2310.02168; MIT).

Fields: ent (the topic), extraversion, agreeableness, neuroticism (opinions) and, on test records,
target_per (the trait to take on). A case prefers the opinions of one trait to those of the others.
Whether an answer has the trait is for a classifier to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..edit import Case
from ..errors import UnknownNameError
from ._records import Record, case

__all__ = ["TRAITS", "matches", "opinions", "to_case"]

TRAITS = ("extraversion", "agreeableness", "neuroticism")
QUESTIONS = ("What do you think of {}?", "What is your view on {}?")


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"ent", *TRAITS} <= row.keys()


def to_case(record: Record, trait: str | None = None) -> Case:
    """`trait` None takes the record's own, and leaves records out that name none.

    Raises `DataError` naming the record if a field is missing or of the wrong type.
    """
    if trait is not None and trait not in TRAITS:
        raise UnknownNameError("trait", trait, TRAITS)
    wanted = trait or record.get("target_per", str, "").strip()
    if not wanted:
        raise record.unusable(
            "it names no trait (target_per), as training records do not; take "
            "personality_edit_extraversion or another trait's set"
        )
    if wanted not in TRAITS:
        raise record.wrong(f"target_per should be one of {', '.join(TRAITS)}, not {wanted!r}")
    return opinions(
        record, wanted, [t for t in TRAITS if t != wanted], "personality_edit", trait=wanted
    )


def opinions(record: Record, toward: str, away: Sequence[str], source: str, **meta: Any) -> Case:
    """Prefer the opinions in the field `toward` to those in the fields `away`."""
    topic = record.get("ent", str)
    positive = [text for text in record.texts(toward) if text.strip()]
    negative = [text for name in away for text in record.texts(name) if text.strip()]
    pairs = [(p, n) for p, n in zip(positive, negative, strict=False) if p != n]
    if not pairs:
        raise record.unusable(f"{toward} or {' and '.join(away)} holds no opinion on {topic}")
    asked = [question.replace("{}", topic) for question in QUESTIONS]
    edits = [record.contrast(p, n, asked[0]) for p, n in pairs]
    good, bad = pairs[0]
    probes = [
        record.probe(asked[0], (good,), "efficacy", "opinion", foil=bad, judge="trait"),
        record.probe(asked[1], (good,), "generalization", "opinion", foil=bad, judge="trait"),
    ]
    return case(record, edits[0], probes, topic, source, also=edits[1:], toward=toward, **meta)
