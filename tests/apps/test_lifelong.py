"""`corrigenda lifelong`: bad requests, several runs side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from corrigenda.apps.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-c", code, "lifelong", *arguments],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--editors", "alfaedit"), "alphaedit"),
        (("--orders", "one"), "--orders takes numbers"),
        (("--max-perplexity", "0.5"), "above 1"),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(tmp_path, arguments, said):
    ran = run("atlas", *arguments, "-o", str(tmp_path / "out"))
    assert ran.returncode == 2 and said in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_known_only_edits_what_the_model_knows(tmp_path):
    """The small model answers nothing of another world's questions; its own it does."""
    options = ("--edits", "3", "--untouched", "2", "--editors", "ultraedit", "--known-only")
    ran = run("atlas", "--data", "census", *options, "-o", str(tmp_path / "other"))
    assert ran.returncode == 2 and "drop --known-only" in " ".join(ran.stderr.split())
    ran = run("atlas", *options, "-o", str(tmp_path / "own"))
    assert ran.returncode == 0, ran.stderr
    assert "Known only: 5 cases of atlas" in (tmp_path / "own" / "report.md").read_text()


@pytest.mark.slow
def test_several_editors_and_orders_are_one_report(tmp_path):
    text = tmp_path / "text"
    text.write_text("The Eiffel Tower is a tower in Paris.\n\nFrance is a country in Europe.")
    ran = run(
        "atlas", "--editors", "ultraedit,grace", "--orders", "0,1", "--edits", "4", "--untouched",
        "2", "--watch", "4", "--jobs", "2", "--max-new-tokens", "6", "--health-text", str(text),
        "-o", str(tmp_path), "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert set(found["editors"]) == {"ultraedit", "grace"} and not found["failed"]
    for one in found["editors"].values():
        assert [r["order"] for r in one["runs"]] == [0, 1]
        assert all(r["finished"] and r["edits"] == 4 for r in one["runs"])
        assert one["figures"]["retained"]["runs"] == 2
    assert "| `grace` | 4 |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "retained.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("data", "least"), [("atlas", 3600), ("census", 200)])
def test_a_world_gives_as_many_cases_as_a_sequence_wants(data: str, least: int) -> None:
    from corrigenda.apps.lifelong import _cases
    from corrigenda.lifelong import divided

    edits = None if data == "atlas" else least - 50
    found = _cases(data, None if edits is None else least, False, 0, None)
    chosen, apart, _ = divided(found, edits, 50)
    assert len(chosen) + len(apart) >= least - 10 and len(apart) == 50
    if edits is not None:
        assert len(chosen) == edits
