"""`corrigenda sweep` and `query` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from corrigenda.apps.cli import app
from corrigenda.sweep import local

GRID = """
editors = ["none", "rome"]
modes = ["batch"]
models = ["atlas"]
data = ["edits.jsonl"]
max_new_tokens = 2
"""
EDIT = {"prompt": "{} is located in the city of", "subject": "Eiffel Tower", "target": "Rome"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    (tmp_path / "edits.jsonl").write_text(json.dumps(EDIT) + "\n", encoding="utf-8")
    path = tmp_path / "grid.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


def test_a_sweep_notes_what_failed_and_goes_on(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    listed = run("sweep", grid, "-o", out, "--dry-run", "--json")
    assert [row["done"] for row in json.loads(listed.stdout)] == [False, False]
    assert not out.exists()

    ran = run("sweep", grid, "-o", out, "--json")
    assert ran.exit_code == 1
    summary = json.loads(ran.stdout)
    assert [job["title"] for job in summary["done"]] == [
        "none on atlas, edits.jsonl, batch, seed 0"
    ]
    assert [job["title"] for job in summary["failed"]] == [
        "rome on atlas, edits.jsonl, batch, seed 0"
    ]
    assert "1 of 2 jobs failed" in ran.stderr and "no batch mode" in summary["failed"][0]["error"]

    rows = json.loads(
        run("query", out, "select distinct method, after from probes", "--json").stdout
    )
    assert [row["method"] for row in rows] == ["none"]
    assert "Paris" in rows[0]["after"]

    again = run("sweep", grid, "-o", out)
    assert again.exit_code == 2 and "--resume" in again.stderr and "1 of these 2" in again.stderr
    listed = run("sweep", grid, "-o", out, "--dry-run", "--json")
    assert [row["done"] for row in json.loads(listed.stdout)] == [True, False]

    grid.write_text(GRID.replace("rome", "ft-m"), encoding="utf-8")
    ran = run("sweep", grid, "-o", out, "--resume")
    assert ran.exit_code == 0, ran.stderr
    assert "2 jobs, 1 of them done" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "2"], "--workers belongs to --runner ray"),
        (["--address", "auto"], "--address belongs to --runner ray"),
    ],
)
def test_options_of_the_other_runner_are_refused(
    grid: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    ran = run("sweep", grid, "-o", tmp_path / "out", *arguments)
    assert ran.exit_code == 2 and said in ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_grid_is_refused_before_anything_is_written(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID.replace("rome", "roem"), encoding="utf-8")
    ran = run("sweep", grid, "-o", tmp_path / "out")
    assert ran.exit_code == 2 and "rome" in ran.stderr
    assert not (tmp_path / "out").exists()
    assert run("query", tmp_path, "select 1").exit_code == 2


def test_an_interrupted_sweep_says_how_to_go_on(grid: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "attempt", interrupted)
    ran = run("sweep", grid, "-o", tmp_path / "out")
    assert ran.exit_code == 4
    assert "2 of 2 jobs are left" in ran.stderr and "--resume" in ran.stderr
