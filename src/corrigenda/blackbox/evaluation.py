"""Evaluate a black box on cases: free answers before and after, and nothing that needs logits.

The edited state is one endpoint (or one of its models), the unedited state another. Without an
unedited state nobody can say what an answer was before, so locality is then measured against the
answers that the records themselves name, under a name of its own: `gen.locality.known`.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..edit import Case
from ..editor import versions
from ..errors import InputError
from ..evaluate import data_of, known_only, row_of, scorer, with_rewrite_probe
from ..measure import Budget, executable, observe
from ..report import Report
from ..results import Results, content_key
from .client import Remote

__all__ = ["evaluate_remote"]

Progress = Callable[[str, int, int], None]

CASES_AT_ONCE = 16  # fills the workers; few enough that an interrupt loses little

NOBODY_TAUGHT = {
    "error": None,
    "took": None,
    "answer": "",
    "remark": "",
    "warnings": [],
    "cost": {},
}
"""What a row says of the editor: the edits were made elsewhere."""


def evaluate_remote(
    after: Remote,
    cases: Sequence[Case],
    *,
    before: Remote | None = None,
    known: bool = False,
    limit: int | None = None,
    max_new_tokens: int = 16,
    progress: Progress | None = None,
    resume: Path | None = None,
    seed: int = 0,
    command: str = "",
) -> Report:
    """The free-generation scores of an endpoint that is said to hold these edits.

    before  the same model without the edits; None: there is none to ask.
    known   keep the cases whose true answer the unedited state gives, at most `limit` of them.
    resume  file of finished cases: read first, then appended to.
    seed    of the bootstrap.

    Raises `InputError` when there is nothing to evaluate, or `known` is asked without `before`.
    """
    found = [with_rewrite_probe(case) for case in cases]
    notes = [f"Black box: free generation only, sent as {after.ready().form}."]
    if before is not None:
        before.ready()
    elif known:
        raise InputError(
            "Which facts the unedited model knows, only it can say. Name its state with "
            "--remote-before MODEL, or drop --known-only."
        )
    if known and before is not None:
        kept = known_only(before, found, limit=limit, max_new_tokens=max_new_tokens)
        notes.append(
            f"Known only: {len(kept)} of {len(found)} cases, whose true answer the unedited "
            "state gives."
        )
        found = kept
    found = found[:limit]
    if not found:
        raise InputError("There is nothing to evaluate: no case was given, or none is known.")
    budget = Budget(max_new_tokens)
    if before is None:
        notes.append(
            "Locality: no unedited state was named, so it is whether the answer is the one that "
            "the records name (gen.locality.known)."
        )
    elif any(p.conditions and not p.group for case in found for p in case.probes):
        found, _ = executable(before, found, budget)
    environment = _environment(after, before, found, max_new_tokens, seed, command, notes)
    same = [after.url, after.model, after.form, before and [before.url, before.model, before.form]]
    keys = [content_key("remote", same, max_new_tokens, asdict(case)) for case in found]
    rows = []
    with Results(resume) as results:
        run = content_key("run", keys, seed)
        if run not in results:
            results.put(run, "run", {"environment": environment, "keys": keys})
        for start in range(0, len(found), CASES_AT_ONCE):
            if progress is not None:
                progress("cases", start, len(found))
            todo = [
                j
                for j in range(start, min(start + CASES_AT_ONCE, len(found)))
                if keys[j] not in results
            ]
            part = [found[j] for j in todo]
            firsts = observe(before, part, budget, unedited=True) if before and part else None
            afters = observe(after, part, budget) if part else []
            for at, j in enumerate(todo):
                first = firsts[at] if firsts is not None else None
                results.put(
                    keys[j], "case", row_of(found[j], j + 1, NOBODY_TAUGHT, first, afters[at])
                )
        rows = [results[key] for key in keys]
    if progress is not None:
        progress("cases", len(found), len(found))
    environment["model"] |= {"served": (before or after).served}
    environment["editor"]["arguments"]["served"] = after.served
    return Report.build(rows, environment)


def _environment(
    after: Remote,
    before: Remote | None,
    cases: Sequence[Case],
    max_new_tokens: int,
    seed: int,
    command: str,
    notes: list[str],
) -> dict[str, Any]:
    """What the result depends on. The edited state takes the place of an editor."""
    return {
        "editor": {"name": after.model, "arguments": after.identity()},
        "model": (before or after).identity() | {"live": []},
        "data": data_of(cases),
        "scorer": {
            **{k: v for k, v in scorer().items() if k != "teacher_forced"},
            "stop": "as the endpoint stops, or the token limit",
        },
        "versions": versions() | {"python": platform.python_version()},
        "platform": platform.platform(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "mode": "batch",
        "step": None,
        "checkpoints": [],
        "max_new_tokens": max_new_tokens,
        "batch_size": 1,
        "seed": seed,
        "command": command,
        "notes": notes,
    }
