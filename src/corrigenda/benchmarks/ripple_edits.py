"""RippleEdits: what else an edit should change, and what it should not (Cohen et al. 2023,
2307.12976; MIT).

Fields: example_type, edit {prompt (a sentence that ends in the target), subject_id, relation,
target_id, previous_fact {prompt}} and six criteria, each a list of tests {test_queries,
test_condition ("OR" or "AND"), condition_queries}. A query is {prompt, answers [{value, aliases}],
subject_id, target_ids}.

Each test becomes a group of probes that pass together, with its condition queries as conditions: a
test counts where the unedited model meets them all. Any object of a query counts, under any alias.

The records name subject and target by their Wikidata ids only. The target's words are those of
an answer with its id, or those in which the edit differs from the previous fact; the subject's are
those that the templates about its id end in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..edit import Axis, Case, Probe
from ._records import Record, case

__all__ = ["CRITERIA", "matches", "parsed", "to_case"]

CRITERIA: Mapping[str, tuple[Axis, str]] = {
    "Logical_Generalization": ("portability", "logical"),
    "Compositionality_I": ("portability", "compositionality_1"),
    "Compositionality_II": ("portability", "compositionality_2"),
    "Subject_Aliasing": ("portability", "alias"),
    "Forgetfulness": ("locality", "one_to_many"),
    "Relation_Specificity": ("locality", "same_subject"),
    "Relation_Specifity": ("locality", "same_subject"),  # so spelled in the files' description
}
"""Axis and kind of probe by the file's names of the six criteria. Forgetfulness holds the tests of
what the paper calls preservation."""

# The words of a template after its subject.
_AFTER = (
    "is associated with is",
    "is a member of is",
    "is the capital of is",
    "is part of is",
    "is followed by",
    "plays in is",
    "won is",
    "has is",
    "follows",
    "are",
    "is",
)


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return isinstance(row.get("edit"), dict) and bool(CRITERIA.keys() & row.keys())


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    sentence = record.get("edit.prompt", str)
    previous = record.get("edit.previous_fact.prompt", str, "")
    tests = list(_tests(record))
    queries = [query for _, test in tests for query in _queries(test)]
    stem, target = _target(record, sentence, previous, queries)
    about = record.get("edit.subject_id", str, "")
    same = [
        query.get("prompt", str)
        for query in queries
        if query.row.get("subject_id") == about and query.row.get("phrase") is None
    ]  # with a phrase, the subject may go by another name
    subject = parsed(stem, same, record.get("edit.relation", str, ""))
    if not subject:
        raise record.unusable(f"the subject cannot be told from the sentence {sentence!r}")
    old = previous.removeprefix(stem).strip().removesuffix(".")
    edit = record.rewrite(
        stem.rstrip(),
        subject,
        target,
        target_true=old if previous.startswith(stem) else None,
        relation=record.get("edit.relation", str, "") or None,
    )
    probes = [probe for name, test in tests for probe in _probes(name, test)]
    kind = record.get("example_type", str, "")
    return case(record, edit, probes, record.row.get("id", ""), "ripple_edits", example_type=kind)


def _tests(record: Record) -> Iterator[tuple[str, Record]]:
    for name in CRITERIA:
        yield from ((name, test) for test in record.parts(name))


def _queries(test: Record) -> list[Record]:
    return [*test.parts("test_queries"), *test.parts("condition_queries")]


def _probes(name: str, test: Record) -> Iterator[Probe]:
    axis, kind = CRITERIA[name]
    rule = test.get("test_condition", str, "OR").upper()
    if rule not in ("OR", "AND"):
        raise test.wrong(f'test_condition should be "OR" or "AND", not {rule!r}')
    conditions = []
    for query in test.parts("condition_queries"):
        if not (answers := _answers(query)):
            return  # nothing that the model could be asked for
        conditions.append(query.condition(query.get("prompt", str), answers))
    group = test.place.rpartition(", ")[2]  # "Forgetfulness[3]"
    for query in test.parts("test_queries"):
        if answers := _answers(query):
            yield query.probe(
                query.get("prompt", str),
                answers,
                axis,
                kind,
                group=group,
                require="any" if rule == "OR" else "all",
                conditions=tuple(conditions),
            )


def _answers(query: Record) -> list[str]:
    """All names of all objects. Single letters are no names; single digits are."""
    found = []
    for answer in query.parts("answers"):
        found += [str(answer.row.get("value", "")), *answer.texts("aliases")]
    return list(dict.fromkeys(text for text in found if len(text) > 1 or text.isdigit()))


def _target(
    record: Record, sentence: str, previous: str, queries: Sequence[Record]
) -> tuple[str, str]:
    """The sentence up to its target, and the target."""
    whole = sentence.strip().removesuffix(".")
    wanted = record.row["edit"].get("target_id")
    names = [
        name
        for query in queries
        if query.row.get("target_ids") == [wanted]
        for answer in query.parts("answers")
        if isinstance(name := answer.row.get("value"), str)
    ]
    for name in names:
        if name and whole.endswith(f" {name}"):
            return whole.removesuffix(name), name
    if previous:
        own, other = whole.split(" "), previous.strip().removesuffix(".").split(" ")
        same = next((j for j, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
        if same is None:
            raise record.unusable(f"the edit says what was so before: {sentence!r}")
        # Both targets may begin alike ("New York", "New Orleans"): the template's last word tells.
        while same > 1 and not _ends_template(own[same - 1]):
            same -= 1
        return " ".join(own[:same]) + " ", " ".join(own[same:])
    found = re.match(r"(.* (?:is|are|follows|by) )(.+)$", whole)
    if not found:
        raise record.unusable(f"the target cannot be told from the sentence {sentence!r}")
    return found[1], found[2]


def _ends_template(word: str) -> bool:
    return word in ("is", "are", "follows", "by")


def parsed(stem: str, prompts: Sequence[str] = (), relation: str = "") -> str:
    """The subject that a template like "The name of the mother of S is" was filled with.

    prompts   other templates filled with the same subject; what they end in is the same.
    relation  the template's relation, "PLACE_OF_BIRTH", for where there is no other template.

    "" if nothing can be told.
    """
    bare = _without_end(stem)
    if stem.strip().endswith(_SUBJECT_FIRST):
        return bare
    words, told = bare.split(" "), False
    for text in map(_without_end, prompts):
        n = _same_end(words, text.split(" ")) if text != bare else 0
        if n:  # otherwise the subject stands elsewhere in that template
            words, told = words[len(words) - n :], True
    if told:
        return _BEFORE.sub("", " ".join(words)).strip()
    named = f" {relation.lower().replace('_', ' ')} of "
    if named in bare:
        return bare.partition(named)[2].strip()
    text = re.sub(r"^The (?:names? of the )?", "", bare)
    return re.split(rf" {_BEFORE_WORDS} ", text, maxsplit=1)[-1].strip()


_SUBJECT_FIRST = (" follows", " is followed by")
_BEFORE_WORDS = "(?:of|which|by|award|children|in)"
_BEFORE = re.compile(rf"^{_BEFORE_WORDS} ")
"""The words of a template before its subject."""


def _same_end(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two texts end in alike."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _without_end(text: str) -> str:
    text = text.strip()
    for end in _AFTER:
        if text.endswith(f" {end}"):
            return text.removesuffix(f" {end}")
    return text
