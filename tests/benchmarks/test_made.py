"""Data sets that are made from the embedded world, and what `corrigenda eval` says of them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from corrigenda.apps.cli import app
from corrigenda.benchmarks import BENCHMARKS, MADE, load_cases


@pytest.mark.parametrize("name", MADE)
def test_made_data_sets_are_known_by_both_spellings(name):
    assert name in BENCHMARKS
    cases = load_cases(name, limit=3, seed=1)
    assert len(cases) == 3 and all(case.probes for case in cases)
    assert load_cases(name.replace("_", "-"), limit=3, seed=1) == cases


@pytest.mark.slow
def test_eval_on_ripples_gives_every_kind_with_its_interval():
    command = "eval atlas --editor rome --data atlas-ripple --limit 4 --max-new-tokens 8 --json"
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    executed = report["environment"]["executed"]
    asked = {name for name, counts in executed.items() if counts["executed"]}
    assert {"efficacy:rewrite", "generalization:paraphrase", "locality:far"} <= asked
    for name in asked:
        score = report["scores"][f"gen.{name}"]
        assert score["n_prompts"] == executed[name]["executed"]
        assert score["n_records"] == 1 or score["low"] <= score["value"] <= score["high"]
    assert report["scores"]["gen.efficacy:rewrite"]["value"] > 0.5
    # What must stay is asked only where it is known, so it is all there before the edit.
    assert report["unedited"]["gen.locality"]["value"] == 1.0


def test_eval_shows_the_kinds(tmp_path):
    command = "eval atlas --editor none --data atlas_ripple --limit 1 --max-new-tokens 8"
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code == 0, ran.output
    assert "By kind" in ran.stdout and "locality same_subject" in ran.stdout


def test_a_model_that_is_not_there_is_named():
    from corrigenda.atlas import weights_path
    from corrigenda.errors import OfflineError

    try:
        found = weights_path("atlas-lingual")
    except OfflineError as error:
        assert "--world lingual" in str(error)
    else:
        assert json.loads((found / "recipe.json").read_text())["world"] == "lingual"
