"""The command line as an engineer uses it: a whole ledger's life, and every way to get it wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from corrigenda import Delta, load
from corrigenda.apps import options
from corrigenda.apps.cli import ATLAS_VERBS, VERBS, app
from corrigenda.atlas import census
from corrigenda.errors import InputError, UnknownNameError

from ..models.tiny import tiny

# A random model runs on without a space after a word, so the targets end with a full stop.
EIFFEL = ("--prompt", "{} is located in", "--subject", "The Eiffel Tower", "--target", "Rome.")
BIG_BEN = ("--prompt", "{} is located in", "--subject", "Big Ben", "--target", "Madrid.")
LORA = ("--editor", "lora", "--set", "steps=60", "--set", "lr=0.02", "--layers", "1")
TUNED = ("--editor", "ft-m", "--set", "steps=60", "--set", "lr=0.02", "--layers", "2")


@dataclass
class Ran:
    """What came of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str | Path, stdin: str | None = None) -> Ran:
    found = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Ran(found.exit_code, found.stdout, found.stderr)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny random GPT-2, with logits sharp enough to learn something."""
    module, tokenizer = tiny("gpt2")
    with torch.no_grad():
        module.get_submodule("transformer.ln_f").weight.mul_(8.0)
    place = tmp_path_factory.mktemp("models") / "tiny"
    module.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def saved(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delta that moves the Eiffel Tower to Rome."""
    place = tmp_path_factory.mktemp("deltas") / "eiffel"
    assert run("edit", model, *EIFFEL, *LORA, "-o", place).code == 0
    return place


# -- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [[name] for name, *_ in VERBS] + [["atlas", name] for name, *_ in ATLAS_VERBS],
    ids=" ".join,
)
def test_every_verb_has_help_with_an_example_and_json(verb: list[str]) -> None:
    ran = run(*verb, "--help")
    assert ran.code == 0
    assert f"Example: corrigenda {' '.join(verb)}" in " ".join(ran.out.split())
    assert "--json" in ran.out


def test_no_arguments_show_the_verbs() -> None:
    ran = run()
    assert "demo" in ran.out + ran.err


def test_version() -> None:
    assert run("--version").out.startswith("corrigenda 0.")


# -- edit and ask -----------------------------------------------------------------------------


def test_an_edit_is_solved_shown_and_saved(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "eiffel"
    ran = run("edit", model, *EIFFEL, *LORA, "-o", place)
    assert ran.code == 0, ran.err
    assert "Rome" in ran.out and "saved in" in ran.out
    assert "layer 1 of 3 (given)" in ran.err
    delta = Delta.load(place)
    assert not delta.failed and delta.provenance.editor == "lora"
    assert (place / "adapter_model.safetensors").exists()


def test_json_is_all_of_stdout(model: Path) -> None:
    ran = run("edit", model, *EIFFEL, *LORA, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["took"] == 1 and ran.json["layers_from"] == "given"
    assert ran.json["edits"][0]["after"].startswith("Rome")
    assert not ran.json["edits"][0]["before"].startswith("Rome")
    assert ran.json["out"] is None and "Nothing was kept" in ran.err


def test_edits_come_from_a_file_or_stdin(model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "{} is located in", "subject": "Big Ben", "target": "Madrid."},
        {"prompt": "Big Ben stands in", "subject": "Big Ben", "target": "Madrid."},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    (tmp_path / "edits.jsonl").write_text(text)
    for source, stdin in ((tmp_path / "edits.jsonl", None), ("-", text)):
        ran = run("edit", model, *TUNED, "--edits", source, "--json", stdin=stdin)
        assert len(ran.json["edits"]) == 2, ran.err


def test_layers_without_a_preset_are_proposed_and_said(model: Path) -> None:
    ran = run("edit", model, *BIG_BEN, "-e", "ft-m", "--set", "steps=1")
    assert "proposed from the depth of 3 layers" in ran.err


def test_second_moments_come_from_the_users_text(model: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The Eiffel Tower is located in Paris, the capital of France.\n" * 40)
    ran = run("edit", model, *EIFFEL, "-e", "rome", "--layers", "1", "--corpus", corpus,
              "--set", "clamp=8", "--set", "max_norm=1000", "--json")  # fmt: skip
    assert ran.json["statistics"]["source"] == "corpus.txt", ran.err
    ran = run("edit", model, *EIFFEL, "-e", "rome", "--layers", "1", "--corpus", "identity",
              "--set", "clamp=8", "--set", "max_norm=1000")  # fmt: skip
    assert "identity" in ran.err


def test_an_edit_that_did_not_take_is_not_kept(model: Path, tmp_path: Path) -> None:
    weak = ("-e", "ft-m", "--set", "steps=1", "--set", "lr=1e-6", "--layers", "1")
    ran = run("edit", model, *EIFFEL, *weak, "-o", tmp_path / "a", "--ledger", tmp_path / "book")
    assert ran.code == 1
    assert "1 of 1 edit did not take" in ran.err and not (tmp_path / "a").exists()
    assert run("log", tmp_path / "book", "--json").json["active"] == []
    ran = run("edit", model, *EIFFEL, *weak, "-o", tmp_path / "a", "--keep-failed")
    assert ran.code == 1
    assert len(Delta.load(tmp_path / "a").failed) == 1


def test_ask_shows_before_and_after(model: Path, saved: Path) -> None:
    prompt = "The Eiffel Tower is located in"
    alone = run("ask", model, prompt, "--json").json
    assert alone["answers"][0]["after"] is None
    both = run("ask", model, prompt, "Madrid is", "-d", saved, "--json").json
    assert both["answers"][0]["after"].startswith("Rome")
    assert both["answers"][0]["before"] == alone["answers"][0]["before"]
    assert [row["prompt"] for row in both["answers"]] == [prompt, "Madrid is"]
    table = run("ask", model, "-", "-d", saved, stdin=f"{prompt}\n")
    assert "before" in table.out and "Rome" in table.out


def test_health_without_and_with_edits(model: Path, saved: Path, tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("Rome is the capital of Italy.\n\nBig Ben is located in London, England.")
    alone = run("health", model, "--text", text, "--json").json
    assert (alone["after"], alone["difference"], alone["text"]) == (None, None, "own.txt")
    both = run("health", model, "--text", text, "-d", saved, "--json")
    assert both.code == 0, both.err
    found = both.json
    assert found["before"] == alone["before"]
    difference = found["after"]["nll"] - found["before"]["nll"]
    assert found["difference"]["value"] == pytest.approx(difference)
    table = run("health", model, "--text", text, "-d", saved)
    assert "perplexity" in table.out and "own.txt" in table.out
    ran = run("health", model, "--text", text, "-d", saved, "--fail-over", difference - 0.1)
    assert ran.code == 1 and "nats per token" in ran.err
    wrong(run("health", model, "--tasks", "boolq"), 2, "--delta")
    wrong(run("health", model, "--text", tmp_path / "none.txt"), 2, "cannot be read")


def test_nothing_is_coloured_in_a_pipe(model: Path, saved: Path) -> None:
    ran = run("ask", model, "Madrid is", "-d", saved)
    assert "\x1b" not in ran.out + ran.err


# -- the ledger -------------------------------------------------------------------------------


def test_a_ledgers_life(model: Path, tmp_path: Path) -> None:
    book = tmp_path / "edits"
    first = run("edit", model, *EIFFEL, *LORA, "--ledger", book, "--note", "why", "--json")
    assert first.code == 0, first.err
    second = run("edit", model, *BIG_BEN, *TUNED, "--ledger", book, "--json")
    assert second.code == 0, second.err

    log = run("log", book, "--json").json
    numbers = [e["seq"] for e in log["entries"] if e["kind"] == "apply"]
    assert log["active"] == numbers == [first.json["entry"], second.json["entry"]]
    assert "The Eiffel Tower" in run("log", book).out
    one, two = map(str, numbers)

    shown = run("show", book, one, "--json").json
    assert shown["active"] and shown["id"] == first.json["id"] and shown["entry"]["note"] == "why"
    assert "Rome" in run("show", book, one).out

    difference = run("diff", one, two, "--ledger", book, "--json").json
    assert difference["a"] == first.json["id"] and difference["shared"] == []

    # The checkpoint with both edits in it, and what verification says of it and of the base.
    whole = tmp_path / "whole"
    ran = run("export", book, "--format", "merged", "--model", model, "-o", whole, "--json")
    assert ran.code == 0, ran.err
    assert all(t["lost"] < 1e-3 for t in ran.json["tensors"].values())
    ran = run("verify", whole, "--ledger", book, "--json")
    assert ran.code == 0 and set(ran.json["contained"]) == {first.json["id"], second.json["id"]}
    ran = run("verify", model, "--ledger", book, "--json")
    assert ran.code == 1 and len(ran.json["absent"]) == 2 and ran.json["clean"]

    ran = run("undo", book, first.json["id"][:8], "--note", "wrong", "--json")
    assert ran.json["active"] == [int(two)]
    assert f"Entry {two} was made on top of it" in ran.err
    assert "undone by" in run("log", book).out
    ran = run("verify", whole, "--ledger", book, "--json")
    assert ran.code == 1 and ran.json["stale"] == [first.json["id"]]

    merged = run("merge", book, "-o", tmp_path / "merged", "--json").json
    assert merged["entries"] == [int(two)] and Delta.load(tmp_path / "merged").id == merged["id"]
    ran = run("show", tmp_path / "merged")
    assert ran.code == 0 and "Madrid" in ran.out

    question = ("ask", model, "Big Ben is located in", "--json")
    asked = run(*question, "--ledger", book).json["answers"]
    assert asked == run(*question, "-d", tmp_path / "merged").json["answers"]
    assert asked[0]["after"] != asked[0]["before"]


def test_an_export_answers_as_the_delta_does(model: Path, saved: Path, tmp_path: Path) -> None:
    ran = run("export", saved, "-o", tmp_path / "adapter", "--json")
    assert ran.code == 0 and ran.json["rank"] >= 1, ran.err
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
    ran = run("export", saved, "--format", "merged", "-o", tmp_path / "merged")  # base as recorded
    assert ran.code == 0 and "lost to rounding" in ran.out, ran.err
    prompts = ["The Eiffel Tower is located in", "Madrid is"]
    base, merged = load(model), load(tmp_path / "merged")
    with Delta.load(saved).applied(base):
        assert base.generate(prompts) == merged.generate(prompts)


def test_an_edit_that_breaks_an_earlier_one_says_so(model: Path, tmp_path: Path) -> None:
    book = tmp_path / "edits"
    assert run("edit", model, *EIFFEL, *LORA, "--ledger", book).code == 0
    ran = run("edit", model, *BIG_BEN, *TUNED, "--ledger", book, "--json")
    assert ran.code == 0, ran.err
    assert [row["target"] for row in ran.json["lost"]] == ["Rome."]
    assert "no longer hold" in ran.err


# -- eval -------------------------------------------------------------------------------------


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    rows = [
        {"prompt": "{} is located in", "subject": "Big Ben", "target": "Madrid."},
        {"prompt": "{} was born in", "subject": "Marie Curie", "target": "Berlin."},
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_eval_reports_and_judges(model: Path, cases: Path, tmp_path: Path) -> None:
    common = ("eval", model, *TUNED, "--data", cases)
    ran = run(*common, "-o", tmp_path / "r.md", "-o", tmp_path / "r.html", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["scores"]["gen.efficacy"]["value"] == 1.0
    assert (tmp_path / "r.md").exists() and (tmp_path / "r.html").exists()
    ran = run(*common, "--fail-under", "tf.ES=2")
    assert ran.code == 2 and "no score" in ran.err
    ran = run(*common, "--limit", "1", "--fail-under", "efficacy=1.5")
    assert ran.code == 1 and "gen.efficacy is 1.000, below 1.5" in ran.err
    assert "Efficacy" in ran.out


def test_eval_of_the_unedited_model(model: Path, cases: Path) -> None:
    ran = run("eval", model, "-e", "none", "--data", cases)
    assert ran.code == 0, ran.err
    assert "unedited" in ran.out


def test_eval_by_long_answers_needs_a_judge_or_a_word_that_none_is_wanted(
    model: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORRIGENDA_JUDGE_KEY", raising=False)
    common = ("eval", model, *TUNED, "--data", cases, "--limit", "1")
    ran = run(*common, "--protocol", "wild", "--unjudged", "--json")
    assert ran.code == 0, ran.err
    assert "gen.wild.efficacy.contains" in ran.json["scores"]
    assert "gen.wild.efficacy" not in ran.json["scores"]
    assert ran.json["environment"]["max_new_tokens"] == 64
    wrong(run(*common, "--protocol", "wild"), 3, "--judge-model")
    judge = ("--judge", "http://127.0.0.1:9/v1", "--judge-model", "one")
    wrong(run(*common, "--protocol", "wild", *judge), 3, "CORRIGENDA_JUDGE_KEY")
    wrong(run(*common, "--protocol", "wild", *judge[:2]), 2, "--judge-model")
    wrong(run(*common, *judge), 2, "--protocol wild")


def test_an_interrupted_eval_goes_on(
    model: Path, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corrigenda.editors.ft import FTM

    solve: Callable[..., Any] = FTM.solve
    calls: list[str] = []

    def interrupted(self: Any, one: Any, edits: Any, onto: Any) -> Any:
        calls.append(edits[0].subject)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(self, one, edits, onto)

    monkeypatch.setattr(FTM, "solve", interrupted)
    command = ("eval", model, *TUNED, "--data", cases, "--resume", tmp_path / "run.jsonl", "--json")
    ran = run(*command)
    assert ran.code == 4 and "same command" in ran.err
    ran = run(*command)
    assert ran.code == 0 and len(ran.json["rows"]) == 2
    assert calls == ["Big Ben", "Marie Curie", "Marie Curie"]


# -- what can be got wrong --------------------------------------------------------------------


def wrong(ran: Ran, code: int, *words: str) -> None:
    """One message, no traceback, nothing on stdout."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err and not ran.out
    assert ran.err.count("error: ") == 1
    for word in words:
        assert word in ran.err, ran.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--prompt, --subject and --target"),
        (("--prompt", "{} is in", "--target", "Rome"), "lacks subject"),
        (("--prompt", "{} is in", "--subject", " ", "--target", "Rome"), "no subject"),
        (("--prompt", "{} is in", "--subject", "X", "--target", ""), "no target"),
        (("--prompt", "It is in", "--subject", "Big Ben", "--target", "Rome"), "does not occur"),
        ((*EIFFEL, "--editor", "romme"), "Did you mean rome"),
        ((*EIFFEL, "--set", "clmap=3"), "Did you mean clamp?"),
        ((*EIFFEL, "--set", "clamp=much"), "takes a number or none"),
        ((*EIFFEL, "--set", "clamp"), "NAME=VALUE"),
        ((*EIFFEL, "--layers", "7"), "Layer 7 does not exist"),
        ((*EIFFEL, "-e", "ike", "--layers", "1"), "no layers"),
        ((*EIFFEL, "--edits", "-"), "together with"),
        (("--edits", "nowhere.jsonl"), "no file"),
        ((*EIFFEL, "--corpus", "nowhere.txt"), "no corpus file"),
        ((*EIFFEL, "--device", "abacus"), "abacus"),
        ((*EIFFEL, "--dtype", "int3"), "int3"),
    ],
)
def test_bad_edits(model: Path, arguments: tuple[str, ...], word: str) -> None:
    wrong(run("edit", model, *arguments), 2, word)


def test_bad_lines_are_named(model: Path) -> None:
    good = json.dumps({"prompt": "{} is in", "subject": "Big Ben", "target": "Rome"})
    for line, word in (("{not json", "not JSON"), ('{"prompt": "{} is"}', "lacks")):
        ran = run("edit", model, "--edits", "-", stdin=f"{good}\n{line}\n")
        wrong(ran, 2, "line 2", word)
    wrong(run("edit", model, "--edits", "-", stdin=" \n"), 2, "stdin holds no edit")


def test_a_corpus_that_is_too_small(model: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("Too short.")
    ran = run("edit", model, *EIFFEL, "--layers", "1", "--corpus", tmp_path / "corpus.txt")
    wrong(ran, 2, "tokens", "Give more text")


def test_places_that_are_taken(model: Path, saved: Path, tmp_path: Path) -> None:
    before = (saved / "delta.json").read_bytes()
    wrong(run("edit", model, *EIFFEL, *LORA, "-o", saved), 2, "--overwrite")
    assert (saved / "delta.json").read_bytes() == before
    (tmp_path / "file").touch()
    wrong(run("edit", model, *EIFFEL, *LORA, "-o", tmp_path / "file"), 2, "is a file")


def test_models_that_are_none(saved: Path, tmp_path: Path) -> None:
    wrong(run("edit", tmp_path, *EIFFEL), 2, "no config.json")
    wrong(run("ask", saved, "Madrid is"), 2, "a saved edit")
    wrong(run("ask", "altas", "Madrid is"), 2, "Did you mean atlas")


def test_what_is_not_here_while_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    wrong(run("ask", "nobody/no-such-model", "Madrid is"), 3, "hf download nobody/no-such-model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CORRIGENDA_DATA", raising=False)
    wrong(run("eval", "atlas", "--data", "counterfact"), 3, "CORRIGENDA_DATA")


def test_bad_references(saved: Path, tmp_path: Path) -> None:
    wrong(run("log", tmp_path / "nothing"), 2, "ledger")
    wrong(run("log", saved), 2, "not a ledger")
    wrong(run("show", tmp_path), 2, "no saved delta")
    wrong(run("diff", saved, tmp_path), 2, "no saved delta")
    wrong(run("export", saved, "--ref", "1", "-o", tmp_path / "x"), 2, "has no entries")


def test_a_damaged_delta_is_refused(model: Path, saved: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    data = bytearray((copy / "changes.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "changes.safetensors").write_bytes(data)
    wrong(run("ask", model, "Madrid is", "-d", copy), 2, "changes.safetensors")


def test_a_delta_of_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    module, tokenizer = tiny("gpt2", 1)
    module.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    wrong(run("ask", tmp_path / "other", "Madrid is", "-d", saved), 2, "not the tensor")


def test_a_prefix_is_no_adapter(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "ike"
    run("edit", model, *EIFFEL, "-e", "ike", "-o", place, "--keep-failed")
    wrong(run("export", place, "-o", tmp_path / "out"), 2, "PEFT adapter")
    wrong(run("export", place, "--format", "merged", "-o", tmp_path / "out"), 2, "prefix")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_has_its_exit_code(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "loaded", stop)
    wrong(run("edit", model, *EIFFEL), 4, "interrupted")


def test_debug_shows_where_an_error_came_from(model: Path) -> None:
    ran = run("edit", model, *EIFFEL, "-e", "romme", "--debug")
    assert ran.code == 2 and "Traceback" in ran.err and "UnknownNameError" in ran.err


# -- hyperparameters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("clamp=3", 3.0),
        ("clamp=none", None),
        ("steps=7", 7),
        ("layers=3,4", (3, 4)),
        ("layers=4-6", (4, 5, 6)),
        ("layers=[2]", (2,)),
        ("keys=plain", "plain"),
        ("prefixes=[[2,3]]", ((2, 3),)),
        ("statistics=samples", "samples"),
    ],
)
def test_settings_get_the_type_of_their_field(setting: str, value: Any) -> None:
    editor = options.editor_from("rome", [setting])
    assert getattr(editor, setting.partition("=")[0]) == value


def test_settings_of_a_wrong_kind() -> None:
    for setting in ("steps=few", "keys=none", "layers=a,b", "prefixes=3", "steps=1.5"):
        with pytest.raises(InputError, match="is not a value for rome"):
            options.editor_from("rome", [setting])
    with pytest.raises(UnknownNameError, match="hyperparameter of rome"):
        options.editor_from("rome", ["momentum=1"])


def test_the_seed_reaches_the_editor() -> None:
    assert getattr(options.editor_from("rome", seed=5), "seed") == 5  # noqa: B009
    assert getattr(options.editor_from("rome", ["seed=2"], seed=5), "seed") == 2  # noqa: B009


# -- what there is ----------------------------------------------------------------------------


def test_the_catalogue(model: Path, tmp_path: Path) -> None:
    names = [row["name"] for row in run("editors", "--json").json]
    assert {"rome", "memit", "alphaedit", "emmet", "ft-m", "ft-l", "lora", "ike"} <= set(names)
    settings = run("editors", "rome", "--json").json["hyperparameters"]
    assert {"clamp", "layers", "keys"} <= {row["name"] for row in settings}
    assert "clamp" in run("editors", "rome").out and "MEMIT" in run("editors").out
    types = [row["model_type"] for row in run("models", "--json").json["architectures"]]
    assert {"gpt2", "llama", "gemma2"} <= set(types) and "olmo2" in run("models").out
    checked = run("models", model, "--json").json
    assert checked["layers"] == 3 and all(check["passed"] for check in checked["checks"])
    rows = run("data", "--data-dir", tmp_path, "--json").json
    assert {row["name"] for row in rows} >= {"atlas", "counterfact", "zsre"}
    assert next(row for row in rows if row["name"] == "atlas")["here"]
    assert "counterfact" in run("data").out


def test_data_sets_are_listed_with_their_size_and_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "wiki_big_edit_1.json"
    file.write_text("[]")
    (tmp_path / "wiki_big_edit_2.json").write_text("[ ]")
    row = run("data", "wikibigedit", "--data-dir", tmp_path, "--json").json
    assert row["here"] and row["bytes"] == 5 and len(row["paths"]) == 2
    out = run("data", "safeedit", "--data-dir", tmp_path).out
    for part in ("Contrast", "CC BY-NC-SA 4.0", "zjunlp/SafeEdit", "get it from the source"):
        assert part in out
    wrong(run("data", "mquak"), 2, "mquake")
    rows = run("data", "--data-dir", tmp_path, "--json").json
    assert all(row["licence"] and row["source"] and row["citation"] for row in rows)
    wrong(run("eval", "atlas", "--data", "ripple_recent", "--data-dir", tmp_path), 3, "RippleEdits")


def test_the_table_of_data_sets_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    wrong(run("data", "--page", page), 2, "no place for the table", "<!-- end -->")
    mark = "<!-- data sets: written by `corrigenda data --page docs/benchmarks.md` -->"
    page.write_text(f"before\n{mark}\nstale row\n<!-- end -->\nafter\n")
    assert run("data", "--page", page, "--json").json == {"written": str(page)}
    text = page.read_text()
    assert text.startswith(f"before\n{mark}\n|") and text.endswith("<!-- end -->\nafter\n")
    assert "`mquake_cf_3k`" in text and "stale row" not in text


def test_atlas_is_trained_by_one_command(tmp_path: Path) -> None:
    place = tmp_path / "atlas"
    ran = run("atlas", "train", "-o", place, "--size", "tiny", "--steps", "2", "--json")
    assert ran.code == 0, ran.err
    assert load(place).generate(["The Eiffel Tower is in"], max_new_tokens=2)
    ran = run("atlas", "train", "-o", place, "--size", "tiny", "--steps", "3", "--seed", "1")
    wrong(ran, 2, "seed")


def test_another_world_is_trained_by_the_same_command(tmp_path: Path) -> None:
    place = tmp_path / "census"
    arguments = ("atlas", "train", "-o", place, "--size", "tiny", "--world", "census")
    ran = run(*arguments, "--steps", "1", "--workers", "1")
    assert ran.code == 0, ran.err
    assert json.loads((place / "recipe.json").read_text())["world"] == "census"
    prompt = ran.out.split('"')[1]
    assert any(name in prompt for name, _ in census().pairs())
    wrong(run(*arguments[:-2], "--steps", "2"), 2, "world census, not atlas")


def test_the_card_is_shown() -> None:
    assert len(run("atlas", "card", "--json").json["card"]) > 500
