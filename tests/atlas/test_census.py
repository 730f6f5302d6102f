"""The generated world: any size, the same for ever, sound, apart from Atlas, ready for editing."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.atlas import census, consequences, documents, edits, validate, world
from corrigenda.atlas.census_language import FIRST_NAMES, SURNAMES, WORDINGS
from corrigenda.atlas.closure import editable
from corrigenda.atlas.worlds import WORLDS, world_named, world_of
from corrigenda.errors import EditError, InputError, UnknownNameError


def test_worlds_have_the_names_that_they_are_listed_under():
    assert {name: world_named(name).name for name in WORLDS} == {name: name for name in WORLDS}
    assert world_of("atlas-census") is census() and world_of("atlas-llama") is world()
    assert world_of("atlas") is world()
    with pytest.raises(UnknownNameError, match="Did you mean census"):
        world_named("censsus")


def test_ten_thousand_edits_and_more():
    assert len(editable(census())) == 15_700
    assert len({f.subject for f in census().given}) == 3_300


@settings(max_examples=8)
@given(people=st.integers(20, 400), seed=st.integers(0, 3))
def test_every_census_is_sound(people, seed):
    w = census(people, seed)
    assert validate(w) == ()
    persons = [s for s, _ in w.pairs("person.birthplace")]
    assert len(set(persons)) == len(persons) == people
    for id, relation in w.relations.items():
        if relation.functional:
            assert all(len(w.objects(s, id)) == 1 for s, _ in w.pairs(id))
        if relation.kind == "given":
            assert len(w.range(id)) >= 8
    assert all(len(w.about(s)) >= 2 for s, _ in w.pairs())


def test_it_is_the_same_for_ever_and_another_for_another_seed():
    """The shipped model knows exactly these facts."""
    facts = [(f.subject, f.relation, f.object) for f in census().given]
    assert hashlib.sha256(repr(facts).encode()).hexdigest()[:16] == "eeae4c20926ae8c2"
    assert census(50, 1).given != census(50, 2).given
    assert census.__wrapped__(50, 1) == census(50, 1)


def test_names_are_distinct_and_sizes_are_checked():
    assert len(set(FIRST_NAMES)) == len(FIRST_NAMES) and len(set(SURNAMES)) == len(SURNAMES)
    names = len(FIRST_NAMES) * len(SURNAMES)
    with pytest.raises(InputError, match=f"between 20 and {names}"):
        census(names + 1)
    with pytest.raises(InputError, match="not 3"):
        census(3)


def test_no_subject_is_shared_with_atlas():
    theirs = {n for f in world().facts for n in (f.subject, f.object)}
    theirs |= {a for aliases in world().names.values() for a in aliases}
    assert not {s for s, _ in census().pairs()} & theirs


def test_objects_are_drawn_evenly():
    """So that the most frequent object is no good guess."""
    for id, relation in census().relations.items():
        if relation.kind == "given":
            uses = Counter(census().objects(s, id)[0] for s, _ in census().pairs(id)).values()
            assert max(uses) - min(uses) <= 1


def test_wordings_keep_the_rules():
    w = census()
    assert set(WORDINGS) == set(w.relations)
    sentences = defaultdict(list)
    for id, relation in w.relations.items():
        forms = Counter(t.form for t in w.templates(id))
        assert forms == {"object_last": 4, "object_middle": 1, "question": 1}
        sentences[relation.subject_type] += [(t, t.sentence("S", "O")) for t in w.templates(id)]
    for id, relation in w.relations.items():
        for t in w.templates(id):
            begun = [
                s
                for other, s in sentences[relation.subject_type]
                if other != t and s.startswith(t.prompt("S") + " ")
            ]
            assert not begun, f"{t.prompt('S')!r} also begins {begun}"


def test_one_wording_is_held_out_of_every_fact_and_none_of_all():
    w = census()
    uses: dict[str, Counter] = defaultdict(Counter)
    for subject, relation in w.pairs():
        assert len(w.held_out(subject, relation)) == 1
        assert len(w.trained(subject, relation)) == 5
        uses[relation].update(w.held_out(subject, relation))
    for relation, counter in uses.items():
        assert set(counter) == set(w.templates(relation)), relation


def test_held_out_wordings_never_occur_in_the_text():
    w = census(30)
    text = "\n".join(f" {d.text}" for d in islice(documents(w), 1500)).replace("New fact: ", "")
    said = 0
    for subject, relation in w.pairs():
        for t in w.held_out(subject, relation):
            assert f". {t.prompt(subject)} " not in text and f"\n {t.prompt(subject)} " not in text
        said += sum(f" {t.prompt(subject)} " in text for t in w.trained(subject, relation))
    assert said > len(w.pairs())


@pytest.fixture(scope="module")
def cases():
    return edits(150, seed=1, world=census())


def test_no_probe_asserts_what_the_new_world_denies(cases):
    w = census()
    asked = {t.prompt(s): (s, id) for s, id in w.pairs() for t in w.templates(id)}
    assert len(asked) == 6 * len(w.pairs()), "every prompt asks for one fact only"
    for case in cases:
        e = case.edit
        after = w.replaced(e.subject, e.relation, e.target)
        for p in case.probes:
            truth = after.objects(*asked[p.prompt])
            assert set(p.answers) <= set(truth), p
            assert p.foil is None or p.foil not in truth or p.kind == "inverse", p


def test_edits_have_every_kind_of_probe_and_are_repeatable(cases):
    assert cases == edits(150, seed=1, world=census())
    kinds = {p.kind for case in cases for p in case.probes}
    assert kinds == {
        "rewrite",
        "paraphrase",
        "inverse",
        "one_hop",
        "two_hop",
        "same_subject",
        "neighborhood",
        "one_to_many",
        "far",
    }
    for case in cases:
        assert case.source == "census" and case.id.startswith("census-1-")
        assert {p.axis for p in case.probes} >= {"efficacy", "generalization", "locality"}
        unseen = [p for p in case.probes if p.kind == "paraphrase" and p.held_out]
        assert len(unseen) == 1


def test_an_employer_that_moves_takes_the_employees_along():
    w = census()
    company = w.objects("Milo Stenholt", "person.employer")[0]
    old = w.objects(company, "company.headquarters")[0]
    new = next(
        city
        for city in w.range("company.headquarters")
        if w.objects(city, "city.country") != w.objects(old, "city.country")
    )
    after = w.replaced(company, "company.headquarters", new)
    assert after.objects("Milo Stenholt", "person.work_city") == (new,)
    country = w.objects(new, "city.country")
    assert after.objects("Milo Stenholt", "person.work_country") == country
    assert after.objects("Milo Stenholt", "person.birthplace") == w.objects(
        "Milo Stenholt", "person.birthplace"
    )


def test_other_worlds_edits_are_refused(cases):
    with pytest.raises(EditError, match="world atlas has no fact"):
        consequences(cases[0].edit)
