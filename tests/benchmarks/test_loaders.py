from __future__ import annotations

import collections
import gzip
import json
import os
from pathlib import Path

import pytest

from corrigenda.benchmarks import BENCHMARKS, DataWarning, find, load_cases
from corrigenda.benchmarks.counterfact import plus_prompt
from corrigenda.edit import Case, Rewrite
from corrigenda.errors import DataError, OfflineError, UnknownNameError

from . import records


@pytest.fixture(autouse=True)
def _nowhere_else(monkeypatch, tmp_path):
    """Only the directories that a test makes are searched."""
    monkeypatch.delenv("CORRIGENDA_DATA", raising=False)
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def write(path: Path, rows: list, form: str = "jsonl") -> Path:
    """As JSON lines or as one array, packed if the name ends in .gz."""
    text = json.dumps(rows, indent=1) if form == "json" else "\n".join(map(json.dumps, rows)) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def kinds(case: Case) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for probe in case.probes:
        found.setdefault((probe.axis, probe.kind), []).append(probe.prompt)
    return found


def test_counterfact_as_published(tmp_path):
    first, second = load_cases(write(tmp_path / "any.json", records.COUNTERFACT, "json"))
    assert first.edit == Rewrite("{} is located in", "Eiffel Tower", "Rome", "Paris", "P276")
    assert (first.id, first.source) == ("7", "counterfact")
    assert kinds(first) == {
        ("efficacy", "rewrite"): ["Eiffel Tower is located in"],
        ("generalization", "paraphrase"): records.COUNTERFACT[0]["paraphrase_prompts"],
        ("locality", "neighborhood"): records.COUNTERFACT[0]["neighborhood_prompts"],
        ("locality", "neighborhood+"): [
            "Eiffel Tower is located in Rome. Louvre is located in",
            "Eiffel Tower is located in Rome. Arc de Triomphe is located in",
        ],
    }
    for probe in first.probes:
        kept = probe.axis == "locality"
        assert probe.answers == (("Paris",) if kept else ("Rome",))
        assert probe.foil == ("Rome" if kept else "Paris")
    assert first.meta["generation_prompts"] == ["Near Eiffel Tower one can eat"]
    assert second.edit.text == "Marie Curie, a citizen of"


def test_counterfact_plus_puts_the_edited_sentence_in_front():
    edit = Rewrite("The {} is in", "Eiffel Tower", "Rome")
    expected = "The Eiffel Tower is in Rome. The Louvre is in"
    assert plus_prompt(edit, "The Louvre is in") == expected


def test_counterfact_re_packed(tmp_path):
    (case,) = load_cases(write(tmp_path / "packed.jsonl.gz", records.REPACKED))
    assert case.edit == Rewrite("{} is located in", "Eiffel Tower", "Rome", "Paris")
    assert kinds(case)["locality", "neighborhood"] == [
        "Louvre is located in",
        "Arc de Triomphe is located in",
    ]
    assert kinds(case)["generalization", "paraphrase"] == [records.REPACKED[0]["rephrase_prompt"]]


def test_zsre_says_which_target_it_took(tmp_path):
    write(tmp_path / "zsre_mend_eval.json", records.ZSRE, "json")
    with pytest.warns(DataWarning, match=r"1 records .*record 2.*no target"):
        (false,) = load_cases("zsre", data_dir=tmp_path)
    true, _ = load_cases("zsre_answers", data_dir=tmp_path)
    assert (false.edit.target, false.edit.target_true) == ("Vienna", "London")
    assert (true.edit.target, true.edit.target_true) == ("London", None)
    assert (false.meta["target_source"], true.meta["target_source"]) == ("alt", "answers")
    (unrelated,) = false.on("locality")
    assert unrelated.prompt == "nq question: who wrote the first program?"
    assert unrelated.answers == ("Ada Lovelace",)
    assert false.on("generalization")[0].foil == "London"


def test_knowedit_maps_its_names_to_ours(tmp_path):
    (case,) = load_cases(write(tmp_path / "ZsRE-test-all.json", records.KNOWEDIT, "json"))
    assert case.edit.target_true == "London"
    assert set(kinds(case)) == {
        ("efficacy", "rewrite"),
        ("generalization", "paraphrase"),
        ("locality", "same_subject"),
        ("locality", "one_to_many"),
        ("portability", "alias"),
        ("portability", "one_hop"),
        ("portability", "logical"),
    }
    (hop,) = [probe for probe in case.probes if probe.kind == "one_hop"]
    assert hop.answers == ("Austria", "AT")


def test_qaedit(tmp_path):
    (case,) = load_cases(write(tmp_path / "qa.json", records.QAEDIT, "json"))
    assert case.edit == Rewrite("who designed the {}?", "analytical engine", "Charles Babbage")
    assert case.on("locality")[0].answers == ("1807",)


def test_your_own_edits_with_and_without_probes(tmp_path):
    full, bare = load_cases(write(tmp_path / "own.jsonl", records.OWN))
    assert full.id == "mine"
    assert kinds(full) == {
        ("efficacy", "rewrite"): ["Eiffel Tower is in"],
        ("generalization", "paraphrase"): ["Where is the Eiffel Tower?"],
        ("locality", "other"): ["The Louvre is in"],
        ("portability", "consequence"): ["Its country is"],
    }
    assert full.on("generalization")[0].held_out
    assert kinds(bare) == {("efficacy", "rewrite"): ["The capital of Peru is"]}


@pytest.mark.parametrize("name", ["c.json", "c.jsonl", "c.json.gz", "c.jsonl.gz"])
def test_every_packing_gives_the_same_cases(tmp_path, name):
    form = "json" if ".json." in f"{name}." else "jsonl"
    path = write(tmp_path / name, records.COUNTERFACT, form)
    assert [case.id for case in load_cases(path)] == ["7", "8"]


def test_limit_takes_the_first_and_a_seed_takes_others(tmp_path):
    rows = [records.COUNTERFACT[0] | {"case_id": j} for j in range(30)]
    path = write(tmp_path / "many.jsonl", rows)
    assert [case.id for case in load_cases(path, limit=3)] == ["0", "1", "2"]
    drawn = [case.id for case in load_cases(path, limit=3, seed=1)]
    assert drawn == [case.id for case in load_cases(path, limit=3, seed=1)]
    assert drawn != ["0", "1", "2"]
    with pytest.raises(DataError, match="at least 1"):
        load_cases(path, limit=0)


@pytest.mark.parametrize(
    "where",
    [
        "counterfact.json",
        "counterfact/counterfact.jsonl.gz",
        "benchmarks/counterfact/counterfact.json.gz",
    ],
)
def test_names_are_found_in_data_directories(tmp_path, monkeypatch, where):
    form = "jsonl" if "jsonl" in where else "json"
    write(tmp_path / "mine" / where, records.COUNTERFACT, form)
    assert len(load_cases("counterfact", data_dir=tmp_path / "mine")) == 2
    monkeypatch.setenv("CORRIGENDA_DATA", str(tmp_path / "mine"))
    assert len(load_cases("counterfact")) == 2


def test_the_folder_data_and_the_cache_are_searched_too(tmp_path):
    write(Path("data") / "counterfact.json", records.COUNTERFACT[:1], "json")
    assert len(load_cases("counterfact")) == 1
    Path("data/counterfact.json").unlink()
    write(tmp_path / "cache" / "data" / "counterfact.json", records.COUNTERFACT, "json")
    assert len(load_cases("counterfact")) == 2


def test_a_missing_set_says_where_to_get_it_and_where_it_was_looked_for(tmp_path):
    with pytest.raises(OfflineError) as caught:
        load_cases("counterfact", data_dir=tmp_path / "there")
    assert caught.value.exit_code == 3
    for part in (BENCHMARKS["counterfact"].source, "there", "CORRIGENDA_DATA"):
        assert part in str(caught.value)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="counterfact"):
        load_cases("counterfac")


def drop(row: dict, *path: str) -> dict:
    row = json.loads(json.dumps(row))
    inner = row
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return row


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (records.COUNTERFACT[0], drop(records.COUNTERFACT[0], "requested_rewrite", "subject"),
         r"line 2: the field requested_rewrite.subject is missing"),
        (records.COUNTERFACT[0], records.COUNTERFACT[0] | {"paraphrase_prompts": "one"},
         r"line 2: the field paraphrase_prompts should be a list"),
        (records.COUNTERFACT[0], records.COUNTERFACT[0] | {"neighborhood_prompts": [3]},
         r"line 2: the field neighborhood_prompts should hold texts, not 3"),
        (records.REPACKED[0], drop(records.REPACKED[0], "ground_truth"), r"line 2: .*ground_truth"),
        (records.ZSRE[0], drop(records.ZSRE[0], "rephrase"), r"line 2: the field rephrase"),
        (records.ZSRE[0], records.ZSRE[0] | {"answers": []}, r"line 2: the field answers"),
        (records.KNOWEDIT[0], records.KNOWEDIT[0] | {"locality": {"x": [{}]}},
         r"line 2: locality.x"),
        (records.QAEDIT[0], records.QAEDIT[0] | {"target": 3}, r"line 2: the field target"),
        (records.OWN[1], records.OWN[1] | {"target": " "}, r"line 2: .*no target"),
        (records.OWN[1], records.OWN[1] | {"subject": "Chile"}, r"line 2: The subject 'Chile'"),
        (records.OWN[1], drop(records.OWN[1], "subject"), r"line 2: The edit lacks subject"),
        (records.OWN[1], records.OWN[1] | {"probes": [{"prompt": "x", "axis": "style"}]},
         r"line 2: the probe 'x' has the axis 'style'"),
        (records.OWN[1], records.OWN[1] | {"probes": [{"prompt": "x", "axis": "portability"}]},
         r"line 2: .*no answer"),
        (records.OWN[1], [1, 2], r"line 2: a record is a JSON object"),
    ],
)  # fmt: skip
def test_malformed_records_are_named(tmp_path, good, bad, message):
    with pytest.raises(DataError, match=message):
        load_cases(write(tmp_path / "data.jsonl", [good, bad]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"prompt": "{} is in", "subject": "A", "target": "B"}\n{"prompt": \n',
            "line 2: not JSON",
        ),
        ('{"prompt": "{} is in"', "line 1: not JSON"),
        ('[{"prompt": "{} is in", "subject": "A", "target": "B"},\n', "line 2: not JSON"),
        ("", "empty"),
        ('{"colour": "red"}\n', "no known format"),
    ],
)
def test_files_that_are_something_else(tmp_path, text, message):
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_cases(path)


def test_damaged_packed_and_missing_files(tmp_path):
    damaged = tmp_path / "c.jsonl.gz"
    damaged.write_bytes(gzip.compress(b'{"prompt": "x"}\n' * 50)[:-20])
    with pytest.raises(DataError, match="damaged"):
        load_cases(damaged)
    (tmp_path / "plain.jsonl.gz").write_text("not packed")
    with pytest.raises(DataError, match="not gzip"):
        load_cases(tmp_path / "plain.jsonl.gz")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        load_cases(tmp_path / "binary.jsonl")
    with pytest.raises(DataError, match="no file"):
        load_cases(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="folder"):
        load_cases(tmp_path)


def test_atlas_needs_no_file():
    cases = load_cases("atlas", limit=5, seed=1)
    assert len(cases) == 5
    assert cases == load_cases("atlas", limit=5, seed=1)
    axes = {probe.axis for case in cases for probe in case.probes}
    assert axes == {"efficacy", "generalization", "locality", "portability"}


def test_the_census_needs_no_file_and_has_enough_for_a_long_sequence():
    cases = load_cases("census", limit=300, seed=1)
    facts = {(c.edit.subject, c.edit.relation) for c in cases}
    assert len(facts) == len(cases) == 300 and {c.source for c in cases} == {"census"}
    assert cases == load_cases("census", limit=300, seed=1) != load_cases("census", limit=300)


def test_at_most_so_many_cases_as_a_world_has_facts(monkeypatch):
    from corrigenda.atlas import worlds

    few = worlds.world_named("census").restricted(["Milo Stenholt", "Taldyne", "Otis Golova"])
    monkeypatch.setattr(worlds, "world_named", lambda name: {"census": few}[name])
    assert len(load_cases("census", limit=10**6)) < 20


def test_the_table_of_data_sets_is_complete():
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.name == name
        assert benchmark.licence and benchmark.citation and benchmark.source
        if benchmark.files:
            loader = benchmark.loader()
            assert callable(getattr(loader, "gather", None) or loader.to_case)
            assert callable(loader.matches)


if DATA := os.environ.get("CORRIGENDA_DATA"):
    HERE = [name for name, one in BENCHMARKS.items() if one.files and find(one, DATA)]

    @pytest.mark.parametrize("name", HERE)
    @pytest.mark.filterwarnings("ignore::corrigenda.benchmarks.DataWarning")
    def test_real_files(name):
        """Runs only where CORRIGENDA_DATA points to a data directory, on the sets that are there."""
        cases = load_cases(name, limit=300, data_dir=DATA)
        assert cases and len({case.source for case in cases}) == 1
        for case in cases:
            assert type(case.edit).__name__ == BENCHMARKS[name].edits
            if isinstance(case.edit, Rewrite):
                assert case.on("efficacy")
                assert case.edit.subject in case.edit.text + case.edit.following

    @pytest.mark.parametrize(
        "name", sorted({"counterfact", "zsre", "knowedit_zsre", "qaedit"} & {*HERE})
    )
    @pytest.mark.filterwarnings("ignore::corrigenda.benchmarks.DataWarning")
    def test_every_record_has_all_that_these_sets_ask(name):
        cases = load_cases(name, limit=300, data_dir=DATA)
        axes = collections.Counter(probe.axis for case in cases for probe in case.probes)
        assert len(cases) == axes["efficacy"] == 300
        assert axes["generalization"] >= 300 and axes["locality"] >= 300
        assert all(case.edit.subject in case.edit.text for case in cases)
