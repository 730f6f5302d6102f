"""A run that dies at any instant goes on to the result of one that does not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corrigenda.delta import Delta
from corrigenda.lifelong import Course
from tests.lifelong.test_run import last_state, stable

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}


@pytest.fixture(scope="module")
def children() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kill_lifelong"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait()


def child(children: subprocess.Popen[str], directory: Path, stop: int) -> int:
    """Make the run in a child that dies at its stop-th change of the disk; its exit status."""
    assert children.stdin is not None and children.stdout is not None
    children.stdin.write(f"{directory} {stop}\n")
    children.stdin.flush()
    return int(children.stdout.readline().split()[1])


@pytest.fixture(scope="module")
def expected(children, tmp_path_factory) -> tuple[dict, str]:
    directory = tmp_path_factory.mktemp("whole")
    assert child(children, directory, 0) == 0
    course = Course.read(directory / "run.jsonl")
    assert [row["taken_back"] for row in course.rollbacks] == [5]
    return stable(course), last_state(directory).id


def test_one_death_at_any_change_of_the_disk(children, expected, tmp_path):
    for stop in random.Random(0).sample(range(1, 180), 12):
        directory = tmp_path / str(stop)
        status = child(children, directory, stop)
        assert status == 9 << 8, stop
        assert child(children, directory, 0) == 0
        course = Course.read(directory / "run.jsonl")
        assert (stable(course), last_state(directory).id) == expected, stop


def test_death_after_death(children, expected, tmp_path):
    chance, deaths = random.Random(1), 0
    while child(children, tmp_path, chance.randrange(25, 80)) != 0:
        deaths += 1
        assert deaths < 100
    assert deaths >= 3
    course = Course.read(tmp_path / "run.jsonl")
    assert (stable(course), last_state(tmp_path).id) == expected


COMMAND = (
    "lifelong", "atlas", "--editors", "alphaedit", "--edits", "16", "--untouched", "4", "--watch",
    "6", "--checkpoints", "10", "--max-new-tokens", "6",
)  # fmt: skip


def started(*arguments: str) -> subprocess.Popen[str]:
    code = "from corrigenda.apps.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *COMMAND, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        # Of what a shell runs in the background Ctrl-C is ignored, also by the children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.slow
def test_a_real_sequence_killed_and_interrupted(tmp_path):
    """SIGKILL, then Ctrl-C, then the end: as without either."""
    torn, whole, text = tmp_path / "torn", tmp_path / "whole", tmp_path / "text"
    text.write_text("The Eiffel Tower is a tower in Paris.\n\nFrance is a country in Europe.")
    lines = torn / "alphaedit.0" / "run.jsonl"

    def wait_for(count: int, process: subprocess.Popen[str]) -> None:
        while not lines.exists() or lines.read_bytes().count(b"\n") < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    killed = started("--health-text", str(text), "-o", str(torn))
    wait_for(7, killed)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    interrupted = started("--health-text", str(text), "-o", str(torn))
    wait_for(13, interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate()
    assert interrupted.returncode == 4 and "goes on from there" in said
    assert not (torn / "report.json").exists()
    last = started("--health-text", str(text), "-o", str(torn), "--json")
    out, said = last.communicate()
    assert last.returncode == 0, said
    one = json.loads(out)["editors"]["alphaedit"]
    assert one["figures"]["retained"]["mean"] > 0.8
    assert {"report.json", "report.md", "retained.png"} <= {p.name for p in torn.iterdir()}
    straight = started("--health-text", str(text), "-o", str(whole), "--json")
    straight.communicate()
    a, b = (stable(Course.read(d / "alphaedit.0" / "run.jsonl")) for d in (torn, whole))
    assert a == b
    kept: list[Delta] = [last_state(d / "alphaedit.0") for d in (torn, whole)]
    assert kept[0].id == kept[1].id and len(kept[0].provenance.edits) == 16
