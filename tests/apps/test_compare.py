"""`corrigenda compare`: many editors, one table, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corrigenda.apps.compare import _Job, _measured, _reports, markdown
from corrigenda.report import Report

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from corrigenda.apps.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


def test_an_unknown_editor_is_refused_before_anything_runs(tmp_path: Path) -> None:
    ran = run("compare", "atlas", "--editors", "roem", "-o", str(tmp_path / "out"))
    assert ran.returncode == 2 and "rome" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_method_that_refused_every_edit_has_no_score_of_zero() -> None:
    untrained, half = _Job("mend", "single", "atlas", 2), _Job("ke", "single", "atlas", 2)
    rows = ({"error": "ModelError: it has to be trained"}, {"error": "ModelError: again"})
    reports = {
        untrained: Report(rows, {}, {}, failures={"raised": 2}),
        half: Report(rows, {}, {}, failures={"raised": 1}),
    }
    kept, refused = _measured(reports)
    assert list(kept) == [half]
    assert refused == {untrained.name: "ModelError: it has to be trained"}


@pytest.mark.slow
def test_a_comparison_is_a_table_that_is_made_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (
        "compare", "atlas", "--editors", "ft-m", "--limit", "2", "--long", "0", "--sequence", "2",
        "-o", str(out), "--json",
    )  # fmt: skip
    ran = run(*command)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    rows = {(row["editor"], row["mode"]): row for row in found["table"]}
    assert set(rows) == {
        ("none", "single"), *((e, m) for e in ("ft-m", "locft-bf", "ike")
                              for m in ("single", "sequential")),
    }  # fmt: skip
    assert rows["none", "single"]["scores"]["gen.efficacy"]["value"] == 0
    assert rows["ft-m", "single"]["scores"]["gen.efficacy"]["value"] == 1
    assert not found["failed"]
    text = (out / "table.md").read_text(encoding="utf-8")
    assert "`unedited`" in text and "`ft-m`" in text and "corrigenda" in text
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert run(*command).returncode == 0
    assert made == {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    jobs = [_Job("ft-m", "single", "atlas", 2)]
    assert "broken" in markdown(_reports(out, jobs), "command", {"grace": "broken"})
