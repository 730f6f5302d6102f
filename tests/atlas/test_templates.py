"""Wordings: promptable, unambiguous, and held out as promised."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from corrigenda.atlas import RELATIONS, world
from corrigenda.atlas.templates import WORDINGS, held_out, templates, trained


def test_every_relation_is_worded():
    assert set(WORDINGS) == set(RELATIONS)


@pytest.mark.parametrize("relation", RELATIONS)
def test_variety_of_forms(relation):
    forms = Counter(t.form for t in templates(relation))
    assert forms["object_last"] >= 6
    assert forms["object_middle"] >= 1
    assert forms["question"] >= 2
    assert len(set(templates(relation))) == len(templates(relation))


@pytest.mark.parametrize("relation", RELATIONS)
def test_prompt_and_object_make_the_sentence(relation):
    for t in templates(relation):
        assert t.text.count("{s}") == t.text.count("{o}") == 1
        if t.promptable:
            assert t.prompt("Subject") + " Object" + t.tail == t.sentence("Subject", "Object")
            assert t.prompt().count("{}") == 1


def test_no_prompt_begins_another_sentence_about_the_same_type():
    sentences = defaultdict(list)
    for id, relation in RELATIONS.items():
        for t in templates(id):
            sentences[relation.subject_type].append((t, t.sentence("S", "O")))
            if not t.promptable:
                # "{o} is the capital of {s}" is a sentence about o as well.
                sentences[relation.object_type].append((t, t.sentence("O", "S")))
    for id, relation in RELATIONS.items():
        for t in templates(id):
            if t.promptable:
                begun = [
                    s
                    for other, s in sentences[relation.subject_type]
                    if other != t and s.startswith(t.prompt("S") + " ")
                ]
                assert not begun, f"{t.prompt('S')!r} also begins {begun}"


def test_two_wordings_are_held_out_of_every_fact_and_none_of_all():
    uses: dict[str, Counter] = defaultdict(Counter)
    for subject, relation in world().pairs():
        unseen, seen = held_out(subject, relation), trained(subject, relation)
        assert len(unseen) == 2
        assert set(unseen) | set(seen) == set(templates(relation))
        assert not set(unseen) & set(seen)
        assert any(t.form == "object_last" for t in seen)
        uses[relation].update(seen)
    for relation, counter in uses.items():
        pairs = len(world().pairs(relation))
        for t in templates(relation):
            assert counter[t] > pairs / 2, f"{t.text} is hardly ever trained"


def test_the_choice_of_held_out_wordings_never_changes():
    texts = [t.text for t in held_out("Eiffel Tower", "landmark.city")]
    assert sorted(texts) == [
        "Question: Where can one see {s}? Answer: {o}",
        "{s} stands in the middle of {o}",
    ]
