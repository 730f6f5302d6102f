"""`corrigenda trace`: one fact, many facts, and the ranking of layers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from .test_cli import BIG_BEN, model, run, wrong

__all__ = ["model"]  # the fixture

FACT = BIG_BEN[:4]
QUICK = ("--samples", "3")


@pytest.fixture
def cases(model: Path, tmp_path: Path) -> Path:
    """Facts whose true answers are what the model says, so that it knows them."""
    rows = []
    for subject in ("Big Ben", "The Louvre", "Marie Curie"):
        ran = run("ask", model, f"{subject} is located in", "--max-new-tokens", "3", "--json")
        says = ran.json["answers"][0]["before"]
        rows.append(
            {
                "prompt": "{} is located in",
                "subject": subject,
                "target": "Madrid.",
                "target_true": says,
            }
        )
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_fact(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "trace.png"
    ran = run("trace", model, *FACT, *QUICK, "--plot", picture)
    assert ran.code == 0, ran.err
    assert " *" in ran.out and "answer" not in ran.err and "does not say where to edit" in ran.out
    with Image.open(picture) as image:
        assert image.format == "PNG" and min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10, "something is drawn"


def test_json_is_the_trace(model: Path) -> None:
    ran = run("trace", model, *FACT, *QUICK, "--kind", "mlp", "--window", "2", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["kind"] == "mlp" and found["window"] == 2 and found["layers"] == [0, 1, 2]
    assert len(found["effect"]) == len(found["tokens"]) and len(found["effect"][0]) == 3
    again = run("trace", model, *FACT, *QUICK, "--answer", found["answer"], "--json")
    assert again.code == 0 and again.json["clean"] == pytest.approx(found["clean"])


def test_many_facts(model: Path, cases: Path, tmp_path: Path) -> None:
    common = ("trace", model, "--data", cases, *QUICK, "--max-new-tokens", "3")
    ran = run(*common, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["facts"] >= 2 and "subject, last" in ran.json["roles"]
    shown = run(*common, "--plot", tmp_path / "mean.png")
    assert "Mean of" in shown.out and (tmp_path / "mean.png").stat().st_size > 1000


def test_layers_are_ranked_by_edits(model: Path, cases: Path, tmp_path: Path) -> None:
    common = (
        "trace",
        model,
        "--layers",
        "--editor",
        "ft-m",
        "--set",
        "steps=60",
        "--set",
        "lr=0.02",
        "--data",
        cases,
        "--limit",
        "2",
        "--max-new-tokens",
        "3",
    )
    ran = run(*common, "--json")
    assert ran.code == 0, ran.err
    ranked = ran.json["candidates"]
    assert sorted(row["layers"] for row in ranked) == [[0], [1], [2]]
    assert [row["score"] for row in ranked] == sorted((r["score"] for r in ranked), reverse=True)
    assert ranked[0]["efficacy"]["value"] > 0
    shown = run(*common, "--plot", tmp_path / "layers.png")
    assert "Efficacy" in shown.out and "2 facts" in shown.out
    assert (tmp_path / "layers.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--prompt", "{} is in"), "needs --prompt and --subject"),
        (("--layers", *FACT), "takes no --prompt, --subject"),
        ((*FACT, "--answer", "Zanzibar"), "not 'Zanzibar'"),
        ((*FACT, "--plot", "trace.txt"), ".png"),
        ((*FACT, "--plot", "nowhere/trace.png"), "no directory"),
        (("--layers", "--editor", "ike"), "no layers"),
    ],
)
def test_bad_requests(model: Path, cases: Path, arguments: tuple[str, ...], word: str) -> None:
    more = ("--data", cases, "--max-new-tokens", "3") if "ike" in arguments else ()
    wrong(run("trace", model, *arguments, *more), 2, word)


def test_plots_need_matplotlib(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    wrong(run("trace", model, *FACT, "--plot", "trace.png"), 2, "corrigenda[plot]")
