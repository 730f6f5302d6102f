"""A sweep on Ray loses nothing to SIGKILL, of a worker or of the driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from corrigenda.errors import InputError
from corrigenda.report import Report
from corrigenda.sweep import local
from corrigenda.sweep.cluster import _shares
from corrigenda.sweep.grid import Grid
from corrigenda.sweep.store import Store

ROOT = Path(__file__).parent.parent.parent
GRID = """
editors = ["ft-m", "ike", "locft-bf"]
models = ["atlas", "atlas-llama"]
data = ["atlas", "atlas_long"]
sizes = [2]
max_new_tokens = 4
"""
PATIENCE = 300.0


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    code = "from corrigenda.apps.cli import main; main()"
    command = ["sweep", str(folder / "grid.toml"), "-o", str(folder / "out")]
    return subprocess.Popen(
        [sys.executable, "-c", code, *command, "--runner", "ray", "--workers", "2", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


@contextmanager
def running(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = start(folder, *more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(found: Any, process: subprocess.Popen[str]) -> Any:
    """What `found()` gives as soon as it gives something, while the process lives."""
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return value


def half_done(store: Store) -> dict[str, dict[int, Any]]:
    """Finished cases of jobs that are not done: {file: {position: its cost}}."""
    found = {}
    for path in (store.folder / "running").glob("*.jsonl"):
        try:
            lines = path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:  # done since
            continue
        values = [json.loads(line) for line in lines]
        cases = {v["value"]["position"]: v["value"]["cost"] for v in values if v["kind"] == "case"}
        if cases:
            found[path.stem] = cases
    return found


def worker_of(driver: psutil.Process, store: Store, name: str) -> psutil.Process | None:
    """The process that has the file of a job's finished cases open."""
    wanted = str(store.folder / "running" / f"{name}.jsonl")
    for process in driver.children(recursive=True):
        try:
            if "ray::" in process.name() and wanted in [f.path for f in process.open_files()]:
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def stable_report(report: Report) -> Any:
    data = json.loads(report.to_json())
    for row in data["rows"]:
        del row["cost"]
    del data["cost"], data["environment"]["created"]
    return data


def stable_tables(store: Store, name: str) -> list[dict[str, Any]]:
    """All rows without clocks and memory."""
    rows = [row for path in store.tables(name) for row in pq.read_table(path).to_pylist()]
    kept = [row for row in rows if not str(row.get("score")).startswith("cost.")]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in kept]


@pytest.mark.slow
def test_a_sweep_survives_the_death_of_a_worker_and_of_the_driver(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID, encoding="utf-8")
    store = Store(tmp_path / "out")

    with running(tmp_path) as driver:
        # A worker dies in the middle of a job: the job goes on from its finished case.
        def victim() -> Any:
            for name, cases in half_done(store).items():
                if worker := worker_of(psutil.Process(driver.pid), store, name):
                    return name, cases, worker
            return None

        name, cases, worker = until(victim, driver)
        worker.send_signal(signal.SIGKILL)
        report = store.folder / "reports" / f"{name}.json"
        until(report.is_file, driver)
        rows = Report.from_json(report.read_text(encoding="utf-8")).rows
        costs = {row["position"]: row["cost"] for row in rows}
        assert cases.items() <= costs.items()
        # The driver dies with jobs done, jobs under way and jobs to do.
        until(lambda: half_done(store), driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    kept = {path: path.stat().st_mtime_ns for path in (store.folder / "reports").iterdir()}
    assert 0 < len(kept) < 12

    with running(tmp_path, "--resume", "--json") as driver:
        said, remarks = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, remarks
        summary = json.loads(said)
        assert summary["jobs"] == len(summary["done"]) == 12
        assert summary["failed"] == []
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in kept}.items()

    # The same jobs, never interrupted, in this process.
    whole = Store(tmp_path / "whole")
    jobs = Grid.read(tmp_path / "grid.toml").jobs()
    whole.begin(jobs, GRID, "")
    assert [outcome.error for outcome in local.run(jobs, whole)] == [None] * 12
    pairs = list(zip(store.reports(), whole.reports(), strict=True))
    assert len(pairs) == 12
    for resumed, uninterrupted in pairs:
        assert stable_report(resumed) == stable_report(uninterrupted)
    for table in ("probes", "scores"):
        rows = stable_tables(store, table)
        assert rows == stable_tables(whole, table)
        assert len(rows) > 100
    assert not list((store.folder / "running").iterdir())


@pytest.mark.parametrize(
    ("have", "workers", "gpus", "shares"),
    [
        ({"CPU": 8}, None, None, (4, 2, 0)),
        ({"CPU": 8}, 8, None, (8, 1, 0)),
        ({"CPU": 16, "GPU": 4}, None, None, (4, 4, 1)),
        ({"CPU": 16, "GPU": 4}, None, 0.5, (8, 2, 0.5)),
        ({"CPU": 16, "GPU": 4}, 2, 2, (2, 8, 2)),
        ({"CPU": 1}, None, None, (1, 1, 0)),
    ],
)
def test_workers_share_what_a_cluster_has(have, workers, gpus, shares) -> None:
    assert _shares(have, workers, gpus) == shares


@pytest.mark.parametrize(
    ("have", "workers", "gpus", "said"),
    [
        ({"CPU": 8}, None, 1, "gpus-per-job"),
        ({"CPU": 8, "GPU": 1}, 2, 1, "room for 1"),
        ({"CPU": 2}, 3, None, "room for 2"),
    ],
)
def test_more_than_a_cluster_has_is_refused(have, workers, gpus, said) -> None:
    with pytest.raises(InputError, match=said):
        _shares(have, workers, gpus)
