"""`corrigenda report` on every kind of result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from corrigenda.apps.cli import app
from corrigenda.evaluate import evaluate
from corrigenda.sweep.jobs import Job
from corrigenda.sweep.store import Store
from tests.lookup_model import Flip, LookupModel, Refusing, case

CASES = [case(j) for j in range(4)]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports, as `eval` and `compare` leave them, with other files beside them."""
    found = tmp_path_factory.mktemp("comparison")
    evaluate(LookupModel(), Flip(), CASES).write(found / "flip.json")
    evaluate(LookupModel(), Refusing(subjects=("S1",)), CASES).write(found / "refusing.json")
    (found / "notes.json").write_text('{"mine": 1}', encoding="utf-8")
    (found / "flip.jsonl").write_text("", encoding="utf-8")
    return found


@pytest.fixture
def sweep(tmp_path: Path) -> Store:
    """A sweep of three jobs: one done, one failed, one to do."""
    jobs = [Job(editor="none", model="atlas", data="atlas", size=1, seed=n) for n in range(3)]
    jobs = [replace(job, label=f"method-{job.seed}") for job in jobs]
    store = Store(tmp_path / "sweep")
    store.begin(jobs, 'editors = ["flip"]', "corrigenda sweep grid.toml -o sweep")
    store.finish(jobs[0], evaluate(LookupModel(), Flip(), CASES))
    store.fail(jobs[1], "RuntimeError: no luck", "Traceback ...")
    return store


def test_a_folder_of_reports_becomes_a_page(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    ran = run("report", folder, "-o", out)
    assert ran.exit_code == 0, ran.stderr
    assert "2 reports" in ran.stderr and ran.stdout == ""
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "2 editing methods on lookup" in text and "refusing" in text


def test_the_format_is_that_of_the_suffix_or_as_asked(folder: Path, tmp_path: Path) -> None:
    files = [folder / "flip.json", folder / "refusing.json"]
    for name, begin in (("t.md", "## lookup"), ("t.tex", "% Needs"), ("t.html", "<!doctype")):
        assert run("report", *files, "-o", tmp_path / name).exit_code == 0
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begin)
    assert run("report", *files, "--format", "md").stdout.startswith("## lookup")
    titled = run("report", *files, "--title", "My edits", "--baseline", "refusing").stdout
    assert "<title>My edits</title>" in titled


def test_json_holds_the_boards(folder: Path) -> None:
    (board,) = json.loads(run("report", folder, "--json").stdout)
    assert [row["method"] for row in board["methods"]] == ["unedited", "flip", "refusing"]
    assert board["methods"][2]["scores"]["gen.efficacy"]["value"] == 0.75
    assert {one["score"] for one in board["differences"]} >= {"gen.efficacy", "gen.locality"}


def test_a_sweep_tells_what_is_missing(sweep: Store) -> None:
    text = run("report", sweep.folder).stdout
    assert "method-0" in text and "corrigenda sweep grid.toml -o sweep" in text
    assert "Failed: method-1 on atlas, 1 of atlas, seed 1. RuntimeError: no luck" in text
    assert "1 of 3 jobs of this sweep are not done yet" in text
    assert "editors = [&quot;flip&quot;]" in text


def test_a_lifelong_run_is_drawn(tmp_path: Path) -> None:
    share = {"retained": 0.75}
    curve = [{"edits": n, "runs": 1, "mean": share, "low": share, "high": share} for n in (1, 10)]
    data = {
        "schema": "corrigenda.lifelong/1",
        "command": "corrigenda lifelong atlas",
        "editors": {"memit": {"runs": [{}], "curves": {"retention": curve}}},
        "failed": {},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    for given in (path, tmp_path):
        text = run("report", given).stdout
        assert "memit, after 10 edits: 75.0" in text and "corrigenda lifelong atlas" in text
    ran = run("report", path, "--format", "md")
    assert ran.exit_code == 2 and "page only" in ran.stderr
    path.write_text(json.dumps(data | {"editors": 3}), encoding="utf-8")
    assert run("report", path).exit_code == 2


def test_what_holds_no_results_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[1]", encoding="utf-8")
    for given, said in (
        (folder / "notes.json", "is no report"),
        (tmp_path / "none", "There is no"),
        (tmp_path, "holds no results"),
        (tmp_path / "other.json", "is no report"),
    ):
        ran = run("report", given)
        assert ran.exit_code == 2 and said in ran.stderr, ran.stderr
    ran = run("report", folder, "--baseline", "flap")
    assert ran.exit_code == 2 and "Did you mean flip" in ran.stderr


def test_a_sweep_without_results_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "sweep")
    store.begin([Job(editor="none", model="atlas", data="atlas", size=1)], "", "")
    ran = run("report", store.folder)
    assert ran.exit_code == 2 and "No result is finished" in ran.stderr
