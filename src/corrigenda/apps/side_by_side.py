"""Runs of this command line as processes of their own, several at a time.

A run that fails takes no other with it, and peak memory is that of one. What is still running when
the parent is interrupted is interrupted too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from . import console

__all__ = ["side_by_side"]


def side_by_side(todo: Mapping[str, Sequence[str]], jobs: int) -> Iterator[tuple[str, str]]:
    """Run `corrigenda ARGUMENTS` for each name, `jobs` at a time; yield each name as its run ends,
    with why it failed if it did.

    Side by side, the processes share the processor's threads rather than compete for them. Raises
    `KeyboardInterrupt` when one of them was interrupted.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if jobs > 1 else {})
    running: set[subprocess.Popen[str]] = set()

    def run(arguments: Sequence[str]) -> str:
        code = "from corrigenda.apps.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        running.add(process)
        _, said = process.communicate()
        running.discard(process)
        return _problem(process.returncode, said)

    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(run, arguments): name for name, arguments in todo.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:  # interrupted: what is still running ends too, with its results on disk
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.send_signal(signal.SIGINT)


def _problem(code: int, said: str) -> str:
    """Why a run failed, in words, or nothing."""
    if code == console.INTERRUPTED:
        raise KeyboardInterrupt
    if code == 0:
        return ""
    if code < 0:
        return f"ended by signal {-code}; too little memory, perhaps"
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    return " ".join(lines).removeprefix("error: ") or f"exit code {code}"
