"""Bi-ZsRE and MzsRE: zsRE in two languages at a time (Wang et al. 2023, 2309.08952; Wang et al. 2023,
2312.13040).

A record holds one object per language, {"en": {...}, "zh": {...}}, each with src (the question),
rephrase, alt (the new, false answer), answers, loc, loc_ans, portability {"New Question",
"New Answer"} and, at least in English, subject. The edit is made in one language and asked in both;
the edited question in the other language is a paraphrase of the kind "translation".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..edit import Case, Probe, Rewrite
from ._records import Record, case, flat

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return bool(_languages(row))


def to_case(record: Record, language: str = "en") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    languages = _languages(record.row)
    if language not in languages:
        raise record.wrong(
            f"it has no part in {language!r}; its languages are {', '.join(languages) or 'none'}"
        )
    own = record.part(record.row[language], language)
    edit = _edit(own)
    probes = [record.rewrite_probe(edit, language=language)]
    for code in languages:
        probes += _probes(record.part(record.row[code], code), code, translated=code != language)
    return case(
        record,
        edit,
        probes,
        record.row.get("id", ""),
        "bizsre",
        target_source="alt",
        language=language,
    )


def _languages(row: Mapping[str, Any]) -> list[str]:
    return [
        k for k, v in row.items() if isinstance(v, dict) and {"src", "alt", "rephrase"} <= v.keys()
    ]


def _edit(record: Record) -> Rewrite:
    question, target = record.get("src", str), record.get("alt", str)
    truth = flat(record.row.get("answers"))
    known = truth[0] if truth else None
    subject = record.get("subject", str, "").strip()
    if subject and subject in question:
        return record.rewrite(question, subject, target, target_true=known)
    return record.whole(question, target, target_true=known)


def _probes(record: Record, language: str, translated: bool) -> Iterator[Probe]:
    target = (record.get("alt", str),)
    truth = flat(record.row.get("answers"))
    foil = truth[0] if truth else None
    if translated:
        yield record.probe(
            record.get("src", str),
            target,
            "generalization",
            "translation",
            foil=foil,
            language=language,
        )
    yield record.probe(
        record.get("rephrase", str),
        target,
        "generalization",
        "paraphrase",
        foil=foil,
        language=language,
    )
    yield record.probe(
        record.get("loc", str),
        flat(record.row.get("loc_ans")),
        "locality",
        "unrelated",
        language=language,
    )
    if "portability" in record.row:
        yield record.probe(
            record.get("portability.New Question", str),
            (record.get("portability.New Answer", str),),
            "portability",
            "one_hop",
            language=language,
        )
