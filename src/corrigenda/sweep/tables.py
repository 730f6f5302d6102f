"""Results of a sweep as Parquet, and SQL over them.

    probes   a row per job, record and probe: what was asked, wanted and answered before and after
    scores   a row per job and score, with its interval and the unedited model beside it; what a
             job cost is there as cost.seconds_per_edit and the like

Both begin with the columns that say which job it was. The files are plain Parquet, so

    duckdb -c "select method, avg(passed) from 'DIR/probes/*.parquet' group by all"

works without this package.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disk import write_atomic
from ..errors import DataError, InputError
from ..metrics.observation import record_scores
from ..metrics.titles import HEADLINE
from ..report import items

if TYPE_CHECKING:
    from ..edit import Probe
    from ..metrics.observation import Observation
    from ..report import Report
    from .jobs import Job
    from .store import Store

__all__ = ["NAME", "check_installed", "query", "table_path", "write_tables"]

NAME = 16  # digits of a key that name a file: enough for no two jobs to share them
JOB = {
    "job": "string", "method": "string", "editor": "string", "settings": "string",
    "model": "string", "data": "string", "mode": "string", "size": "int64", "seed": "int64",
    "known_only": "bool",
}  # fmt: skip
PROBES = JOB | {
    "position": "int64", "record": "string", "relation": "string", "subject": "string",
    "target": "string", "target_true": "string", "took": "bool", "error": "string",
    "seconds": "float64", "probe": "int64", "axis": "string", "kind": "string",
    "held_out": "bool", "prompt": "string", "wanted": "strings", "before": "string",
    "after": "string", "passed_before": "float64", "passed": "float64",
    "target_logprob_before": "float64", "target_logprob": "float64",
    "foil_logprob_before": "float64", "foil_logprob": "float64",
    "kl_reference_edited": "float64",
}  # fmt: skip
SCORES = JOB | {
    "score": "string", "value": "float64", "low": "float64", "high": "float64",
    "unedited": "float64", "records": "int64", "prompts": "int64", "interval": "string",
}  # fmt: skip


def check_installed() -> None:
    """Raises `InputError` where the library for Parquet is missing, before any work is done."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            "A sweep writes Parquet, which needs the library pyarrow, and it is not installed. "
            "Install it with `pip install 'corrigenda[sweep]'`."
        ) from None


def table_path(folder: Path, name: str, key: str) -> Path:
    """Where a table of a job is. name  "probes" or "scores"."""
    return folder / name / f"{key[:NAME]}.parquet"


def write_tables(folder: Path, job: Job, report: Report) -> None:
    """The two tables of a finished job."""
    _write(table_path(folder, "probes", job.key), PROBES, _probe_rows(job, report))
    _write(table_path(folder, "scores", job.key), SCORES, _score_rows(job, report))


def query(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of an SQL query over the views `probes`, `scores` and `failures`.

    Raises `InputError` for SQL that DuckDB refuses or where it is not installed, and `DataError`
    for a sweep without results.
    """
    try:
        import duckdb
    except ImportError:
        raise InputError(
            "Queries need the library duckdb, and it is not installed. Install it with "
            "`pip install 'corrigenda[query]'`, or read the Parquet files with another tool."
        ) from None
    if not store.tables("scores"):
        raise DataError(f"No job of {store.folder} is done, so there is nothing to ask.")
    base = duckdb.connect()
    try:
        for name in ("probes", "scores"):
            base.read_parquet([str(path) for path in store.tables(name)]).create_view(name)
        base.execute("create table failures (job text, method text, error text, traceback text)")
        rows = [
            (key, row["job"]["label"], row["error"], row["traceback"])
            for key, row in store.failures().items()
        ]
        if rows:
            base.executemany("insert into failures values (?, ?, ?, ?)", rows)
        found = base.execute(sql)
        return [column[0] for column in found.description or ()], found.fetchall()
    except duckdb.Error as error:
        raise InputError(
            f"{error}\nThe views are probes ({', '.join(PROBES)}), scores ({', '.join(SCORES)}) "
            "and failures (job, method, error, traceback)."
        ) from None
    finally:
        base.close()


# -- rows -------------------------------------------------------------------------------------


def _job_row(job: Job) -> dict[str, Any]:
    return {
        "job": job.key,
        "method": job.label or job.editor,
        "editor": job.editor,
        "settings": json.dumps(job.settings, sort_keys=True),
        "model": job.model,
        "data": job.data,
        "mode": job.mode,
        "size": job.size,
        "seed": job.seed,
        "known_only": job.known_only,
    }


def _probe_rows(job: Job, report: Report) -> list[dict[str, Any]]:
    same = _job_row(job)
    rows = []
    for row in report.rows:
        edit = row["edit"]
        record = {
            "position": row["position"],
            "record": row["id"],
            "relation": edit.get("relation"),
            "subject": edit.get("subject"),
            "target": edit.get("target"),
            "target_true": edit.get("target_true"),
            "took": row["took"],
            "error": row["error"],
            "seconds": row["cost"].get("seconds"),
        }
        for number, part in enumerate(row["probes"]):
            rows.append(same | record | {"probe": number} | _probe_row(part))
    return rows


def _probe_row(part: Mapping[str, Any]) -> dict[str, Any]:
    ((probe, before, after, kl),) = items({"probes": [part]})
    assert before is not None  # a sweep always asks the unedited model
    return {
        "axis": probe.axis,
        "kind": probe.kind,
        "held_out": probe.held_out,
        "prompt": probe.prompt,
        "wanted": list(probe.answers),
        "before": before.text,
        "after": after.text,
        "passed_before": _passed(probe, before, before),
        "passed": _passed(probe, before, after),
        "target_logprob_before": before.target and before.target.total,
        "target_logprob": after.target and after.target.total,
        "foil_logprob_before": before.foil and before.foil.total,
        "foil_logprob": after.foil and after.foil.total,
        "kl_reference_edited": kl and kl[0],
    }


def _passed(probe: Probe, before: Observation, after: Observation) -> float | None:
    """The free-generation score of one probe; None where it belongs to no headline score."""
    scores = record_scores([(probe, before, after, None)])
    return next((scores[name][0] for name in HEADLINE if name in scores), None)


def _score_rows(job: Job, report: Report) -> list[dict[str, Any]]:
    same = _job_row(job)
    rows = [
        same
        | {
            "score": name,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "unedited": report.unedited[name].value if name in report.unedited else None,
            "records": score.n_records,
            "prompts": score.n_prompts,
            "interval": score.method,
        }
        for name, score in report.scores.items()
    ]
    rows += [
        same | {"score": f"cost.{name}", "value": value, "interval": "none"}
        for name, value in report.cost.items()
    ]
    return rows


def _write(path: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "string": pa.string(), "strings": pa.list_(pa.string()), "int64": pa.int64(),
        "float64": pa.float64(), "bool": pa.bool_(),
    }  # fmt: skip
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    data = {name: [row.get(name) for row in rows] for name in columns}
    buffer = io.BytesIO()
    pq.write_table(pa.table(data, schema=schema), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())
