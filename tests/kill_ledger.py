"""Child processes for the SIGKILL test: each records and undoes edits until it is killed.

Started once, since importing torch takes seconds. For every line on standard input (the directory
of a ledger and a seed) it forks a child that writes to that ledger. The child says on standard
output what was acknowledged: "+ seq id" for a record, "- seq id" for the undo of entry seq; the
parent says "pid N" before, and "done" after its death.
"""

from __future__ import annotations

import os
import random
import sys

import torch

from corrigenda.delta import Delta
from corrigenda.ledger import Ledger
from tests.deltas import Fake, rank_one, toy


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def work(directory: str, seed: int, model: Fake) -> None:
    chance = random.Random(seed)
    ledger = Ledger.open(directory)
    ledger.bind(model)
    while True:
        active = ledger.active()
        if active and chance.random() < 0.3:
            target = chance.choice(active)
            ledger.undo(target)
            say(f"- {target.seq} {target.delta}")
        else:
            delta: Delta = rank_one(model, chance.randrange(10**9))
            entry = ledger.record(delta, note="x" * chance.randrange(5000))
            say(f"+ {entry.seq} {entry.delta}")


def main() -> None:
    torch.set_num_threads(1)
    model = toy()
    say("ready")
    for line in sys.stdin:
        directory, seed = line.split()
        pid = os.fork()
        if pid == 0:
            work(directory, int(seed), model)
        say(f"pid {pid}")
        os.waitpid(pid, 0)
        say("done")


if __name__ == "__main__":
    main()
