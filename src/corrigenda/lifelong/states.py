"""The deltas of a run on disk: enough to go on after a crash, and no more.

    whole-000100   all edits of the first hundred steps, as one delta
    step-000101    what each step since then has added
    step-000102

The sum is taken in the same order as in memory, so it is bit for bit the same. When a new whole is
written, what it holds already goes. Every directory is a delta as `Delta.save` writes it: complete
or not there, with checksums.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..delta import Delta

__all__ = ["States"]


class States:
    """The states of one run in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep_step(self, number: int, delta: Delta) -> None:
        """Keep what a step has added, in place of what was there for it."""
        delta.save(self._path("step", number), overwrite=True, adapter=False)

    def keep_whole(self, number: int, whole: Delta) -> None:
        """Keep the sum after a step; older states are then not needed any more."""
        whole.save(self._path("whole", number), overwrite=True, adapter=False)
        for kind, other in self._found():
            if other < number or (kind == "step" and other == number):
                shutil.rmtree(self._path(kind, other))

    def restored(self, number: int, steps: Iterable[int]) -> Delta | None:
        """The sum after a step, given all steps up to it that added something, in order; None if
        none did.

        Raises `DeltaError` when a state is missing, and `TamperedError` when one is damaged.
        """
        wholes = [n for kind, n in self._found() if kind == "whole" and n <= number]
        base = max(wholes, default=0)
        whole = Delta.load(self._path("whole", base)) if wholes else None
        for one in (n for n in steps if base < n <= number):
            whole = self.step(one) if whole is None else whole + self.step(one)
        return whole

    def step(self, number: int) -> Delta:
        """What one step has added."""
        return Delta.load(self._path("step", number))

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, kind: str, number: int) -> Path:
        return self.directory / f"{kind}-{number:06d}"

    def _found(self) -> list[tuple[str, int]]:
        """What is there, by kind and step."""
        names = [path.name for path in self.directory.glob("*")] if self.directory.is_dir() else []
        found = [re.fullmatch(r"(whole|step)-(\d+)", name) for name in names]
        return [(m[1], int(m[2])) for m in found if m]
