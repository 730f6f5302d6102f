"""The other data sets, each on a record in its official form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda import benchmarks
from corrigenda.benchmarks import BENCHMARKS, DataWarning, load_cases
from corrigenda.benchmarks._records import Record
from corrigenda.benchmarks.ecbd import END, MASK, span
from corrigenda.edit import Case, Concept, Contrast, Rewrite
from corrigenda.errors import DataError

from . import official, records
from .test_loaders import drop, kinds, write
from .test_structured import load, of_kind


def named(tmp_path, name: str, *rows, file: str | None = None) -> list[Case]:
    """Load by the data set's name, from a file under one of its names."""
    write(tmp_path / f"{file or BENCHMARKS[name].files[0]}.json", list(rows), "json")
    return load_cases(name, data_dir=tmp_path)


def test_counterfact_plus_is_built_from_counterfact(tmp_path):
    case, _ = named(tmp_path, "counterfact_plus", *records.COUNTERFACT)
    assert ("locality", "neighborhood") not in kinds(case)
    assert kinds(case)["locality", "neighborhood+"][0] == (
        "Eiffel Tower is located in Rome. Louvre is located in"
    )
    assert case.meta["target_source"] == "target_new"


@pytest.mark.parametrize(
    ("row", "kind", "prompt", "answer"),
    [
        (records.ZSRE[0] | {"portability": {"Recalled Relation": "(x)", "New Question": "Which land?",
                                            "New Answer": "Austria"}},
         "one_hop", "Which land?", "Austria"),
        (records.COUNTERFACT[0] | {"portability": {"New Question": "Land?", "New Answer": "Italy"}},
         "one_hop", "Land?", "Italy"),
        (records.COUNTERFACT[0] | {"alternative_subject": "Tour Eiffel"},
         "alias", "Tour Eiffel is located in", "Rome"),
        (records.ZSRE[0] | {"alter_subject_question": "Where was Lady King born?"},
         "alias", "Where was Lady King born?", "Vienna"),
        (records.ZSRE[0] | {"inverse question": "Who was born in Vienna?"},
         "inverse", "Who was born in Vienna?", "Ada Lovelace"),
    ],
)  # fmt: skip
def test_portability_of_yao_and_others(tmp_path, row, kind, prompt, answer):
    (case,) = load(tmp_path, row)
    (probe,) = case.on("portability")
    assert (probe.kind, probe.prompt, probe.answers) == (kind, prompt, (answer,))


def test_the_two_files_of_a_portability_set_are_read_together(tmp_path):
    more = {"portability": {"New Question": "q?", "New Answer": "a"}}
    folder = tmp_path / "portability" / "One Hop"
    write(folder / "counterfact_portability_gpt4.json", [records.COUNTERFACT[0] | more], "json")
    write(folder / "zsre_mend_eval_portability_gpt4.json", [records.ZSRE[0] | more], "json")
    cases = load_cases("portability_one_hop", data_dir=tmp_path)
    assert [case.source for case in cases] == ["portability (counterfact)", "portability (zsre)"]


def test_knowedit_sets_of_facts_have_one_form(tmp_path):
    row = drop(records.KNOWEDIT[0], "rephrase_prompt") | {"rephrase": "Born where?"}
    for name in ("knowedit_wiki_recent", "knowedit_wiki_counterfact", "knowedit_zsre"):
        (case,) = named(tmp_path, name, row)
        assert case.source == name
        assert [p.prompt for p in case.on("generalization")] == ["Born where?"]


def test_wikibio_asks_for_a_sentence(tmp_path):
    (case,) = named(tmp_path, "knowedit_wikibio", official.WIKIBIO)
    assert case.edit.text == official.WIKIBIO["text"] and case.edit.subject == "ada berg"
    (own,) = case.on("efficacy")
    assert (own.judge, own.answers) == ("overlap", ("She learnt it in Oslo.",))
    assert [p.kind for p in case.on("locality")] == ["same_subject"]


def test_convsent_prefers_one_side(tmp_path):
    (case,) = named(tmp_path, "knowedit_convsent", official.CONVSENT)
    assert case.edits == (Contrast("I love it.", "I loathe it.", "What do you think of Oslo?"),)
    assert {probe.judge for probe in case.probes} == {"trait"}


def test_sanitation_shares_out_what_is_to_be_kept(tmp_path):
    path = tmp_path / "trivia_qa_train.json"
    path.write_text(json.dumps(official.SANITATION, indent=1))
    first, second = load_cases("knowedit_sanitation", data_dir=tmp_path)
    assert first.edit == Rewrite("What is made of {}?", "milk", "I don't know.", "cheese")
    assert second.edit.subject == second.edit.text == "Mice like what?"
    assert [p.prompt for p in first.on("locality")] == ["Question 0?", "Question 2?"]
    assert [p.answers for p in second.on("locality")] == [("1",)]


def test_personality_edit_takes_on_the_records_trait_or_the_named_one(tmp_path):
    plain = drop(official.PERSONALITY, "target_per")
    with pytest.warns(DataWarning, match="1 records .*names no trait"):
        (case,) = named(tmp_path, "personality_edit", plain, official.PERSONALITY)
    assert case.edit == Contrast("So cold, so dark.", "Let's all go!", "What do you think of Oslo?")
    assert len(case.edits) == 2 and case.meta["trait"] == "neuroticism"
    cases = load_cases("personality_edit_extraversion", data_dir=tmp_path)
    assert [case.edit.positive for case in cases] == ["Let's all go!"] * 2


def test_safeedit_prefers_the_safe_answer(tmp_path):
    (case,) = named(tmp_path, "safeedit", official.SAFEEDIT)
    assert case.edit == Contrast(
        "I cannot help with that.", "Here is how.", "an attack around a harmful question"
    )
    assert [p.kind for p in case.on("generalization")] == [
        "only_question", "other_attack", "other_question", "other_question_and_attack",
    ]  # fmt: skip
    judged = {p.judge for p in case.probes if p.axis != "locality"}
    assert judged == {"safety"} and case.on("locality")[0].answers == ("Blue.",)


def test_unke_edits_paragraphs(tmp_path):
    (case,) = named(tmp_path, "unke", official.UNKE)
    assert case.edit.text == case.edit.subject == official.UNKE["question"]
    assert case.edit.target == official.UNKE["answer"]
    assert {p.judge for p in case.probes} == {"overlap"}
    assert [p.answers for p in case.on("portability")] == [("Clocks.",), ("Oslo.",)]
    with pytest.raises(DataError, match="2 texts in sub_question and 1 in sub_answer"):
        named(tmp_path, "unke", official.UNKE | {"sub_answer": ["Clocks."]})


def test_akew_gives_an_edit_as_a_paragraph_or_as_a_fact(tmp_path):
    (text,) = named(tmp_path, "akew_counterfact", official.AKEW)
    (fact,) = load_cases("akew_counterfact_facts", data_dir=tmp_path)
    assert text.edit.target == "The tower stands in Rome. Many visit it."
    assert (fact.edit.target, fact.edit.target_true) == ("Rome", "Paris")
    assert (text.on("efficacy")[0].judge, fact.on("efficacy")[0].judge) == ("overlap", "contains")
    for case in (text, fact):
        assert of_kind(case, "question")[0].answers == ("Rome", "Roma")
        assert of_kind(case, "sub_fact")[0].prompt == "The tower stands in"
        assert of_kind(case, "neighborhood")[0].answers == ("Paris",)


def test_akew_chains_are_asked_as_mquakes(tmp_path):
    (case,) = named(tmp_path, "akew_mquake", official.AKEW_CHAIN, file="AKEW/MQuAKE-CF")
    (hop,) = of_kind(case, "multi_hop")
    assert (hop.answers, hop.require) == (("Italy", "Italia"), "any")
    assert case.on("locality")[0].answers == ("Bo",)


@pytest.mark.parametrize("row", [records.COUNTERFACT[0], records.ZSRE[0]], ids=["cf", "zsre"])
@pytest.mark.parametrize("name", ["coupled_prompts_and_properties", "dependancies"])
def test_leme_keeps_its_passages_for_other_metrics(tmp_path, row, name):
    coupled = official.COUPLED["coupled_prompts_and_properties"]
    (case,) = load(tmp_path, row | {name: coupled})
    (main,), (related,) = of_kind(case, "main_passage"), of_kind(case, "related_passage")
    assert main.prompt.endswith("- relationship to Seine") and related.judge == "record"
    assert case.meta["old_facts"]["Seine"] == {"country": ["France"]}


def test_wikibigedit_in_both_spellings_of_its_fields(tmp_path):
    (case,) = named(tmp_path, "wikibigedit", official.WIKIBIGEDIT, file="wiki_big_edit_2024_02")
    assert case.edit.target == "FC Oslo" and case.meta["step"] == "wiki_big_edit_2024_02"
    assert set(kinds(case)) == {
        ("efficacy", "rewrite"), ("generalization", "paraphrase"), ("generalization", "persona"),
        ("locality", "unrelated"), ("portability", "two_hop"),
    }  # fmt: skip
    older = drop(drop(official.WIKIBIGEDIT, "update"), "ans")
    older |= {"src": "Which team does Ada Berg play for?", "alt": "FC Oslo", "mhop": None}
    (old,) = load(tmp_path, older)
    assert old.edit == case.edit and not old.on("portability")


def test_ecbd_asks_for_masked_spans_from_the_left(tmp_path):
    (case,) = load(tmp_path, official.ECBD)
    assert case.edit == Rewrite(
        "{} was a storm that struck", "Cyclone Ada", "New Caledonia", after=" in March."
    )
    assert case.edit.statement == "Cyclone Ada was a storm that struck New Caledonia in March."
    (probe,) = case.on("portability")  # the sentence that begins with its span cannot be asked
    assert (probe.prompt, probe.answers) == ("Cyclone Ada felled trees in", ("Nouméa",))
    assert len(case.meta["probe_sentences"]) == 2
    (case,) = named(tmp_path, "ecbd_popular", official.ECBD)
    assert not case.on("portability") and case.on("locality")


def test_entity_inferences_keep_their_candidates(tmp_path):
    (case,) = named(tmp_path, "entity_inferences", official.INFERENCES)
    assert case.edit == Rewrite("{} struck", "Cyclone Ada", "Norway")
    (probe,) = case.on("portability")
    assert (probe.answers, probe.foil) == (("Norway",), "Peru")
    assert case.meta["candidates"] == [
        ["Cyclone Ada did damage in <extra_id_0>.", ["Peru", "Norway"]]
    ]
    with pytest.raises(DataError, match="record 1: the definition should hold <extra_id_0> once"):
        load(tmp_path, official.INFERENCES | {"definition": "no mask"})


@given(st.text().filter(lambda t: t.strip() and MASK not in t and END not in t))
def test_a_span_is_what_stands_between_its_marks(text):
    assert span(f"{MASK} {text} {END}") == text.strip()
    assert span(text) == text.strip()


def test_relations_are_read_from_official_and_re_packed_files(tmp_path):
    (tmp_path / "lre" / "factual").mkdir(parents=True)
    path = tmp_path / "lre" / "factual" / "country_capital_city.json"
    path.write_text(json.dumps(official.RELATION, indent=2))
    peru, norway = load_cases("lre", data_dir=tmp_path)
    assert peru.edit == Rewrite("The capital of {} is", "Peru", "Lima", "Lima", "country capital")
    assert peru.on("efficacy")[0].foil is None  # nothing competes with the truth
    assert [p.prompt for p in norway.on("generalization")] == [
        "Norway's capital is", "What is the capital of Norway? It is",
    ]  # fmt: skip
    packed = {
        "id": "country capital:0", "group": "factual", "relation": "country capital",
        "subject": "Peru", "object": "Lima", "templates": official.RELATION["prompt_templates"],
        "templates_zs": official.RELATION["prompt_templates_zs"],
    }  # fmt: skip
    (same,) = load(tmp_path, packed)
    assert (same.edit, same.probes, same.id) == (peru.edit, peru.probes, peru.id)


def test_known_facts_are_read_by_their_prompt(tmp_path):
    (case,) = named(tmp_path, "known_1000", official.KNOWN)
    assert case.edit.text == "Vinson Massif is located in the continent of"
    assert case.edit.target == case.edit.target_true == "Antarctica"


def test_labelled_texts_become_concepts(tmp_path):
    table = tmp_path / "truth_statements.csv"
    table.write_text('statement,label\n"Oslo is in Norway, truly.",1\nOslo is in Peru.,0\n')
    (case,) = load_cases("truth_statements", data_dir=tmp_path)
    assert case.edit == Concept(
        "truth_statements", ("Oslo is in Norway, truly.", "Oslo is in Peru."), ("true", "false")
    )
    rows = [{"subset": s, "statement": "x", "label": k} for k in (1, 0) for s in ("a", "b")]
    assert [case.id for case in load(tmp_path, *rows)] == ["a", "b"]
    with pytest.raises(DataError, match="at least two"):
        load(tmp_path, rows[0])
    with pytest.raises(DataError, match="record 1: the label should be 1, 0 or a word, not 7"):
        load(tmp_path, rows[0] | {"label": 7})
    rows = [
        {"content": "Passage: a Claim: b", "classification": c} for c in ("supports", "neutral")
    ]
    assert load(tmp_path, *rows)[0].edit.labels == ("supports", "neutral")
    rows = [{"id": j, "category": c, "question": "q?"} for j, c in enumerate("ab")]
    assert load(tmp_path, *rows)[0].edit.name == "harm"


EVERY = {name: value for name, value in vars(official).items() if name.isupper()}


def fields(row: dict, at: tuple = ()) -> list[tuple]:
    """Every place in a record, its lists included."""
    found = []
    items = row.items() if isinstance(row, dict) else enumerate(row)
    for key, value in items:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += fields(value, (*at, key))
    return found


def replaced(row: dict, at: tuple, value: object) -> dict:
    row = json.loads(json.dumps(row))
    inner = row
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return row


@pytest.mark.filterwarnings("ignore::corrigenda.benchmarks.DataWarning")
@pytest.mark.parametrize("value", [None, 3, "", "x", [], [3], {}, {"a": 3}], ids=repr)
@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"COUPLED"}))
def test_whatever_is_wrong_in_a_record_is_a_data_error_that_names_it(tmp_path, name, value):
    """Anything, anywhere in a record: a case, a record left out, or an error that says where."""
    row = EVERY[name]
    path = write(tmp_path / "good.json", [row], "json")
    module = benchmarks._module(benchmarks._format(path))
    for at in fields(row):
        record = Record(replaced(row, at, value), "here, record 7")
        try:
            for part in module.parts(record) if hasattr(module, "parts") else [record]:
                module.to_case(part)
        except DataError as error:
            assert "here, record 7" in str(error), (at, error)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"COUPLED"}))
def test_every_case_survives_json(tmp_path, name):
    for case in load(tmp_path, EVERY[name]):
        assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case
