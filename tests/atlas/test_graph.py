"""The world: sound tables, correct derivation, readable complaints."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from corrigenda.atlas import RELATIONS, Fact, World, validate, world
from corrigenda.atlas.closure import editable
from corrigenda.atlas.graph import FACTS, load
from corrigenda.atlas.worlds import world_named
from corrigenda.errors import DataError, UnknownNameError


def test_shipped_tables_are_sound():
    assert validate(world()) == ()


def test_size_and_variety():
    w = world()
    assert 4_500 <= len(w.facts) <= 8_000
    assert len({f.relation for f in w.facts}) >= 20
    several = sum(len(w.about(s)) >= 3 for s in {s for s, _ in w.pairs()})
    assert several / len({s for s, _ in w.pairs()}) > 0.95


@pytest.mark.parametrize(
    ("subject", "relation", "object"),
    [
        ("Eiffel Tower", "landmark.city", "Paris"),
        ("Eiffel Tower", "landmark.country", "France"),
        ("Eiffel Tower", "landmark.continent", "Europe"),
        ("Colosseum", "landmark.city", "Rome"),
        ("Louvre", "landmark.kind", "museum"),
        ("Rome", "city.capital_of", "Italy"),
        ("Rome", "city.language", "Italian"),
        ("iPhone", "product.maker", "Apple"),
        ("iPhone", "product.country", "United States"),
        ("Hamlet", "work.author_country", "United Kingdom"),
    ],
)
def test_known_facts(subject, relation, object):
    assert world().objects(subject, relation) == (object,)
    assert subject in world().subjects(relation, object)


def test_inverses_mirror_their_base():
    w = world()
    for relation in RELATIONS.values():
        if relation.kind == "inverse":
            base = Counter((f.object, f.subject) for f in w.facts if f.relation == relation.inverse)
            assert base == Counter(
                (f.subject, f.object) for f in w.facts if f.relation == relation.id
            )
            assert RELATIONS[relation.inverse].inverse == relation.id


def test_borders_are_mutual():
    w = world()
    for country, _ in w.pairs("country.border"):
        for other in w.objects(country, "country.border"):
            assert country in w.objects(other, "country.border")


def test_a_replaced_fact_carries_its_consequences_and_leaves_the_world_alone():
    w = world()
    there = w.replaced("Eiffel Tower", "landmark.city", "Rome")
    assert there.objects("Eiffel Tower", "landmark.country") == ("Italy",)
    assert "Eiffel Tower" in there.objects("Rome", "city.landmarks")
    assert "Eiffel Tower" not in there.objects("Paris", "city.landmarks")
    assert w.objects("Eiffel Tower", "landmark.city") == ("Paris",)
    with pytest.raises(DataError, match="not a given functional"):
        w.replaced("Eiffel Tower", "landmark.country", "Italy")


@pytest.mark.parametrize("which", ["atlas", "census"])
def test_deriving_again_what_an_edit_touches_is_deriving_everything_again(which):
    """Also in the order of facts, by which probes are drawn."""
    w = world_named(which)
    w = w if which == "atlas" else w.restricted([s for s, _ in w.pairs()][::20])
    facts = random.Random(0).sample(editable(w), 20)
    for subject, relation in facts:
        new = [o for o in w.range(relation) if o not in w.objects(subject, relation)][-1]
        there = w.replaced(subject, relation, new)
        rebuilt = replace(w, given=there.given)
        assert there.facts == rebuilt.facts and there.pairs() == rebuilt.pairs()
        changed = [f for f, g in zip(w.given, there.given, strict=True) if f != g]
        assert changed == [Fact(subject, relation, w.objects(subject, relation)[0])]


def test_unknown_relation_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"landmark\.city"):
        world().objects("Eiffel Tower", "landmark.citty")


def test_validate_finds_contradictions():
    facts = (
        Fact("Paris", "city.country", "France"),
        Fact("Paris", "city.country", "Italy"),
        Fact("France", "country.continent", "Europe"),
        Fact("Big Clock", "landmark.city", "Nowhere"),
        Fact("Dr. No.", "work.kind", "film"),
    )
    problems = "\n".join(validate(World(facts, {"Paris": ("France",)})))
    for expected in ("2 answers", "Nowhere", "full stop", "alias 'France'"):
        assert expected in problems


def test_load_names_the_line_of_a_malformed_row(tmp_path):
    for table in FACTS.glob("*.tsv"):
        (tmp_path / table.name).write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    with (tmp_path / "cities.tsv").open("a", encoding="utf-8") as file:
        file.write("Atlantis\n")
    with pytest.raises(DataError, match=r"cities\.tsv, line \d+: 1 cells"):
        load(tmp_path)
