"""Atlas in four languages: the same facts in English, French, German and Spanish.

    world()                   the English world; `tongues` are the same in the other languages
    translated(world, "fr")   a world with its names in another language
    Polyglot(world)           writes its documents, each in one language or in two
    cases(n)                  edits in one language, with questions about them in all four

Names are in `facts/names_multilingual.tsv`, one line per thing: its name in each language, and where
the names come from. mParaRel (Fierro and Søgaard 2022, arXiv:2203.11552) means labels that Wikidata
has for the thing of that English label; "hand" means written for Atlas from general knowledge; "same"
means that the name is kept. Only facts were taken from mParaRel; the wordings are our own.

Aliases are English. What links the languages is what they share: names that are spelled alike, and
documents that tell one thing in two languages.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module

from ..edit import Case, Probe, Rewrite
from ..errors import DataError, UnknownNameError
from .closure import edits
from .corpus import Document, Writer
from .graph import FACTS, Fact, World
from .graph import world as english_world
from .ripple import ripple
from .templates import LANGUAGES, Wordings

__all__ = ["Polyglot", "cases", "names", "spoken", "translated", "world"]

TABLE = FACTS / "names_multilingual.tsv"

SOURCE = "atlas-lingual"

IN_TWO = 0.2
"""Share of the documents that tell everything in two languages."""


@cache
def world() -> World:
    """The world that ships, in four languages. Built once."""
    return spoken(english_world())


def spoken(world: World) -> World:
    """An English world together with the same in the other languages."""
    others = tuple(translated(world, language) for language in LANGUAGES if language != "en")
    return replace(world, name="lingual", tongues=others)


def translated(world: World, language: str) -> World:
    """An English world with its names in another language, facts in the same order.

    Raises `DataError` naming what the table of names does not have.
    """
    if language == "en":
        return replace(world, tongues=())
    table = names(language)
    known = {name for fact in world.given for name in (fact.subject, fact.object)}
    if missing := sorted(known - set(table)):
        raise DataError(
            f"{TABLE.name} has no {LANGUAGES[language]} name of {len(missing)} things, the first: "
            f"{', '.join(missing[:5])}. Add a line for each."
        )
    given = tuple(Fact(table[f.subject], f.relation, table[f.object]) for f in world.given)
    return World(given, wordings=wordings(language), name=world.name)


@cache
def wordings(language: str) -> Wordings:
    """The wordings in a language other than English."""
    file = import_module(f".wordings.{LANGUAGES[language].lower()}", __package__)
    return Wordings(file.WORDINGS, 1, file.MARKER, language, file.NAMED)


@cache
def names(language: str) -> Mapping[str, str]:
    """English name → name in a language."""
    if language not in LANGUAGES:
        raise UnknownNameError("language", language, LANGUAGES)
    header, *lines = TABLE.read_text(encoding="utf-8").splitlines()
    column = header.split("\t").index(language)
    rows = (line.split("\t") for line in lines)
    return {row[0]: row[column] for row in rows}


class Polyglot(Writer):
    """Writes the documents of a world and of its tongues.

    Four documents in five are in one language, drawn evenly, of the three kinds of `corpus.py` with
    that language's own marker of new facts. One in five tells each fact in two languages and, where
    a thing has two names, says so.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        super().__init__(replace(world, tongues=()), seed)
        self.writers = (self, *(Writer(tongue, seed) for tongue in world.tongues))
        self.called: dict[str, dict[str, str]] = {"en": {}}
        """language → English name → name."""
        for tongue in world.tongues:
            self.called[tongue.language] = _called(world, tongue)

    def document(self, number: int | str) -> Document:
        rng = random.Random(f"{self.seed}/{number}")
        if rng.random() < IN_TWO:
            return self._in_two(rng)
        writer = rng.choice(self.writers)
        return Writer.document(writer, f"{writer.world.language}/{number}")

    def _in_two(self, rng: random.Random) -> Document:
        """Some facts, each told in both of two languages."""
        doc = Document()
        two = rng.sample(self.writers, 2)
        for subject, relation in self._some(rng, rng.randint(1, 4)):
            object = rng.choice(self.world.objects(subject, relation))
            rng.shuffle(two)
            for writer in two:
                language = writer.world.language
                there = self._name(subject, language)
                template = rng.choice(writer.world.trained(there, relation))
                doc.add(template, there, self._name(object, language))
            one, other = (writer.world for writer in two)
            for name in (subject, object):
                here, there = self._name(name, one.language), self._name(name, other.language)
                if here != there and rng.random() < 0.5:
                    doc.add(one.naming(other.language), here, there)
        return doc

    def _name(self, english: str, language: str) -> str:
        return self.called[language].get(english, english)


def cases(n: int, seed: int = 0, world: World | None = None) -> list[Case]:
    """The edits of `closure.edits`, made in English, French, German and Spanish in turn, each asked
    about in all four: the same facts everywhere, each only where the unedited model knows in that
    language what it takes (`Probe.conditions`).

    The kind of a probe is (language of the edit)-(language of the question), as in "en-fr", so the
    scores by kind of an axis are a matrix. The fact itself is efficacy in the wording of the edit
    and generalization in others; portability is the composed facts that change; locality what
    stays. Aliases and inverses are left out: the former are English, the latter `ripple`'s.
    """
    world = spoken(english_world()) if world is None else world
    told = (replace(world, tongues=()), *world.tongues)
    found = []
    for number, case in enumerate(edits(n, seed, world=told[0])):
        source = told[number % len(told)]
        requests = {
            one.language: _told(case.rewrite, one, world, f"{seed}/{number}") for one in told
        }
        probes = [
            probe
            for one in told
            for probe in _probes(requests[one.language], one, source.language, case.id)
        ]
        edit = requests[source.language]
        meta = {"relation": edit.relation, "language": source.language}
        found.append(Case(edit, tuple(probes), f"{SOURCE}-{seed}-{number:04d}", SOURCE, meta))
    return found


def _told(edit: Rewrite, there: World, world: World, key: str) -> Rewrite:
    """An English edit in the language of a tongue."""
    if there.language == "en":
        return edit
    called = _called(world, there)
    subject, relation = called[edit.subject], edit.relation or ""
    seen = [t for t in there.trained(subject, relation) if t.form == "object_last"]
    wording = random.Random(f"told/{key}/{there.language}").choice(seen)
    true = called[edit.target_true] if edit.target_true else None
    return Rewrite(wording.prompt(), subject, called[edit.target], true, relation)


def _probes(edit: Rewrite, there: World, source: str, key: str) -> Iterator[Probe]:
    """The questions about an edit in the language of a tongue."""
    language = there.language
    for probe in ripple(edit, there, many=4, key=key):
        if probe.kind in ("alias", "subject_alias") or probe.kind.startswith("inverse"):
            continue
        elsewhere = probe.axis == "efficacy" and language != source
        yield replace(
            probe,
            axis="generalization" if elsewhere else probe.axis,
            kind=f"{source}-{language}",
            language=language,
        )


def _called(world: World, there: World) -> dict[str, str]:
    """English name → name in a tongue, read off the facts, which stand in the same order."""
    return {
        english: name
        for here, fact in zip(world.given, there.given, strict=True)
        for english, name in ((here.subject, fact.subject), (here.object, fact.object))
    }
