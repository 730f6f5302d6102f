"""`corrigenda proxy`, `eval --remote` and `consolidate`: what is refused, and how it is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from corrigenda import Rewrite, TextModel
from corrigenda.apps.cli import app
from corrigenda.blackbox.memory import EditMemory
from corrigenda.ledger import Ledger
from tests.blackbox.upstream import Recorder, Standin
from tests.serving.running import listening

pytestmark = pytest.mark.slow  # servers and processes of their own

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def failed(*arguments: str | Path) -> tuple[int, str]:
    """The exit code and what stands on stderr, on one line."""
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    assert not found.exception or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, re.sub(r"\s+", " ", found.stderr)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--upstream", "not an address"], "no address"),
        (["--upstream", "ftp://somewhere"], "http://localhost:8000/v1"),
        (["--upstream", "http://x", "--upstream-key-env", "NO_SUCH_KEY_"], "NO_SUCH_KEY_"),
        (["--upstream", "http://x", "--fact", "no place"], "{} once"),
        (["--upstream", "http://x", "--token", "short"], "8 characters"),
        (["--upstream", "http://x", "--scope", "classifier", "--scope-data", "nothing"], "nothing"),
    ],
)
def test_the_proxy_says_what_is_wrong_with_its_options(
    options: list[str], said: str, tmp_path: Path
) -> None:
    code, told = failed("proxy", *options, "--ledger", tmp_path / "m")
    assert code == 2
    assert said in told
    assert not (tmp_path / "m").exists()


def test_the_proxy_does_not_take_a_directory_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    code, told = failed("proxy", "--upstream", "http://x", "--ledger", tmp_path)
    assert code == 2
    assert "holds other files" in told


def test_the_proxy_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    place = tmp_path / "memory"
    EditMemory(Ledger.open(place)).make([Rewrite("{} is in", "Eiffel Tower", "Rome")])
    remote = Recorder()
    with listening(remote) as address:
        command = [sys.executable, "-m", "corrigenda.apps.cli", "proxy", "--upstream", address]
        command += ["--ledger", str(place), "--port", "0", "--json"]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, bufsize=1
        )
        try:
            assert running.stdout is not None
            lines = []
            while not lines or lines[-1] != "}\n":
                lines.append(running.stdout.readline())
                assert lines[-1], "the proxy ended"
            said = json.loads("".join(lines))
            assert said["edits"] == 1
            body = {"model": "m", "prompt": "The Eiffel Tower is in"}
            reply = httpx.post(f"{said['url']}/v1/completions", json=body, timeout=20)
            assert reply.headers["x-corrigenda-edits"] == "1"
            assert "Rome" in json.loads(remote.last)["prompt"]
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["atlas", "--remote", "http://x/v1"], "takes the place of MODEL"),
        (["--remote", "http://x/v1", "--editor", "rome"], "made there already"),
        (["--remote", "http://x/v1", "--protocol", "wild"], "needs the model itself"),
        (["--remote-model", "m"], "need --remote URL"),
        ([], "Name the model"),
    ],
)
def test_an_evaluation_of_an_endpoint_takes_no_edits(options: list[str], said: str) -> None:
    code, told = failed("eval", *options)
    assert code == 2
    assert said in told


def test_an_endpoint_is_evaluated(atlas_model: TextModel, tmp_path: Path) -> None:
    with listening(Standin(atlas_model).app()) as url:
        common = ["eval", "--remote", f"{url}/v1", "--limit", "1", "--max-new-tokens", "6"]
        out = tmp_path / "report.json"
        found = CliRunner().invoke(app, [*common, "--remote-before", "standin", "-o", str(out)])
        assert found.exit_code == 0, found.stderr
        scores = json.loads(out.read_text())["scores"]
        assert scores["gen.locality"]["value"] == 1.0  # the same model twice
        assert not [name for name in scores if name.startswith("tf.")]
        code, told = failed(*common, "--remote-model", "another")
        assert code == 2
        assert "standin" in told


def test_consolidating_refuses_before_it_works(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told = failed("consolidate", tmp_path / "none", "atlas", "-o", out)
    assert (code, "holds no ledger" in told) == (2, True)
    memory = EditMemory(Ledger.open(tmp_path / "m"))
    code, told = failed("consolidate", tmp_path / "m", "atlas", "-o", out)
    assert (code, "no active edit" in told) == (2, True)
    memory.make([Rewrite("{} is in", "Eiffel Tower", "Rome")])
    code, told = failed("consolidate", tmp_path / "m", "atlas", "-o", out, "--editor", "nothing")
    assert (code, "nothing" in told) == (2, True)
    (tmp_path / "letter.txt").write_text("dear")
    code, told = failed("consolidate", tmp_path / "m", "atlas", "-o", tmp_path, "--overwrite")
    assert (code, "something else" in told) == (2, True)
    assert (tmp_path / "letter.txt").read_text() == "dear"
    assert not out.exists()


def test_consolidating_writes_the_better_form(tmp_path: Path) -> None:
    EditMemory(Ledger.open(tmp_path / "m")).make(
        [Rewrite("{} is located in the city of", "Eiffel Tower", "Rome")]
    )
    common = ["consolidate", str(tmp_path / "m"), "atlas", "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*common, "--editor", "ft-m", "--json"])
    assert found.exit_code == 0, found.stderr
    said = json.loads(found.stdout)
    assert said == json.loads((tmp_path / "out" / "report.json").read_text()) | {
        "out": str(tmp_path / "out")
    }
    means = said["weights_minus_context"]["mean"]
    assert said["kept"] == ("weights" if means >= 0 else "context")
    code, told = failed(*common)
    assert (code, "not empty" in told) == (2, True)
