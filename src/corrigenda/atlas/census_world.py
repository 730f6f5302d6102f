"""The census: a world of invented people, as large as one likes, made from a seed.

Atlas has some 3,600 facts to edit. Sequences of ten thousand edits (lifelong editing) need more
facts than one can write tables of, so this world is generated: people with a birthplace, an
occupation, an employer, a school and an instrument; cities, companies and schools with facts of
their own. Nobody and nothing in it is real, and no subject of it is one of Atlas's.

    3,000 people -> 15,700 facts that can be edited, and 9,100 that are composed of them

Facts are drawn independently and uniformly: that someone is a baker tells nothing about where they
were born, so a model that answers has memorised the fact and did not guess it. A surname is shared
by several people and a first name by many, so a person is known by both names together.

    >>> w = census()
    >>> w.objects("Milo Stenholt", "person.birthplace")
    ('Isterbridge',)
    >>> w.objects("Milo Stenholt", "person.birth_country")  # because Isterbridge is there
    ('Mardova',)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product

from ..errors import InputError
from .census_language import (
    CITIES,
    COMPANIES,
    COUNTRIES,
    FIRST_NAMES,
    INDUSTRIES,
    INSTRUMENTS,
    OCCUPATIONS,
    PRODUCTS,
    SCHOOLS,
    SUBJECTS,
    SURNAMES,
    WORDINGS,
)
from .graph import Fact, Relation, World
from .templates import Wordings

__all__ = ["census"]

LANGUAGE = Wordings(WORDINGS, unseen=1)


def _relations() -> Iterable[Relation]:
    """All relations; a composed one stands after its parts, an inverse after its base."""

    def composed(id: str, object_type: str, first: str, then: str) -> Relation:
        return Relation(id, id.split(".")[0], object_type, True, (first, then), kind="composed")

    def inverse(id: str, object_type: str, of: str, functional: bool = False) -> Relation:
        return Relation(id, id.split(".")[0], object_type, functional, inverse=of, kind="inverse")

    yield Relation("person.birthplace", "person", "city", inverse="city.natives")
    yield Relation("person.occupation", "person", "occupation")
    yield Relation("person.employer", "person", "company")
    yield Relation("person.school", "person", "school")
    yield Relation("person.instrument", "person", "instrument")
    yield Relation("city.country", "city", "country")
    yield Relation("city.product", "city", "product")
    yield Relation("company.headquarters", "company", "city", inverse="city.companies")
    yield Relation("company.industry", "company", "industry")
    yield Relation("company.founder", "company", "person", inverse="person.founded")
    yield Relation("school.city", "school", "city")
    yield Relation("school.subject", "school", "subject")
    yield composed("person.birth_country", "country", "person.birthplace", "city.country")
    yield composed("person.work_city", "city", "person.employer", "company.headquarters")
    yield composed("company.country", "country", "company.headquarters", "city.country")
    yield composed("person.work_country", "country", "person.employer", "company.country")
    yield inverse("person.founded", "company", of="company.founder", functional=True)
    yield inverse("city.natives", "person", of="person.birthplace")
    yield inverse("city.companies", "company", of="company.headquarters")


RELATIONS: dict[str, Relation] = {r.id: r for r in _relations()}


@cache
def census(people: int = 3000, seed: int = 0) -> World:
    """The census of so many people. Built once per size and seed.

    A small census has fewer places, firms and words: one for every ten people, eight at least.
    Raises `InputError` for fewer than 20 people, and for more than there are names.
    """
    names = len(FIRST_NAMES) * len(SURNAMES)
    if not 20 <= people <= names:
        raise InputError(f"A census has between 20 and {names} people, not {people}.")
    rng = random.Random(f"census/{people}/{seed}")
    persons = [f"{first} {last}" for first, last in product(FIRST_NAMES, SURNAMES)]
    persons = rng.sample(persons, people)

    def some(values: Sequence[str]) -> list[str]:
        return rng.sample(values, min(len(values), max(8, people // 10)))

    cities, companies, schools = some(CITIES), some(COMPANIES), some(SCHOOLS)
    large = cities[: max(8, len(cities) // 3)]  # firms and schools share the large cities
    given = [
        *_drawn(rng, persons, "person.birthplace", cities),
        *_drawn(rng, persons, "person.occupation", some(OCCUPATIONS)),
        *_drawn(rng, persons, "person.employer", companies),
        *_drawn(rng, persons, "person.school", schools),
        *_drawn(rng, persons, "person.instrument", some(INSTRUMENTS)),
        *_drawn(rng, cities, "city.country", some(COUNTRIES)),
        *_drawn(rng, cities, "city.product", some(PRODUCTS)),
        *_drawn(rng, companies, "company.headquarters", large),
        *_drawn(rng, companies, "company.industry", some(INDUSTRIES)),
        # Nobody founds two companies: "the company that they founded" has one answer.
        *_drawn(rng, companies, "company.founder", rng.sample(persons, len(companies))),
        *_drawn(rng, schools, "school.city", large),
        *_drawn(rng, schools, "school.subject", some(SUBJECTS)),
    ]
    return World(tuple(given), relations=RELATIONS, wordings=LANGUAGE, name="census")


def _drawn(
    rng: random.Random, subjects: Sequence[str], relation: str, objects: Sequence[str]
) -> Iterable[Fact]:
    """One fact per subject, each object used equally often as far as the numbers allow."""
    rounds = -(-len(subjects) // len(objects))
    drawn = [o for _ in range(rounds) for o in rng.sample(objects, len(objects))][: len(subjects)]
    rng.shuffle(drawn)
    return (Fact(s, relation, o) for s, o in zip(subjects, drawn, strict=True))
