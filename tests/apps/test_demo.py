"""The demo is the first thing that anybody sees: it must hold what it says."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from corrigenda import Delta, Dense, TextModel
from corrigenda.apps.cli import app
from corrigenda.apps.demo import weights_now


def test_demo_json() -> None:
    ran = CliRunner().invoke(app, ["demo", "--json"])
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert list(found) == ["edit", "before", "after", "scores", "undone_bit_exact", "seconds"]
    assert found["edit"]["subject"] == "Eiffel Tower" and found["edit"]["target"] == "Rome"
    assert found["before"].startswith("Paris") and found["after"].startswith("Rome")
    assert set(found["scores"]) == {"efficacy", "generalization", "locality", "portability"}
    assert found["scores"]["efficacy"] == 1.0
    assert found["scores"]["locality"] >= 0.9
    assert found["undone_bit_exact"] is True
    assert found["seconds"] < 60


def test_demo_is_readable() -> None:
    ran = CliRunner().invoke(app, ["demo"])
    assert ran.exit_code == 0, ran.stderr
    for words in ("What should change", "What should stay", "Scores", "Undone, bit for bit."):
        assert words in ran.stdout


def test_weights_are_hashed_as_they_are_now(atlas_model: TextModel) -> None:
    name = "transformer.ln_f.bias"
    before = weights_now(atlas_model)
    width = atlas_model.width
    import torch

    with Delta({name: Dense(torch.full((width,), 1e-3))}).applied(atlas_model):
        assert weights_now(atlas_model) != before
    assert weights_now(atlas_model) == before
