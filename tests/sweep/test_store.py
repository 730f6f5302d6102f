"""The directory of a sweep: what is done stays, what failed says why, and SQL reads both."""

from __future__ import annotations

import fcntl
import json
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corrigenda.errors import DataError, InputError
from corrigenda.evaluate import evaluate
from corrigenda.sweep import attempt as attempts
from corrigenda.sweep import cluster, local
from corrigenda.sweep.attempt import attempt
from corrigenda.sweep.jobs import Job, Models
from corrigenda.sweep.store import Store
from corrigenda.sweep.tables import check_installed, query
from tests.lookup_model import Flip, LookupModel, Refusing, Weak, case

CASES = [case(j) for j in range(4)]
JOBS = [
    Job(editor="ft-m", model="atlas", data="atlas", size=4, label="flip"),
    Job(editor="ft-m", model="atlas", data="atlas", size=4, label="weak", seed=1),
    Job(editor="ft-m", model="atlas", data="atlas", size=4, label="broken", seed=2),
]
EDITORS = {"flip": Flip(), "weak": Weak()}


def perform(job: Job, models: Models, *, resume=None, progress=None):
    """A job on the lookup model; one of them fails."""
    if job.label not in EDITORS:
        raise RuntimeError("no such editor here")
    return evaluate(
        LookupModel(), EDITORS[job.label], CASES, resume=resume, progress=progress, seed=job.seed
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(attempts, "perform", perform)
    found = Store(tmp_path / "out")
    found.begin(JOBS, "the grid", "corrigenda sweep")
    return found


@pytest.mark.filterwarnings("ignore:something else")
def test_results_come_as_they_are_made_and_failures_are_not_fatal(store: Store) -> None:
    seen = []
    runs = local.run(JOBS, store, lambda job, *news: seen.append((job.label, *news)))
    first = next(runs)
    assert first.error is None and store.done(JOBS[0].key) and not store.done(JOBS[1].key)
    outcomes = [first, *runs]
    assert [outcome.error for outcome in outcomes] == [
        None, None, "RuntimeError: no such editor here",
    ]  # fmt: skip
    assert ("flip", "cases", 4, 4) in seen
    ((key, failure),) = store.failures().items()
    assert key == JOBS[2].key
    assert "Traceback" in failure["traceback"] and "perform" in failure["traceback"]
    assert [report.environment["label"] for report in store.reports()] == ["flip", "weak"]
    assert [path.name for path in (store.folder / "running").glob("*.jsonl")] == []


@pytest.mark.filterwarnings("ignore:something else")
def test_tables_hold_every_probe_and_score(store: Store) -> None:
    list(local.run(JOBS, store))
    columns, rows = query(
        store,
        "select method, count(*) n, count(distinct record) records, avg(passed) filter "
        "(axis = 'efficacy') efficacy, sum(passed_before) before from probes "
        "group by all order by method",
    )
    assert columns == ["method", "n", "records", "efficacy", "before"]
    probes = sum(len(one.probes) for one in CASES)
    assert [row[:3] for row in rows] == [("flip", probes, 4), ("weak", probes, 4)]
    for label, row in zip(("flip", "weak"), rows, strict=True):
        report = store.reports()[[job.label for job in JOBS].index(label)]
        assert row[3] == report.scores["gen.efficacy"].value
    ((value, low, unedited),) = query(
        store, "select value, low, unedited from scores where score = 'gen.efficacy' and seed = 0"
    )[1]
    score = store.reports()[0].scores["gen.efficacy"]
    assert (value, low, unedited) == (score.value, score.low, 0.0)
    assert query(store, "select error from failures")[1] == [("RuntimeError: no such editor here",)]
    table = pq.read_table(store.tables("probes")[0])
    assert table.column("wanted")[0].as_py() == ["Rome"]
    with pytest.raises(InputError, match="probes"):
        query(store, "select nothing from nowhere")


def test_a_failed_job_is_forgotten_when_it_is_done(store: Store, monkeypatch) -> None:
    assert attempt(JOBS[2], store, Models()).error
    assert list(store.failures()) == [JOBS[2].key]
    monkeypatch.setitem(EDITORS, "broken", Refusing())
    assert attempt(JOBS[2], store, Models()).error is None
    assert store.failures() == {} and store.done(JOBS[2].key)


def test_an_interrupt_keeps_the_finished_cases(store: Store, monkeypatch) -> None:
    stopping = Refusing(subjects=("S2",), error=KeyboardInterrupt)
    monkeypatch.setitem(EDITORS, "flip", stopping)
    with pytest.raises(KeyboardInterrupt):
        attempt(JOBS[0], store, Models())
    assert not store.done(JOBS[0].key) and store.failures() == {}
    lines = store.running(JOBS[0].key).read_text(encoding="utf-8").splitlines()
    finished = [json.loads(line)["value"] for line in lines if '"kind": "case"' in line]
    assert [row["id"] for row in finished] == ["case-0", "case-1"]
    monkeypatch.setitem(EDITORS, "flip", Refusing())
    assert attempt(JOBS[0], store, Models()).error is None
    assert list(store.report(JOBS[0].key).rows[:2]) == finished


def test_a_job_is_not_done_twice(store: Store, monkeypatch) -> None:
    assert attempt(JOBS[0], store, Models()).error is None
    monkeypatch.delitem(EDITORS, "flip")
    assert attempt(JOBS[0], store, Models()).error is None


def test_two_processes_do_not_do_the_same_job(store: Store) -> None:
    path = store.running(JOBS[0].key).with_suffix(".lock")
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(InputError, match="Another process"),
            store.working(JOBS[0].key, wait=0.2),
        ):
            pass


def test_a_new_plan_hides_what_is_not_asked_for(store: Store) -> None:
    attempt(JOBS[0], store, Models())
    store.begin([replace(JOBS[0], label="renamed")], "another grid", "")
    assert [report.environment["label"] for report in store.reports()] == ["renamed"]
    store.begin(JOBS[1:], "another grid", "")
    assert store.reports() == [] and store.tables("scores") == []
    with pytest.raises(DataError, match="No job"):
        query(store, "select 1")


@pytest.mark.parametrize(
    ("library", "use", "extra"),
    [
        ("pyarrow", lambda store: check_installed(), "sweep"),
        ("duckdb", lambda store: query(store, "select 1"), "query"),
        ("ray", lambda store: next(cluster.run(JOBS, store)), "ray"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    store: Store, monkeypatch, library, use, extra
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(InputError, match=rf"corrigenda\[{extra}\]"):
        use(store)


def test_another_directory_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sweep"):
        Store(tmp_path).plan()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Store(tmp_path / "file").begin(JOBS, "", "")
