"""Child processes for the crash tests of lifelong runs: each dies at a system call of its choice.

Started once, since importing torch takes seconds. For every line on standard input, "directory
stop", it forks a child that makes a run there and dies, without a word to anyone, at its stop-th
system call that changes the disk; with stop = 0 it goes on to the end. "done STATUS" is said after
each.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import torch

from corrigenda.lifelong import Alarm, Course, Plan, lifelong
from tests.lookup_model import Breaking, LookupModel, case

CALLS = ("write", "fsync", "replace", "rename", "mkdir", "ftruncate", "unlink", "rmdir")
CASES = [case(j) for j in range(10)]


def make(directory: Path) -> Course:
    """Ten edits, of which the fifth breaks the model and is taken back."""
    return lifelong(
        LookupModel(16), Breaking(subjects=("S4",)), CASES,
        Plan(10, watch=3, checkpoints=(4,)), directory,
        untouched=[case(12)], text="near S14 is Paris\n\nnear S15 is Paris",
        alarm=Alarm(2.0, 0.2, 3), on_collapse="rollback",
    )  # fmt: skip


def die_at(stop: int) -> None:
    """Die before the stop-th call that changes the disk, or in the middle of it."""
    count = itertools.count(1)

    def dying(real):
        def call(*arguments, **options):
            if next(count) == stop:
                os._exit(9)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def main() -> None:
    torch.set_num_threads(1)
    say = os.write
    say(1, b"ready\n")
    for line in sys.stdin:
        directory, stop = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                if int(stop):
                    die_at(int(stop))
                make(Path(directory))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        say(1, f"done {status}\n".encode())


if __name__ == "__main__":
    main()
