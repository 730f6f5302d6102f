"""Child processes for the crash tests: each writes to a ledger until it dies.

Started once, since importing torch takes seconds. For every line on standard input, "directory
seed stop", it forks a child. With stop = 0 the child records, undoes, redoes and orders edits until
it is killed; otherwise it records one edit and dies at its stop-th system call that changes the
disk. The child says on standard output what was acknowledged: "+ seq id" for a record, "- seq id"
for the undo of entry seq, "= seq order" for another order; the parent says "pid N" before, and
"done STATUS" after its death.
"""

from __future__ import annotations

import itertools
import os
import random
import sys

import torch

from corrigenda.ledger import Ledger
from tests.deltas import Fake, rank_one, toy

CALLS = ("write", "fsync", "replace", "rename", "mkdir", "ftruncate", "unlink")


def say(text: str) -> None:
    SAY(1, f"{text}\n".encode())


SAY = os.write


def die_at(stop: int) -> None:
    """Die before, or in the middle of, the stop-th call that changes the disk."""
    count = itertools.count(1)

    def dying(real):
        def call(*arguments, **options):
            if next(count) == stop:
                if real is SAY:
                    handle, data = arguments
                    SAY(handle, data[: len(data) // 2])
                os._exit(9)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def work(directory: str, seed: int, stop: int, model: Fake) -> None:
    chance = random.Random(seed)
    ledger = Ledger.open(directory)
    ledger.bind(model)
    if stop:
        delta = rank_one(model, seed)
        die_at(stop)
        entry = ledger.record(delta)
        say(f"+ {entry.seq} {entry.delta}")
        os._exit(0)
    while True:
        active = ledger.active()
        if active and chance.random() < 0.3:
            target = chance.choice(active)
            ledger.undo(target)
            say(f"- {target.seq} {target.delta}")
        elif len(active) > 1 and chance.random() < 0.2:
            numbers = [entry.seq for entry in active]
            ledger.order([*numbers[1:], numbers[0]])
            said = ledger.entries()[-1]
            say(f"= {said.seq} {','.join(map(str, said.order))}")
        elif (gone := undone(ledger)) and chance.random() < 0.2:
            entry = ledger.redo(chance.choice(gone))
            say(f"+ {entry.seq} {entry.delta}")
        else:
            delta = rank_one(model, chance.randrange(10**9))
            entry = ledger.record(delta, note="x" * chance.randrange(5000))
            say(f"+ {entry.seq} {entry.delta}")


def undone(ledger: Ledger) -> list[int]:
    """Entries whose deltas are not active now."""
    live = {entry.delta for entry in ledger.active()}
    return [e.seq for e in ledger.entries() if e.kind == "apply" and e.delta not in live]


def main() -> None:
    torch.set_num_threads(1)
    model = toy()
    rank_one(model, 0)  # import all that is imported late, before there are children
    say("ready")
    for line in sys.stdin:
        directory, seed, stop = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                work(directory, int(seed), int(stop), model)
            finally:
                os._exit(1)
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"done {status}")


if __name__ == "__main__":
    main()
