"""Writing so that a crash at any instant leaves the old content or the new, never half of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_directory", "sync_directory", "write_atomic", "write_synced"]

PART = ".part"  # ends the names of files and directories that are being written


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the bytes are on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Create or replace a file in one step. The directory must exist."""
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        write_synced(part, data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A fresh sibling to fill; it becomes `path` when the block ends well, and vanishes if not.

    What is at `path` by then is replaced: the caller decides beforehand whether it may be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f".{path.name}.{os.getpid()}"
    part, old = path.with_name(f"{stem}{PART}"), path.with_name(f"{stem}.old{PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        sync_directory(part)
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(part, path)
        except BaseException:
            if old.exists():
                os.rename(old, path)
            raise
        sync_directory(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk (where the system can)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
