"""Four languages: names and wordings complete, promptable, held out, and the same facts in all."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from corrigenda.atlas import RELATIONS, documents, train, validate
from corrigenda.atlas import world as english_world
from corrigenda.atlas.lingual import TABLE, Polyglot, cases, names, spoken, translated, world
from corrigenda.atlas.templates import LANGUAGES
from corrigenda.errors import DataError, UnknownNameError

OTHERS = [language for language in LANGUAGES if language != "en"]
TOLD = {one.language: one for one in (english_world(), *world().tongues)}


@pytest.fixture(scope="module")
def sample():
    writer = Polyglot(world(), seed=5)
    return [writer.document(number) for number in range(1200)]


# -- names ------------------------------------------------------------------------------------


def test_every_thing_has_a_name_in_every_language():
    known = {n for f in english_world().given for n in (f.subject, f.object)}
    header, *rows = (line.split("\t") for line in TABLE.read_text("utf-8").splitlines())
    assert header == [*LANGUAGES, "source"]
    assert len({row[0] for row in rows}) == len(rows)
    assert {row[0] for row in rows} == known
    for row in rows:
        assert len(row) == len(header) and all(row), row
        assert row[-1] in ("mParaRel", "hand", "same"), row
        assert row[-1] != "same" or len(set(row[:-1])) == 1, row


@pytest.mark.parametrize("language", OTHERS)
def test_names_stay_apart(language):
    """Two things of one type never get one name: their facts would contradict each other."""
    of: dict[str, set[str]] = defaultdict(set)
    for f in english_world().given:
        of[RELATIONS[f.relation].subject_type].add(f.subject)
        of[RELATIONS[f.relation].object_type].add(f.object)
    for type, english in of.items():
        called = Counter(names(language)[name] for name in english)
        assert not [name for name, count in called.items() if count > 1], type


@pytest.mark.parametrize("language", OTHERS)
def test_a_translated_world_is_sound_and_the_same(language):
    there = translated(english_world(), language)
    assert validate(there) == ()
    assert len(there.facts) == len(english_world().facts)
    (tower, *_) = [n for n in there.subjects("landmark.city", names(language)["Paris"])
                   if "Eiffel" in n]  # fmt: skip
    assert there.objects(tower, "landmark.country") == (names(language)["France"],)


def test_things_without_a_name_are_named():
    odd = english_world().restricted(["Louvre"])
    given = tuple(type(f)("Atlantis", f.relation, f.object) for f in odd.given)
    with pytest.raises(DataError, match="Atlantis"):
        translated(type(odd)(given), "fr")
    with pytest.raises(UnknownNameError):
        names("tlh")


# -- wordings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_is_worded(language, relation):
    found = TOLD[language].templates(relation)
    forms = Counter(t.form for t in found)
    assert 4 <= len(set(found)) == len(found) <= 6
    assert forms["object_last"] >= 3 and forms["question"] >= 1
    for t in found:
        assert t.text.count("{s}") == t.text.count("{o}") == 1
        assert t.prompt("Subject") + " Object" + t.tail == t.sentence("Subject", "Object")


def test_no_prompt_begins_another_sentence_about_the_same_type():
    sentences = defaultdict(list)
    for id, relation in RELATIONS.items():
        for language in LANGUAGES:
            for t in TOLD[language].templates(id):
                sentences[relation.subject_type].append((t, t.sentence("S", "O")))
    for id, relation in RELATIONS.items():
        for language in LANGUAGES:
            for t in TOLD[language].templates(id):
                if t.promptable:
                    begun = [
                        s
                        for other, s in sentences[relation.subject_type]
                        if other != t and s.startswith(t.prompt("S") + " ")
                    ]
                    assert not begun, f"{t.prompt('S')!r} also begins {begun}"


@pytest.mark.parametrize("language", OTHERS)
def test_one_wording_is_held_out_of_every_fact_and_none_of_all(language):
    there = TOLD[language]
    uses: dict[str, Counter] = defaultdict(Counter)
    for subject, relation in there.pairs():
        unseen, seen = there.held_out(subject, relation), there.trained(subject, relation)
        assert len(unseen) == 1 and not set(unseen) & set(seen)
        assert {*unseen, *seen} == set(there.templates(relation))
        assert sum(t.form == "object_last" for t in seen) >= 2
        uses[relation].update(seen)
    for relation, counter in uses.items():
        half = len(there.pairs(relation)) / 2
        assert all(counter[t] > half for t in there.templates(relation)), relation


def test_every_language_marks_new_facts_and_names_the_others():
    assert len({there.marker for there in TOLD.values()}) == len(LANGUAGES)
    for language in LANGUAGES:
        for other in LANGUAGES:
            if other != language:
                assert {"{s}", "{o}"} <= set(TOLD[language].naming(other).text.split())


# -- documents --------------------------------------------------------------------------------


def test_documents_are_addressable(sample):
    assert next(documents(world(), seed=5, start=77)) == sample[77]
    assert [Polyglot(world(), seed=5).document(j) for j in (0, 77, 400)] == [
        sample[j] for j in (0, 77, 400)
    ]


def test_all_languages_are_written_and_marked(sample):
    for language in LANGUAGES:
        mark = TOLD[language].marker
        share = sum(mark in d.text for d in sample) / len(sample)
        assert 0.02 < share < 0.09, language
        assert all(d.muted for d in sample if mark in d.text)


def test_some_documents_name_one_thing_in_two_languages(sample):
    told = [
        d for d in sample
        if any(t in d.text for t in ("The French name of", "En allemand,", "En francés,"))
    ]  # fmt: skip
    assert len(told) > 20


def test_held_out_wordings_never_occur(sample):
    """A sentence begins a document or follows a full stop or a marker."""
    text = "\n".join(f" {d.text}" for d in sample)
    for language in LANGUAGES:
        text = text.replace(TOLD[language].marker + " ", "")
    for there in TOLD.values():
        for subject, relation in there.pairs():
            for t in there.held_out(subject, relation):
                begin = f" {t.prompt(subject)} "
                at = text.find(begin)
                while at >= 0:
                    assert text[at - 1] not in ".\n", text[at : at + 80]
                    at = text.find(begin, at + 1)


# -- edits ------------------------------------------------------------------------------------


def test_each_edit_is_made_in_one_language_and_asked_in_all():
    found = cases(8, seed=1)
    assert found == cases(8, seed=1)
    assert [case.meta["language"] for case in found] == [*LANGUAGES] * 2
    for case in found:
        source = case.meta["language"]
        assert {p.kind for p in case.probes} == {f"{source}-{other}" for other in LANGUAGES}
        assert {p.language for p in case.on("efficacy")} == {source}
        for axis in ("portability", "locality"):  # the same questions in all languages
            asked = Counter(p.language for p in case.on(axis))
            assert len(set(asked.values())) <= 1 and set(asked) <= set(LANGUAGES)


def test_no_probe_asserts_what_the_edited_world_denies():
    english = cases(8, seed=4)
    for case in english:
        for there in TOLD.values():
            own = [p for p in case.probes if p.language == there.language]
            if there.language == "en":
                table = {n: n for n in names("en")}
            else:
                table = dict(names(there.language))
            back = {v: k for k, v in names(case.meta["language"]).items()}
            subject, target = back[case.edit.subject], back[case.edit.target]
            after = there.replaced(table[subject], case.edit.relation or "", table[target])
            truths = defaultdict(set)
            for s, r in after.pairs():
                for t in after.templates(r):
                    if t.promptable:
                        for o in after.objects(s, r):
                            truths[t.prompt(s)] |= {o, *after.aliases(o)}
            for p in own:
                assert set(p.answers) <= truths[p.prompt], p


# -- training and recall ----------------------------------------------------------------------


def test_a_model_of_four_languages_is_trained_and_measured_in_each(tmp_path):
    pytest.importorskip("transformers")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from corrigenda.atlas.recall import by_language, measure

    toy = spoken(english_world().restricted(["Eiffel Tower", "Louvre", "Paris", "France"]))
    out = train(tmp_path, "tiny", steps=4, progress=False, world=toy)
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text in ("Le lieu nommé Tour Eiffel se trouve à Paris.", "Österreich, España"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    found = by_language(model, tokenizer, toy, per_pair=None)
    assert list(found) == [*LANGUAGES]
    pairs = len(toy.pairs())
    for language in OTHERS:
        asked = found[language].asked
        assert sum(n for (_, unseen), n in asked.items() if unseen) == pairs
        assert sum(n for (_, unseen), n in asked.items() if not unseen) == 4 * pairs
    whole = measure(model, tokenizer, toy, per_pair=None)
    assert sum(whole.asked.values()) == sum(sum(one.asked.values()) for one in found.values())
