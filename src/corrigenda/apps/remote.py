"""What `corrigenda eval --remote` does: a model behind an address on a data set."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..blackbox.client import Remote
    from ..report import Report

__all__ = ["evaluated", "key_from"]


def key_from(variable: str | None) -> str | None:
    """A key from the environment. Raises `InputError` where the variable is named and not set."""
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "")):
        raise InputError(f"The environment variable {variable} is not set. Put the key there.")
    return key


def evaluated(
    url: str,
    model: str | None,
    before: str | None,
    key_env: str | None,
    form: Literal["auto", "completions", "chat"],
    *,
    data: str,
    limit: int | None,
    known: bool,
    data_dir: Path | None,
    max_new_tokens: int,
    resume: Path | None,
    seed: int,
) -> Report:
    """The report on an endpoint."""
    from ..benchmarks import load_cases
    from ..blackbox.client import Remote
    from ..blackbox.evaluation import evaluate_remote

    def state(name: str | None) -> Remote:
        one = Remote(url, name or "", key_from(key_env), form).ready()
        one.check()
        return one

    after = state(model)
    first = state(before) if before else None
    wide = options.pool(data, limit, known)
    cases = load_cases(data, limit=wide, seed=seed, data_dir=data_dir)
    console.note(f"{after.id}: {len(cases)} cases of {data}, free generation only")
    with console.stages() as advance:
        return evaluate_remote(
            after,
            cases,
            before=first,
            known=known,
            limit=limit,
            max_new_tokens=max_new_tokens,
            progress=advance,
            resume=resume,
            seed=seed,
            command=shlex.join(["corrigenda", *sys.argv[1:]]),
        )
