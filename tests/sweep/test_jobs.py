"""The key of a job names what its result depends on, and nothing else."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from corrigenda.errors import InputError
from corrigenda.sweep.jobs import Job

EDIT = {"prompt": "{} is in", "subject": "Oslo", "target": "Rome", "target_true": "Norway"}
JOB = Job(editor="ft-m", model="atlas", data="edits.jsonl", size=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "edits.jsonl").write_text(json.dumps(EDIT) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"editor": "ike"}, {"model": "atlas-llama"}, {"mode": "batch"}, {"size": 3}, {"seed": 1},
        {"known_only": True}, {"max_new_tokens": 4}, {"batch_size": 8}, {"step": 2},
        {"checkpoints": (1, 2)}, {"dtype": "bfloat16"}, {"settings": {"lr": 0.25}},
    ],
)  # fmt: skip
def test_what_a_result_depends_on_changes_the_key(folder: Path, change: dict) -> None:
    job = replace(JOB, folder=str(folder))
    assert replace(job, **change).key != job.key


def test_names_and_places_do_not_change_the_key(folder: Path, tmp_path_factory) -> None:
    job = replace(JOB, folder=str(folder))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "edits.jsonl").write_bytes((folder / "edits.jsonl").read_bytes())
    assert replace(job, folder=str(elsewhere)).key == job.key
    assert replace(job, label="fine-tuning").key == job.key
    default = job.made().lr
    if default is not None:  # a default that is spelt out is the same editor
        assert replace(job, settings={"lr": default}).key == job.key


def test_the_content_of_the_data_changes_the_key(folder: Path) -> None:
    before = replace(JOB, folder=str(folder)).key
    other = folder / "other"
    other.mkdir()
    (other / "edits.jsonl").write_text(
        json.dumps(EDIT | {"target": "Lima"}) + "\n", encoding="utf-8"
    )
    assert replace(JOB, folder=str(other)).key != before


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl"):
        _ = replace(JOB, data="none.jsonl", folder=str(folder)).key


def test_a_job_says_how_it_is_done_alone() -> None:
    job = replace(
        JOB, data="atlas", mode="sequential", step=2, seed=3, known_only=True,
        settings={"layers": [1, 2], "statistics": "identity"},
    )  # fmt: skip
    words = shlex.split(job.command)
    assert words[:3] == ["corrigenda", "eval", "atlas"]
    for pair in (["--editor", "ft-m"], ["--limit", "2"], ["--seed", "3"], ["--step", "2"],
                 ["--set", "layers=[1, 2]"], ["--set", "statistics=identity"]):  # fmt: skip
        assert pair in [words[j : j + 2] for j in range(len(words))]
    assert "--known-only" in words


@pytest.mark.parametrize(
    ("data", "known", "pool"),
    [
        ("atlas", False, 5),
        ("atlas", True, 10),
        ("counterfact", True, None),
        ("own.json", True, None),
    ],
)
def test_known_cases_are_drawn_from_more(data: str, known: bool, pool: int | None) -> None:
    assert replace(JOB, data=data, size=5, known_only=known).pool == pool
