"""Ripples: all that follows, nothing that stays among it, and every answer true afterwards."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.atlas import RELATIONS, demo_case, world
from corrigenda.atlas.closure import editable
from corrigenda.atlas.ripple import cases, must_follow, must_stay, ripple
from corrigenda.atlas.templates import held_out, trained
from corrigenda.edit import Rewrite
from corrigenda.errors import EditError

FACTS = editable(world())


@st.composite
def rewrites(draw) -> Rewrite:
    """Any counterfactual edit of the world."""
    subject, relation = draw(st.sampled_from(FACTS))
    (old,) = world().objects(subject, relation)
    new = draw(st.sampled_from([o for o in world().range(relation) if o != old]))
    return Rewrite("{} is", subject, new, old, relation)


def edited(edit: Rewrite):
    return world().replaced(edit.subject, edit.relation, edit.target)


def pairs(ripples) -> set[tuple[str, str]]:
    return {(one.subject, one.relation) for one in ripples}


def of(edit: Rewrite, kind: str) -> list:
    return [p for p in ripple(edit) if p.kind == kind]


@settings(max_examples=25, deadline=None)
@given(rewrites())
def test_what_follows_is_the_whole_difference_of_the_worlds(edit):
    before, after = (
        {(f.subject, f.relation, f.object) for f in one.facts} for one in (world(), edited(edit))
    )
    changed = {(s, r) for s, r, _ in before ^ after}
    silent = {(s, r) for s, r in changed if not edited(edit).objects(s, r)}
    assert pairs(must_follow(edit)) == changed - silent


@settings(max_examples=25, deadline=None)
@given(rewrites())
def test_nothing_both_follows_and_stays(edit):
    follow, stay = must_follow(edit), must_stay(edit)
    assert not pairs(follow) & pairs(stay)
    assert len(pairs(stay)) == len(stay)
    after = edited(edit)
    for one in (*follow, *stay):
        assert after.objects(one.subject, one.relation) == one.answers
        assert world().objects(one.subject, one.relation) == one.before
    assert all(one.answers == one.before for one in stay)
    assert all(set(one.answers) != set(one.before) for one in follow)


@settings(max_examples=15, deadline=None)
@given(rewrites())
def test_the_edit_back_ripples_through_the_same_facts(edit):
    there = edited(edit)
    back = Rewrite("{} is", edit.subject, edit.target_true or "", edit.target, edit.relation)
    forth = {(f.subject, f.relation): f for f in must_follow(edit)}
    again = {(f.subject, f.relation): f for f in must_follow(back, there)}
    for fact in forth.keys() & again.keys():
        assert set(forth[fact].answers) == set(again[fact].before)
        assert set(forth[fact].before) == set(again[fact].answers)
    # One way only: facts that have an answer in one of the worlds and none in the other.
    for one in (forth[fact] for fact in forth.keys() - again.keys()):
        assert not one.before
    for one in (again[fact] for fact in again.keys() - forth.keys()):
        assert not one.before


@cache
def facts_of_prompts() -> dict[str, set[tuple[str, str]]]:
    """Every prompt of the world → the facts that it may ask for."""
    asked = defaultdict(set)
    for subject, relation in world().pairs():
        for t in (*trained(subject, relation), *held_out(subject, relation)):
            if t.promptable:
                for name in (subject, *world().aliases(subject)):
                    asked[t.prompt(name)].add((subject, relation))
    return asked


@settings(max_examples=15, deadline=None)
@given(rewrites())
def test_every_answer_is_true_in_the_edited_world(edit):
    after = edited(edit)
    # An object may come to have what its kind has and it had not: a language, in another country.
    new = {
        t.prompt(subject): [(subject, relation)]
        for subject, relation in set(after.pairs()) - set(world().pairs())
        for t in (*trained(subject, relation), *held_out(subject, relation))
        if t.promptable
    }

    def truth(prompt: str, one) -> set[str]:
        return {
            name
            for subject, relation in facts_of_prompts().get(prompt, ()) or new[prompt]
            for o in one.objects(subject, relation)
            for name in (o, *one.aliases(o))
        }

    for probe in ripple(edit):
        if probe.kind == "rewrite":
            continue  # its prompt is the edit's own, which need not be one of the world's
        assert set(probe.answers) <= truth(probe.prompt, after), probe
        for condition in probe.conditions:
            assert set(condition.answers) <= truth(condition.prompt, world()), probe
        if probe.axis == "locality":
            assert set(probe.answers) == truth(probe.prompt, world())


def test_the_tower_in_rome():
    edit = demo_case().edit
    kinds = {(f.subject, f.relation): f.kind for f in must_follow(edit)}
    assert kinds == {
        ("Eiffel Tower", "landmark.city"): "rewrite",
        ("Eiffel Tower", "landmark.country"): "one_hop",
        ("Paris", "city.landmarks"): "inverse_lost",
        ("Rome", "city.landmarks"): "inverse_any",
    }
    # Still in Europe, but by another way: that neither follows nor stays.
    assert ("Eiffel Tower", "landmark.continent") not in pairs(must_stay(edit))
    assert {"Rome", "Paris"} <= {f.subject for f in must_stay(edit)}


def test_the_chain_is_the_condition():
    edit = Rewrite("{} is in", "Eiffel Tower", "Tokyo", "Paris", "landmark.city")
    assert {len(p.conditions) for p in of(edit, "one_hop")} == {1}
    for probe in of(edit, "two_hop"):
        city, country = probe.conditions
        assert "Tokyo" in city.prompt and city.answers[0] == "Japan"
        assert "Japan" in country.prompt and country.answers[0] == "Asia"
        assert probe.answers[0] == "Asia"


def test_others_reach_the_edit_on_their_way():
    edit = Rewrite("{} is a city in", "Paris", "Japan", "France", "city.country")
    tower = [p for p in of(edit, "upstream_one_hop") if "Eiffel Tower" in p.prompt]
    assert tower and all(p.answers[0] == "Japan" for p in tower)
    assert all(c.answers[0] == "Paris" for p in tower for c in p.conditions)
    assert of(edit, "upstream_two_hop")


def test_backwards_with_several_right_answers():
    edit = demo_case().edit
    any_of, strict = of(edit, "inverse_any"), of(edit, "inverse_strict")
    assert [p.prompt for p in any_of] == [p.prompt for p in strict]
    assert all({"Colosseum", "Eiffel Tower"} <= set(p.answers) for p in any_of)
    assert all(p.answers[0] == "Eiffel Tower" and "Colosseum" not in p.answers for p in strict)
    lost = of(edit, "inverse_lost")
    assert lost and all("Paris" in p.prompt and "Louvre" in p.answers for p in lost)
    # Asked only where the model names the tower there: it must then name something else.
    assert all("Eiffel Tower" in p.conditions[0].answers for p in lost)
    assert not any("Eiffel Tower" in p.answers for p in lost)


def test_backwards_with_one_right_answer():
    none_yet = next(
        c for c in world().range("landmark.city") if not world().objects(c, "city.companies")
    )
    edit = Rewrite("{} is run from", "Adidas", none_yet, None, "company.headquarters")
    probes = of(edit, "inverse_new")
    assert probes and all(p.answers[0] == "Adidas" for p in probes)
    assert not of(edit, "inverse_any")


def test_every_kind_of_fact_that_stays_is_asked_where_it_is_known():
    probes = [p for p in ripple(demo_case().edit) if p.axis == "locality"]
    assert {p.kind for p in probes} == {
        "same_subject",
        "subject_alias",
        "neighborhood",
        "new_neighborhood",
        "old_object",
        "new_object",
        "far",
    }
    for p in probes:
        (own,) = p.conditions
        assert own.prompt == p.prompt and own.answers == p.answers


def test_edits_are_those_of_atlas_and_repeatable():
    found = cases(5, seed=2)
    assert found == cases(5, seed=2)
    assert all(case.source == "atlas-ripple" and len(case.probes) > 20 for case in found)
    assert all(RELATIONS[case.edit.relation or ""].kind == "given" for case in found)


def test_a_derived_fact_cannot_be_edited():
    with pytest.raises(EditError, match="follows from other facts"):
        must_follow(Rewrite("{} is", "Louvre", "Italy", relation="landmark.country"))
