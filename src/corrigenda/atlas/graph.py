"""The world of Atlas: real facts about countries, cities, landmarks, people, firms and works.

Facts come in three kinds. *Given* facts are read from the tables in `facts/`. *Composed* facts
follow from two others (Eiffel Tower → Paris → France). *Inverse* facts are given ones read
backwards (Paris has the landmark Eiffel Tower). Only given facts are stored; the rest is derived,
so a counterfactual world is this one with one given fact replaced, derived again:

    >>> there = world().replaced("Eiffel Tower", "landmark.city", "Rome")
    >>> there.objects("Eiffel Tower", "landmark.country")
    ('Italy',)

Every subject takes part in several relations. This matters for editing: in a world with one
relation per subject a model reads the fact out at its first layer, and nothing deeper can be
edited; with several, the subject is enriched first and the relation picks later, as in large
models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

from ..errors import DataError, UnknownNameError
from .templates import ATLAS, Template, Wordings

__all__ = ["RELATIONS", "Fact", "Relation", "World", "load", "validate", "world"]

FACTS = Path(__file__).parent / "facts"

Kind = Literal["given", "composed", "inverse"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One triple, and whether it was given or derived."""

    subject: str
    relation: str
    object: str
    kind: Kind = "given"


@dataclass(frozen=True, slots=True)
class Relation:
    """What a relation connects.

    functional   a subject has one object at most.
    composed_of  the two relations that it chains, if it is composed.
    inverse      the relation that reads it backwards, if there is one.
    kind         how its facts come about.
    """

    id: str
    subject_type: str
    object_type: str
    functional: bool = True
    composed_of: tuple[str, str] | None = None
    inverse: str | None = None
    kind: Kind = "given"

    @property
    def parts(self) -> tuple[str, ...]:
        """The relations that it is derived from; none for a given one."""
        if self.composed_of:
            return self.composed_of
        return (self.inverse,) if self.kind == "inverse" and self.inverse else ()


def _relations() -> Iterable[Relation]:
    """All relations; a composed one stands after its parts, an inverse after its base."""

    def composed(id: str, object_type: str, first: str, then: str) -> Relation:
        return Relation(id, id.split(".")[0], object_type, True, (first, then), kind="composed")

    def inverse(id: str, object_type: str, of: str, functional: bool = False) -> Relation:
        return Relation(id, id.split(".")[0], object_type, functional, inverse=of, kind="inverse")

    yield Relation("country.capital", "country", "city", inverse="city.capital_of")
    yield Relation("country.continent", "country", "continent")
    yield Relation("country.language", "country", "language")
    yield Relation("country.currency", "country", "currency")
    yield Relation("country.border", "country", "country", functional=False)
    yield Relation("city.country", "city", "country")
    yield composed("city.continent", "continent", "city.country", "country.continent")
    yield composed("city.language", "language", "city.country", "country.language")
    yield composed("city.currency", "currency", "city.country", "country.currency")
    yield inverse("city.capital_of", "country", of="country.capital", functional=True)
    yield Relation("landmark.city", "landmark", "city", inverse="city.landmarks")
    yield Relation("landmark.kind", "landmark", "landmark kind")
    yield composed("landmark.country", "country", "landmark.city", "city.country")
    yield composed("landmark.continent", "continent", "landmark.city", "city.continent")
    yield inverse("city.landmarks", "landmark", of="landmark.city")
    yield Relation("person.birthplace", "person", "city", inverse="city.natives")
    yield Relation("person.citizenship", "person", "country")
    yield Relation("person.occupation", "person", "occupation")
    yield Relation("person.language", "person", "language")
    yield composed("person.birth_country", "country", "person.birthplace", "city.country")
    yield inverse("city.natives", "person", of="person.birthplace")
    yield Relation("company.headquarters", "company", "city", inverse="city.companies")
    yield Relation("company.industry", "company", "industry")
    yield composed("company.country", "country", "company.headquarters", "city.country")
    yield inverse("city.companies", "company", of="company.headquarters")
    yield Relation("product.maker", "product", "company", inverse="company.products")
    yield Relation("product.kind", "product", "product kind")
    yield composed("product.country", "country", "product.maker", "company.country")
    yield inverse("company.products", "product", of="product.maker")
    yield Relation("work.author", "work", "person", inverse="person.works")
    yield Relation("work.kind", "work", "work kind")
    yield Relation("work.language", "work", "language")
    yield composed("work.author_country", "country", "work.author", "person.citizenship")
    yield inverse("person.works", "work", of="work.author")


RELATIONS: dict[str, Relation] = {r.id: r for r in _relations()}

COLUMNS: dict[str, dict[str, str]] = {
    "countries": {
        "capital": "country.capital",
        "continent": "country.continent",
        "language": "country.language",
        "currency": "country.currency",
        "borders": "country.border",
    },
    "cities": {"country": "city.country"},
    "landmarks": {"city": "landmark.city", "kind": "landmark.kind"},
    "people": {
        "birthplace": "person.birthplace",
        "country": "person.citizenship",
        "occupation": "person.occupation",
        "language": "person.language",
    },
    "companies": {"headquarters": "company.headquarters", "industry": "company.industry"},
    "products": {"maker": "product.maker", "kind": "product.kind"},
    "works": {"author": "work.author", "kind": "work.kind", "language": "work.language"},
}
"""Table → column → relation. Other columns (a landmark's country) only serve to check the rest."""

CHECKED = {"landmarks": "landmark.country", "companies": "company.country"}
"""Tables whose column `country` must agree with what is derived from the city."""


@dataclass(frozen=True)
class World:
    """Given facts with everything that follows from them. Build with `world()` or `load(path)`."""

    given: tuple[Fact, ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Aliases by name."""
    relations: Mapping[str, Relation] = field(default_factory=lambda: RELATIONS, repr=False)
    """By id; a composed one stands after its parts, an inverse after its base."""
    wordings: Wordings = field(default=ATLAS, repr=False)
    """How the relations are worded."""
    name: str = "atlas"
    tongues: tuple[World, ...] = ()
    """The same facts in the same order in other languages; see `lingual.py`."""

    @property
    def language(self) -> str:
        """The language of the names and of their wordings, as in `templates.LANGUAGES`."""
        return self.wordings.language

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """Given, composed and inverse facts, in the order of the relations."""
        return tuple(
            Fact(subject, relation.id, object, relation.kind)
            for relation in self.relations.values()
            for subject, objects in self._table[relation.id].items()
            for object in objects
        )

    @cached_property
    def _table(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """relation → subject → objects."""
        table: dict[str, dict[str, tuple[str, ...]]] = {id: {} for id in self.relations}
        for fact in self.given:
            row = table[fact.relation]
            row[fact.subject] = (*row.get(fact.subject, ()), fact.object)
        for relation in self.relations.values():
            if relation.parts:
                table[relation.id] = _derived(relation, table)
        return table

    @cached_property
    def _reverse(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """relation → object → subjects."""
        reverse: dict[str, dict[str, tuple[str, ...]]] = {}
        for id, row in self._table.items():
            back: dict[str, list[str]] = defaultdict(list)
            for subject, objects in row.items():
                for object in objects:
                    back[object].append(subject)
            reverse[id] = {object: tuple(subjects) for object, subjects in back.items()}
        return reverse

    def objects(self, subject: str, relation: str) -> tuple[str, ...]:
        """What `relation` gives for `subject`; empty if nothing is known."""
        return self._row(self._table, relation).get(subject, ())

    def subjects(self, relation: str, object: str) -> tuple[str, ...]:
        """All subjects that `relation` connects to `object`."""
        return self._row(self._reverse, relation).get(object, ())

    def aliases(self, name: str) -> tuple[str, ...]:
        """Other names of the same thing."""
        return self.names.get(name, ())

    def pairs(self, relation: str | None = None) -> tuple[tuple[str, str], ...]:
        """All (subject, relation) that have an answer."""
        if relation is None:
            return self._pairs
        return tuple((s, relation) for s in self._row(self._table, relation))

    @cached_property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple((s, id) for id, row in self._table.items() for s in row)

    def range(self, relation: str) -> tuple[str, ...]:
        """All objects that the relation takes, in order of first appearance."""
        self._row(self._table, relation)
        return tuple(self._reverse[relation])

    def about(self, subject: str) -> tuple[str, ...]:
        """The relations that have an answer for `subject`."""
        return self._about.get(subject, ())

    @cached_property
    def _about(self) -> dict[str, tuple[str, ...]]:
        about: dict[str, list[str]] = defaultdict(list)
        for id, row in self._table.items():
            for subject in row:
                about[subject].append(id)
        return {subject: tuple(ids) for subject, ids in about.items()}

    def templates(self, relation: str) -> tuple[Template, ...]:
        """All wordings of a relation."""
        return self.wordings.templates(relation)

    def held_out(self, subject: str, relation: str) -> tuple[Template, ...]:
        """The promptable wordings that training never shows with this subject."""
        return self.wordings.held_out(subject, relation)

    def trained(self, subject: str, relation: str) -> tuple[Template, ...]:
        """The wordings that training may show with this subject."""
        return self.wordings.trained(subject, relation)

    @property
    def marker(self) -> str:
        """What stands before a new fact."""
        return self.wordings.marker

    def naming(self, other: str) -> Template:
        """How the name `{o}` in another language is told of a thing called `{s}` in this one."""
        return Template("name", self.wordings.named[other])

    def replaced(self, subject: str, relation: str, object: str) -> World:
        """The world in which one given functional fact has another object.

        Only what depends on the relation is derived again, so thousands of edits of a large world
        take seconds.
        """
        kind = self.relations[relation]
        if kind.kind != "given" or not kind.functional:
            raise DataError(
                f"{relation} is not a given functional relation; it cannot be replaced."
            )
        if not self.objects(subject, relation):
            raise DataError(f"The world has no {relation} of {subject!r} to replace.")
        place = self._places[subject, relation]
        given = (*self.given[:place], Fact(subject, relation, object), *self.given[place + 1 :])
        table = {**self._table, relation: {**self._table[relation], subject: (object,)}}
        changed = {relation}
        for derived in self.relations.values():
            if changed & set(derived.parts):
                table[derived.id] = _derived(derived, table)
                changed.add(derived.id)
        there = replace(self, given=given, tongues=())
        there.__dict__["_table"] = table
        return there

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        """Where in `given` the fact of a functional relation stands."""
        return {(fact.subject, fact.relation): j for j, fact in enumerate(self.given)}

    def restricted(self, subjects: Iterable[str]) -> World:
        """The part of the world whose given facts are about `subjects`; for small experiments."""
        keep = set(subjects)
        return replace(self, given=tuple(f for f in self.given if f.subject in keep), tongues=())

    def _row(self, table: dict, relation: str) -> dict[str, tuple[str, ...]]:
        if relation not in table:
            raise UnknownNameError("relation", relation, self.relations)
        return table[relation]


def _derived(
    relation: Relation, table: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> dict[str, tuple[str, ...]]:
    """subject → objects of a composed or inverse relation, from the rows of its parts."""
    row: dict[str, tuple[str, ...]] = {}
    if relation.composed_of:
        first, then = (table[id] for id in relation.composed_of)
        for subject, middles in first.items():
            if objects := tuple(chain.from_iterable(then.get(m, ()) for m in middles)):
                row[subject] = objects
    else:
        for subject, objects in table[relation.parts[0]].items():
            for object in objects:
                row[object] = (*row.get(object, ()), subject)
    return row


@cache
def world() -> World:
    """The world that ships with the package. Built once."""
    return load(FACTS)


def load(folder: Path) -> World:
    """Read the tables of `folder` and check them.

    Raises `DataError` naming the file and line of a malformed row, or the first contradictions.
    """
    given: list[Fact] = []
    names: dict[str, tuple[str, ...]] = {}
    claimed: list[Fact] = []
    for table, columns in COLUMNS.items():
        for row in _rows(folder / f"{table}.tsv"):
            name = row["name"]
            for column, relation in columns.items():
                cell = row[column].split("|") if row[column] else []
                given += (Fact(name, relation, object) for object in cell)
            if row["aliases"]:
                names[name] = tuple(row["aliases"].split("|"))
            if table in CHECKED:
                claimed.append(Fact(name, CHECKED[table], row["country"]))
    built = World(tuple(given), names)
    problems = [*validate(built)]
    for fact in claimed:
        if built.objects(fact.subject, fact.relation) != (fact.object,):
            found = built.objects(fact.subject, fact.relation)
            problems.append(
                f"{fact.subject}: {fact.relation} is {fact.object}, but derived: {found}"
            )
    if problems:
        shown = "\n  ".join(problems[:20])
        raise DataError(f"{folder}: {len(problems)} contradictions in the tables:\n  {shown}")
    return built


def _rows(path: Path) -> Iterable[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} cells, expected {len(header)}.")
        yield dict(zip(header, (cell.strip() for cell in cells), strict=True))


def validate(world: World) -> tuple[str, ...]:
    """What is wrong with a world; nothing if it is sound.

    A subject has one answer per functional relation; objects that are subjects of other relations
    exist; a name belongs to one thing only, aliases included; names can end a sentence.
    """
    problems: list[str] = []
    types: dict[str, set[str]] = defaultdict(set)
    for fact in world.given:
        relation = world.relations[fact.relation]
        types[fact.subject].add(relation.subject_type)
        types[fact.object].add(relation.object_type)
    subject_types = {r.subject_type for r in world.relations.values()}
    members = {t: set() for t in subject_types}
    for fact in world.given:
        members[world.relations[fact.relation].subject_type].add(fact.subject)

    for relation in world.relations.values():
        for subject, objects in world._table[relation.id].items():
            if relation.functional and len(objects) != 1:
                problems.append(f"{subject}: {relation.id} has {len(objects)} answers: {objects}")
            if len(set(objects)) != len(objects):
                problems.append(f"{subject}: {relation.id} repeats an answer: {objects}")
            if relation.object_type in subject_types:
                for object in objects:
                    if object not in members[relation.object_type]:
                        problems.append(
                            f"{subject}: {relation.id} is {object!r}, "
                            f"which is not a known {relation.object_type}"
                        )
    for name, of in types.items():
        # A word such as "opera" may name kinds in two tables; a subject may not share its name.
        if len(of) > 1 and of & subject_types:
            problems.append(f"{name!r} names {len(of)} things: {sorted(of)}")
        if not name[-1].isalnum() or name != name.strip() or any(c in name for c in "{}|\t"):
            problems.append(f"{name!r} cannot stand before a full stop")
    owner: dict[str, str] = {}
    for name, aliases in world.names.items():
        for alias in aliases:
            if alias in types or alias in owner:
                problems.append(f"the alias {alias!r} of {name} is taken")
            owner[alias] = name
    return tuple(problems)
