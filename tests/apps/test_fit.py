"""`corrigenda fit`: from a file of edits to a trained editor that edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corrigenda.apps.cli import app

from ..models.tiny import tiny

SETTINGS = ("--set", "rank=4", "--set", "lessons=2", "--set", "step=0.01", "--layers", "1")


def run(*arguments: Any) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    module, tokenizer = tiny("gpt2")
    module.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "prompt": "{} is located in",
            "subject": place,
            "target": city,
            "probes": [
                {"prompt": f"{place} is in", "answers": [city], "axis": "generalization"},
                {"prompt": "Windows is made by", "axis": "locality"},
            ],
        }
        for place, city in (("The Louvre", "Rome"), ("Big Ben", "Paris"), ("The Prado", "London"))
    ]
    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_fit_then_edit(model, data, tmp_path):
    out = tmp_path / "trained"
    command = ("fit", model, "--editor", "mend", "--data", data, "--steps", 2, *SETTINGS, "-o", out)
    code, text, _ = run(*command, "--json")
    assert code == 0
    found = json.loads(text)
    assert found["edits"] == 3 and found["trained"] == str(out)
    record = (out / "network.json").read_bytes()
    assert run(*command)[0] == 0 and (out / "network.json").read_bytes() == record, "done already"
    edit = ("--prompt", "{} is located in", "--subject", "Big Ben", "--target", "Rome")
    code, text, _ = run(
        "edit",
        model,
        "-e",
        "mend",
        "--set",
        f"trained={out}",
        *edit,
        "--keep-failed",
        "--json",
        "-o",
        tmp_path / "delta",
    )
    assert code in (0, 1) and json.loads(text)["layers"] == [1], "as it was trained"
    assert (tmp_path / "delta" / "delta.json").exists()


def test_what_is_fitted_without_a_directory_is_found_by_the_weights(
    model, data, tmp_path, monkeypatch
):
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "cache"))
    command = ("fit", model, "--editor", "mend", "--data", data, "--steps", 2, *SETTINGS)
    code, text, _ = run(*command)
    assert code == 0 and "--set trained=" not in text
    edit = ("--prompt", "{} is located in", "--subject", "Big Ben", "--target", "Rome")
    options = ("--keep-failed", "--json", "-o", tmp_path / "delta")
    code, text, _ = run("edit", model, "-e", "mend", *edit, *options)
    assert code in (0, 1) and json.loads(text)["layers"] == [1], "as it was trained"
    code, _, err = run(*command, "--set", "rate=0.5")
    assert code == 2 and "--no-resume" in err, "another run is not overwritten unasked"

    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "another"))
    assert run("edit", model, "-e", "mend", *edit)[0] == 2, "there is none in this cache"


def test_an_untrained_editor_says_what_to_run(model):
    edit = ("--prompt", "{} is located in", "--subject", "Big Ben", "--target", "Rome")
    code, _, err = run("edit", model, "-e", "malmen", *edit)
    assert code == 2 and "--editor malmen --data EDITS.jsonl" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--editor", "rome"), "nothing to train"),
        (("--editor", "mend"), "Say what to train on"),
        (("--editor", "mend", "--set", "depth=3"), "no hyperparameter of mend called 'depth'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model, arguments, message):
    code, _, err = run("fit", model, *arguments)
    assert code == 2 and message in " ".join(err.split())
