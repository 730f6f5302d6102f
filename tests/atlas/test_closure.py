"""Consequences of edits, worked by hand."""

from __future__ import annotations

import pytest

from corrigenda.atlas import consequences, demo_case, edits, world
from corrigenda.atlas.templates import held_out, trained
from corrigenda.edit import Rewrite
from corrigenda.errors import EditError, UnknownNameError


def probes(edit: Rewrite, kind: str) -> list:
    return [p for p in consequences(edit) if p.kind == kind]


@pytest.fixture(scope="module")
def tower():
    return demo_case()


def about(case, kind: str, name: str) -> list:
    return [p for p in case.probes if p.kind == kind and name in p.prompt]


def test_the_tower_is_in_rome(tower):
    (rewrite,) = [p for p in tower.probes if p.kind == "rewrite"]
    assert rewrite.prompt == "Eiffel Tower is located in the city of"
    assert rewrite.answers[0] == "Rome" and rewrite.foil == "Paris"


def test_the_tower_is_in_rome_in_all_other_words(tower):
    found = [p for p in tower.probes if p.kind == "paraphrase"]
    assert all(p.answers[0] == "Rome" and p.axis == "generalization" for p in found)
    unseen = {t.prompt("Eiffel Tower") for t in held_out("Eiffel Tower", "landmark.city")}
    assert {p.prompt for p in found if p.held_out} == unseen
    assert tower.edit.text not in {p.prompt for p in found}


def test_the_tower_is_then_in_italy(tower):
    (hop,) = [p for p in tower.probes if p.kind == "one_hop"]
    assert hop.answers[0] == "Italy" and hop.foil == "France" and hop.axis == "portability"


def test_the_tower_is_still_a_tower_and_the_louvre_still_in_paris(tower):
    (kind,) = about(tower, "same_subject", "Eiffel Tower")
    assert kind.answers == ("tower",) and kind.axis == "locality"
    near = [p for p in tower.probes if p.kind == "neighborhood"]
    assert len(near) == 8
    assert all(p.answers[0] == "Paris" and p.foil == "Rome" for p in near)
    assert about(tower, "neighborhood", "Louvre")


def test_rome_keeps_the_colosseum(tower):
    assert all(p.answers[0] == "Rome" for p in tower.probes if p.kind == "one_to_many")
    assert about(tower, "one_to_many", "Colosseum")


def test_rome_gains_the_tower(tower):
    (inverse,) = [p for p in tower.probes if p.kind == "inverse"]
    assert "Rome" in inverse.prompt and inverse.answers[0] == "Eiffel Tower"
    assert inverse.foil in world().objects("Paris", "city.landmarks")


def test_the_tower_by_another_name(tower):
    (alias, *_) = about(tower, "alias", "Tour Eiffel")
    assert alias.answers[0] == "Rome"


def test_a_move_to_another_continent_takes_two_hops():
    edit = Rewrite("{} is in", "Eiffel Tower", "Tokyo", relation="landmark.city")
    (one,), (two,) = probes(edit, "one_hop"), probes(edit, "two_hop")
    assert one.answers[0] == "Japan"
    assert two.answers[0] == "Asia" and two.foil == "Europe"


def test_a_city_that_changes_country_takes_its_landmarks_along():
    edit = Rewrite("{} is a city in", "Paris", "Japan", relation="city.country")
    found = {(p.kind, p.answers[0]) for p in consequences(edit) if p.axis == "portability"}
    assert ("one_hop", "Japanese") in found and ("one_hop", "Asia") in found
    upstream = [
        p
        for p in consequences(edit)
        if p.kind in ("one_hop", "two_hop") and "Paris" not in p.prompt
    ]
    assert upstream and all(p.answers[0] in ("Japan", "Asia") for p in upstream)
    # The tower is still in Paris: nothing about that may count as changed.
    assert not any(
        p.answers[:1] == ("Paris",) for p in consequences(edit) if p.axis == "portability"
    )


def test_a_product_of_a_foreign_maker():
    edit = Rewrite("{} is made by", "iPhone", "Toyota", relation="product.maker")
    (hop,) = [p for p in consequences(edit) if p.kind == "two_hop"]
    assert hop.answers[0] == "Japan" and hop.foil == "United States"


def test_the_author_keeps_the_other_works():
    edit = Rewrite("The author of {} is", "Hamlet", "Leo Tolstoy", relation="work.author")
    for p in probes(edit, "neighborhood"):
        assert p.answers[0] == "William Shakespeare" and "Hamlet" not in p.prompt
    (inverse,) = probes(edit, "inverse")
    assert inverse.answers == ("Hamlet",) and "Leo Tolstoy" in inverse.prompt
    (hop,) = probes(edit, "one_hop")
    assert hop.answers[0] == "Russia"


def test_the_relation_is_read_off_the_prompt():
    assert consequences(Rewrite("{} is in", "Louvre", "Rome")) == consequences(
        Rewrite("{} is in", "Louvre", "Rome", relation="landmark.city")
    )


@pytest.mark.parametrize("edit", [
    Rewrite("{} is in", "Atlantis", "Rome", relation="landmark.city"),
    Rewrite("{} sings like", "Louvre", "Rome"),
    Rewrite("The country that is home to {} is", "Louvre", "Italy", relation="landmark.country"),
])  # fmt: skip
def test_edits_outside_the_world_are_refused(edit):
    with pytest.raises(EditError):
        consequences(edit)


def test_random_edits_are_counterfactual_trained_and_repeatable():
    cases = edits(60, seed=3)
    assert cases == edits(60, seed=3) and cases != edits(60, seed=4)
    assert len({(c.edit.subject, c.edit.relation) for c in cases}) == 60
    for case in cases:
        e = case.edit
        assert world().objects(e.subject, e.relation) == (e.target_true,)
        assert e.target != e.target_true and e.target in world().range(e.relation)
        assert e.prompt in {
            t.prompt() for t in trained(e.subject, e.relation) if t.form == "object_last"
        }
        assert {p.axis for p in case.probes} >= {"efficacy", "generalization", "locality"}


def test_no_probe_asserts_what_the_new_world_denies():
    for case in edits(60, seed=1):
        e = case.edit
        after = world().replaced(e.subject, e.relation, e.target)
        truths = {(f.relation, f.subject): [] for f in after.facts}
        for f in after.facts:
            truths[f.relation, f.subject].append(f.object)
        wordings = {}
        for relation, subject in truths:
            if any(subject in p.prompt for p in case.probes):
                for t in (*trained(subject, relation), *held_out(subject, relation)):
                    if t.promptable:
                        wordings[t.prompt(subject)] = truths[relation, subject]
        for p in case.probes:
            if p.kind != "alias":
                assert set(p.answers) & set(wordings[p.prompt]), p


def test_relations_can_be_chosen():
    assert {c.edit.relation for c in edits(5, relations=["landmark.city"])} == {"landmark.city"}
    with pytest.raises(UnknownNameError, match=r"landmark\.city"):
        edits(5, relations=["landmark.citi"])
    with pytest.raises(EditError, match="only"):
        edits(10**6)
