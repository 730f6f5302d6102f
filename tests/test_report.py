from __future__ import annotations

import math
from dataclasses import replace

import pytest

from corrigenda.errors import DataError, InputError
from corrigenda.evaluate import evaluate
from corrigenda.metrics.aggregate import Score
from corrigenda.metrics.titles import format_score, format_value
from corrigenda.report import Report, compare
from tests.lookup_model import Flip, Forgetful, LookupModel, Refusing, Weak, case

CASES = [case(j) for j in range(6)]


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(LookupModel(), Refusing(subjects=("S1",)), CASES)


@pytest.fixture(scope="module")
def sequence() -> Report:
    return evaluate(LookupModel(), Forgetful(), CASES, mode="sequential")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


# -- JSON -------------------------------------------------------------------------------------


def test_json_reads_back_equal(report, sequence):
    for one in (report, sequence):
        again = Report.from_json(one.to_json())
        assert again == one
        assert again.scores == one.scores


def test_an_infinite_score_survives_json(report):
    broken = replace(
        report, scores={"tf.KL.reference_edited": Score(math.inf, None, None, 1, 1, "none")}
    )
    text = broken.to_json()
    assert "Infinity" not in text
    assert Report.from_json(text).scores == broken.scores
    assert "not finite" in broken.to_markdown()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "other/1"}', "null"])
def test_json_of_another_kind_is_refused(text):
    with pytest.raises(DataError, match="not a report"):
        Report.from_json(text)


def test_a_report_is_a_function_of_its_rows(report):
    again = Report.build(reversed(report.rows), report.environment)
    assert again == report


# -- Markdown ---------------------------------------------------------------------------------


def test_markdown_is_one_table_with_the_unedited_model_beside(report):
    lines = report.to_markdown().splitlines()
    head, rule, unedited, edited = lines[:4]
    assert cells(head)[:5] == [
        "", "Efficacy", "Generalization", "Generalization, held-out", "Locality",
    ]  # fmt: skip
    assert cells(head)[-2:] == ["n", "s/edit"]
    assert cells(head).index("S") < cells(head).index("ES") < cells(head).index("PS")
    assert set(rule) <= set("|:- ")
    assert cells(unedited)[0] == "unedited lookup"
    assert cells(unedited)[1].startswith("0.0 [0.0,")
    assert cells(edited)[0] == "refusing"
    assert cells(edited)[1].startswith("83.3 [")
    assert cells(edited)[-2] == "6"
    assert sum(line.startswith("| :--") for line in lines) == 1
    assert {len(cells(line)) for line in lines[:4]} == {len(cells(head))}
    text = "\n".join(lines)
    assert "1 raised an error" in text
    assert "6 records, 42 prompts" in text
    assert "seed 0" in text


def test_scores_are_written_in_their_units():
    share = Score(0.98, 0.93, 0.9945, 100, 100, "wilson")
    assert format_score("gen.efficacy", share) == "98.0 [93.0, 99.5]"
    assert format_score("tf.KL.reference_edited", Score(1.64, None, None, 1, 1, "none")) == "1.640"
    assert format_score("tf.EM", Score(-0.048, -0.1, 0.0, 2, 2, "bootstrap")) == "−4.8 [−10.0, 0.0]"
    assert format_score("gen.efficacy", None) == ""
    assert format_value("tf.NM", -1e-9) == "0.0"


def test_pipes_in_names_do_not_break_the_table(report):
    env = report.environment | {"model": {"id": "a|b"}}
    line = replace(report, environment=env).to_markdown().splitlines()[2]
    assert "a\\|b" in line


# -- comparing --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:something else")
def test_reports_are_compared_on_the_same_records():
    cases = [case(j) for j in range(8)]
    model = LookupModel()
    good, bad = evaluate(model, Flip(), cases), evaluate(model, Weak(), cases)
    text = compare([bad, good])
    rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:5]] == ["unedited lookup", "weak", "flip"]
    efficacy = next(row for row in rows if row[:2] == ["flip", "Efficacy"])
    assert efficacy[2] == "100.0 [100.0, 100.0]"
    p = float(efficacy[4])
    # Exact McNemar of 8 against 0 is 2 / 2**8; Holm multiplies by the comparisons at hand.
    assert p == pytest.approx(5 * 2 / 2**8, abs=1e-3)
    same = next(row for row in rows if row[:2] == ["flip", "Locality"])
    assert same[2].startswith("0.0") and float(same[4]) == 1.0


def test_different_records_get_no_difference():
    model = LookupModel()
    a, b = evaluate(model, Flip(), CASES[:3]), evaluate(model, Flip(), CASES[3:])
    assert "difference" not in compare([a, b])
    with pytest.raises(InputError):
        compare([])


# -- worst cases ------------------------------------------------------------------------------


def test_the_worst_records_say_what_was_wanted_and_what_came(report):
    (worst,) = report.worst()
    assert worst["row"]["id"] == "case-1"
    first = worst["probes"][0]
    assert first == {
        "axis": "efficacy",
        "kind": "rewrite",
        "prompt": "S1 is in",
        "wanted": "Rome",
        "before": "Paris. And so on",
        "after": "Paris. And so on",
    }


def test_damage_to_others_is_among_the_worst():
    spill = evaluate(LookupModel(), Flip(strength=100.0), [case(2)])
    probes = spill.worst()[0]["probes"]
    assert [(p["axis"], p["wanted"], p["after"]) for p in probes] == [
        ("locality", "Paris", "Rome. And so on")
    ]


# -- files ------------------------------------------------------------------------------------


def test_files_are_written_by_suffix(report, tmp_path):
    for name, start in (("r.json", "{"), ("r.md", "|"), ("deep/r.html", "<!doctype html>")):
        path = report.write(tmp_path / name)
        assert path.read_text(encoding="utf-8").startswith(start)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "r.json", "r.md"]
    with pytest.raises(InputError, match="suffix"):
        report.write(tmp_path / "r.pdf")
