"""Data sets whose cases hold several edits, or tests of several questions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.benchmarks import DataWarning, load_cases
from corrigenda.benchmarks.ripple_edits import parsed
from corrigenda.edit import Case, Condition, Rewrite
from corrigenda.errors import DataError, InputError

from . import official
from .test_loaders import kinds, write


def load(tmp_path, *rows, name="data.json", **more) -> list[Case]:
    return load_cases(write(tmp_path / name, list(rows), "json"), **more)


def of_kind(case: Case, kind: str):
    return [probe for probe in case.probes if probe.kind == kind]


# -- RippleEdits ------------------------------------------------------------------------------


def test_ripple_edits_in_their_six_criteria(tmp_path):
    (case,) = load(tmp_path, official.RIPPLE)
    assert case.edit == Rewrite(
        "The name of the country of citizenship of {} is",
        "Ada of Lovelace",
        "New Zealand",
        "New Spain",
        "COUNTRY_OF_CITIZENSHIP",
    )
    assert set(kinds(case)) == {
        ("efficacy", "rewrite"),
        ("locality", "same_subject"),
        ("portability", "alias"),
        ("portability", "compositionality_1"),
    }
    (own,) = of_kind(case, "same_subject")
    assert own.answers == ("Anne", "Annabella")
    assert own.conditions == (
        Condition("The name of the mother of Ada of Lovelace is", ("Anne", "Annabella")),
    )
    first, second = of_kind(case, "compositionality_1")
    assert first.group == second.group == "Compositionality_I[0]"
    assert (first.require, own.require) == ("all", "any")
    assert first.conditions == second.conditions and len(first.conditions) == 2
    # Every object under every name; a lone sign is no name, a digit is one.
    assert second.answers == ("dollar", "7", "NZD")


def test_both_spellings_of_relation_specificity_are_read(tmp_path):
    row = {k: v for k, v in official.RIPPLE.items() if k != "Relation_Specifity"}
    row["Relation_Specificity"] = official.RIPPLE["Relation_Specifity"]
    (case,) = load(tmp_path, row)
    assert len(of_kind(case, "same_subject")) == 1


def test_a_recent_fact_has_no_previous_one(tmp_path):
    edit = {k: v for k, v in official.RIPPLE["edit"].items() if k != "previous_fact"}
    (case,) = load(tmp_path, official.RIPPLE | {"edit": edit, "example_type": "recent"})
    assert (case.edit.target, case.edit.target_true) == ("New Zealand", None)
    assert case.edit.subject == "Ada of Lovelace"


def test_a_ripple_sentence_that_tells_nothing_is_left_out_and_a_wrong_rule_is_named(tmp_path):
    bad = json.loads(json.dumps(official.RIPPLE))
    bad["edit"]["previous_fact"]["prompt"] = bad["edit"]["prompt"]
    with pytest.warns(DataWarning, match="record 1.*what was so before"):
        assert len(load(tmp_path, bad, official.RIPPLE)) == 1
    bad = json.loads(json.dumps(official.RIPPLE))
    bad["Compositionality_I"][0]["test_condition"] = "XOR"
    with pytest.raises(DataError, match=r"record 1, Compositionality_I\[0\]: test_condition"):
        load(tmp_path, bad)


TEMPLATES = (
    "The name of the mother of {} is",
    "The names of the siblings of {} are",
    "The number of children {} has is",
    "The gender of {} is",
    "The name of the country which {} is associated with is",
    "The name of the position held by {} is",
    "The name of the award {} won is",
    "{} follows",
    "{} is followed by",
    "The name of the currency in {} is",
    "The name of the country which {} is the capital of is",
    "The name of the field of work of {} is",
)
NAMES = st.lists(
    st.sampled_from(["Ada", "of", "the", "King", "Oslo", "'t", "Saint-Denis", "Zoë", "is", "II"]),
    min_size=1,
    max_size=4,
).map(" ".join)


@given(
    NAMES.filter(lambda n: n.split()[0] not in ("of", "is") and n.split()[-1] != "is"),
    st.lists(st.sampled_from(TEMPLATES), min_size=2, max_size=5, unique=True),
)
def test_a_subject_is_what_filled_templates_share(name, templates):
    stem, *others = (template.replace("{}", name) for template in templates)
    assert parsed(stem, others) == name


@pytest.mark.parametrize(
    ("stem", "relation", "subject"),
    [
        ("The place of birth of the Duke of York is", "PLACE_OF_BIRTH", "the Duke of York"),
        ("The name of the country of citizenship of Ada is", "COUNTRY_OF_CITIZENSHIP", "Ada"),
        ("The name of the capital city of Peru is", "CAPITAL", "Peru"),
        ("Ada follows", "FOLLOWS", "Ada"),
        ("The name of the league which FC Oslo plays in is", "LEAGUE", "FC Oslo"),
    ],
)
def test_one_template_is_told_by_its_relation(stem, relation, subject):
    assert parsed(stem, (), relation) == subject


# -- MQuAKE -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [official.MQUAKE, official.REMASTERED], ids=["v2", "remastered"])
def test_mquake_edits_all_facts_and_counts_any_question(tmp_path, row):
    (case,) = load(tmp_path, row)
    assert case.edits == (
        Rewrite("{} is a citizen of", "Ada Berg", "Libya", "Norway", "P27"),
        Rewrite("The capital of {} is", "Libya", "Lima", "Tripoli", "P36"),
    )
    assert not case.in_turn
    questions = of_kind(case, "multi_hop")
    assert [probe.prompt for probe in questions] == official.MQUAKE["questions"]
    for probe in questions:
        assert (probe.group, probe.require) == ("multi_hop", "any")
        assert (probe.answers, probe.foil) == (("Lima", "City of Kings"), "Oslo")
    assert [p.require for p in of_kind(case, "single_hop")] == ["all", "all"]
    assert [p.prompt for p in case.on("efficacy")] == [
        "Ada Berg is a citizen of",
        "The capital of Libya is",
    ]
    assert case.meta["old_answers"] == ["Oslo", "Kristiania", "Christiania"]
    assert case.meta["old_hops"] == [["Ada's country?", ["Norway"]]]
    assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case


def test_mquake_from_a_parquet_file(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = tmp_path / "mquake_remastered" / "CF3k-00000-of-00001.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist([official.REMASTERED] * 2), path)
    cases = load_cases("mquake_remastered", data_dir=tmp_path)
    assert len(cases) == 2 and len(cases[0].edits) == 2
    with pytest.raises(DataError, match="record 1: the field new_answer is missing"):
        row = {k: v for k, v in official.REMASTERED.items() if k != "new_answer"}
        pyarrow.parquet.write_table(pa.Table.from_pylist([row]), path)
        load_cases("mquake_remastered", data_dir=tmp_path)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not Parquet"):
        load_cases("mquake_remastered", data_dir=tmp_path)


# -- ConflictEdit and RoundEdit ---------------------------------------------------------------


def test_the_later_of_two_edits_of_a_fact_should_win(tmp_path):
    (case,) = load(tmp_path, official.COVERAGE)
    assert case.in_turn and [edit.target for edit in case.edits] == ["Cy", "Di"]
    (own,) = case.on("efficacy")
    assert (own.prompt, own.answers, own.foil) == ("The father of Ada is", ("Di",), "Cy")


def test_a_reverse_conflict_asks_for_what_the_later_edit_implies(tmp_path):
    (case,) = load(tmp_path, official.REVERSE)
    (implied,), (old,) = of_kind(case, "implied"), of_kind(case, "superseded")
    assert (implied.prompt, implied.answers) == ("The work of Bo is", ("Elegy",))
    assert (old.prompt, old.answers, old.judge) == ("The work of Ada is", ("Elegy",), "record")
    assert case.on("efficacy")[0].answers == ("Bo",)


def test_a_composite_conflict_keeps_the_tied_fact(tmp_path):
    (case,) = load(tmp_path, official.COMPOSITE)
    (implied,), (tied,) = of_kind(case, "implied"), case.on("locality")
    assert (implied.prompt, implied.answers, implied.foil) == (
        "The spouse of Eve is",
        ("Di",),
        "Cy",
    )
    assert (tied.prompt, tied.answers) == ("The mother of Ada is", ("Eve",))


def test_a_round_trip_goes_there_and_back(tmp_path):
    (case,) = load(tmp_path, official.ROUND)
    there, back = case.edits
    assert (there.target, back.target, back.target_true) == ("comedy", "poem", "comedy")
    assert case.in_turn and case.on("efficacy")[0].answers == ("poem",)
    others = of_kind(case, "other_object")
    assert [probe.answers for probe in others] == [("song",), ("lyric",)]
    assert {probe.judge for probe in others} == {"record"}


def test_prompt_variants_beside_the_file_become_paraphrases(tmp_path):
    variants = {"P6": ["{} is the child of", "{}'s dad is"]}
    (tmp_path / "conflict_prompts.json").write_text(json.dumps(variants))
    (case,) = load(tmp_path, official.COVERAGE)
    assert [p.prompt for p in case.on("generalization")] == ["Ada is the child of", "Ada's dad is"]


def test_a_conflict_of_another_kind_is_named(tmp_path):
    with pytest.raises(DataError, match=r"record 1: the type should be one of coverage"):
        load(tmp_path, official.COVERAGE | {"type": "odd"})
    with pytest.raises(DataError, match=r"two edits in order, not 1"):
        load(tmp_path, official.COVERAGE | {"edits": official.COVERAGE["edits"][:1]})


# -- several languages ------------------------------------------------------------------------


def test_bizsre_is_edited_in_one_language_and_asked_in_both(tmp_path):
    (case,) = load(tmp_path, official.BIZSRE)
    assert case.edit == Rewrite("Where was {} born?", "Ada Lovelace", "Vienna", "London")
    asked = {(p.kind, p.language): p.answers[0] for p in case.probes}
    assert asked == {
        ("rewrite", "en"): "Vienna",
        ("paraphrase", "en"): "Vienna",
        ("unrelated", "en"): "300 m",
        ("one_hop", "en"): "Austria",
        ("translation", "zh"): "维也纳",
        ("paraphrase", "zh"): "维也纳",
        ("unrelated", "zh"): "300米",
        ("one_hop", "zh"): "奥地利",
    }


def test_bizsre_the_other_way_round(tmp_path):
    path = write(tmp_path / "bizsre_test.json", [official.BIZSRE], "json")
    (case,) = load_cases("bizsre_zh", data_dir=tmp_path)
    assert case.edit.subject == case.edit.text == official.BIZSRE["zh"]["src"]
    assert case.on("efficacy")[0].language == "zh"
    write(path, [{"en": official.BIZSRE["en"]}], "json")
    with pytest.raises(InputError, match=r"no part in .zh.; its languages are en"):
        load_cases("bizsre_zh", data_dir=tmp_path)


def test_files_of_one_set_are_read_in_order(tmp_path):
    for code in ("de", "cz"):
        row = {"en": official.BIZSRE["en"], code: official.BIZSRE["zh"]}
        write(tmp_path / "MzsRE" / f"mzsre_test_duplicate_en{code}.json", [row], "json")
    languages = [
        {p.language for p in case.probes} for case in load_cases("mzsre", data_dir=tmp_path)
    ]
    assert languages == [{"en", "cz"}, {"en", "de"}]
