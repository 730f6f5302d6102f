"""One server per data directory: two would take each other's jobs for interrupted ones.

The lock belongs to the process, so it is gone when that is, however it ended.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

__all__ = ["Claim"]


class Claim:
    """Holds a directory for this server. Raises `InputError` if another one has it."""

    def __init__(self, directory: Path) -> None:
        import fcntl  # POSIX, as the ledger

        self._file = (directory / ".lock").open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InputError(
                f"Another server works in {directory}. Ask that one, end it, or give another "
                "--data-dir."
            ) from None

    def release(self) -> None:
        self._file.close()
