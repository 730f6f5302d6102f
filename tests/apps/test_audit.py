"""`corrigenda diff` and `corrigenda audit` as an engineer uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_cli import EIFFEL, LORA, model, run, saved

__all__ = ["model", "saved"]  # fixtures


def test_a_model_and_a_delta_on_it(model: Path, saved: Path, tmp_path: Path) -> None:
    names, wordings = tmp_path / "names", tmp_path / "wordings"
    names.write_text("The Eiffel Tower\nBig Ben\n")
    wordings.write_text("{} is located in\n")
    ran = run("diff", model, saved, "--subjects", names, "--prompts", wordings, "--json")
    assert ran.code == 0, ran.err
    (tensor,) = ran.json["tensors"]
    assert ran.json["unchanged"] > 10 and 1 <= tensor["rank"] <= 8
    assert {s["name"] for s in ran.json["meaning"]["subjects"]} == {"The Eiffel Tower", "Big Ben"}
    assert "rank" in run("diff", model, saved, "--no-read").out


def test_two_checkpoints_give_a_delta_that_leads_from_one_to_the_other(
    model: Path, saved: Path, tmp_path: Path
) -> None:
    merged, found = tmp_path / "merged", tmp_path / "found"
    assert run("export", saved, "--format", "merged", "--model", model, "-o", merged).code == 0
    ran = run("diff", model, merged, "--no-read", "-o", found, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["tensors"]) == 1 and (found / "delta.json").exists()
    again = run("diff", saved, found, "--json")
    assert again.json["cosine"] == pytest.approx(1.0, abs=1e-4)
    same = run("diff", model, model, "--json")
    assert same.json["tensors"] == [] and same.json["looks_like"] == "no change"


def test_a_delta_comes_second(model: Path, saved: Path) -> None:
    ran = run("diff", saved, model)
    assert ran.code == 2 and "the model first" in ran.err


def test_edits_are_audited(model: Path, saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.md"
    some = ("--check", "holds", "--check", "rephrased", "--check", "rounded")
    ran = run("audit", model, "--delta", saved, *some, "-o", page, "--json")
    assert ran.code == 0, ran.err
    checks = {one["name"]: one for one in ran.json["checks"]}
    assert checks["gen.holds"]["value"] == 1.0 and checks["gen.holds"]["n"] == 1
    assert {"gen.rephrased.worst", "gen.rounded.int4"} <= set(checks)
    assert "gen.rounded.int8" in page.read_text()
    assert "holds on its own prompt" in run("audit", model, "-d", saved, "--check", "holds").out


def test_a_ledger_is_audited(model: Path, tmp_path: Path) -> None:
    book = tmp_path / "book"
    assert run("edit", model, *EIFFEL, *LORA, "--ledger", book).code == 0
    ran = run("audit", model, "--ledger", book, "--check", "holds", "--json")
    assert ran.code == 0 and ran.json["edits"] == 1


def test_one_checkpoint_alone(model: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    ran = run("audit", model, "--unedited", model, "--reverse", back, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["p"] == 1.0, "it is as suspicious as itself"
    excess = [one["excess"]["gap"] for one in ran.json["maps"]]
    assert excess == sorted(excess, reverse=True)
    assert (back / "delta.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "audit.txt"), ".json or .md"),
        (("--delta", "nowhere"), "nowhere"),
        (("--check", "rephrase"), "rephrased"),
    ],
)
def test_what_cannot_be_is_explained(
    model: Path, saved: Path, arguments: tuple[str, ...], said: str
) -> None:
    given = ("-d", saved) if arguments[0] == "--check" else ()
    ran = run("audit", model, *given, *arguments)
    assert ran.code == 2 and said in ran.err
