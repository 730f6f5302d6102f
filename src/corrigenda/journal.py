"""An append-only log on disk that loses nothing it has acknowledged.

    ledger.jsonl   one JSON record per line; each carries the checksum of the one before it and
                   its own, so that damage anywhere is seen
    HEAD           number and checksum of the last acknowledged record; 0 at the start

A record is written with one `write` to a file opened for appending and waited for (fsync); then
HEAD names it; only then does `append` return. So a crash leaves at most one record beyond HEAD,
whole or torn. A torn one was never acknowledged and is cut off at the next opening; anything
else that does not check out is damage, and named by its line.

Writers take turns through a lock on `.lock`, which the system drops when a process dies.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .disk import PART, sync_directory, write_atomic
from .errors import LedgerError, TamperedError

__all__ = ["Entry", "Journal"]

LOG, HEAD, LOCK = "ledger.jsonl", "HEAD", ".lock"
VERSION, ORDERED = (
    1,
    2,
)  # a record of an order is one that readers of version 1 would not understand
NOTHING = "0" * 64  # stands for the checksum of the record before the first


class Entry(BaseModel):
    """One record of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2] = VERSION
    seq: int = Field(description="1, 2, 3, ...: the line number")
    time: str = Field(description="UTC, ISO 8601")
    kind: Literal["base", "apply", "undo", "order"]
    delta: str = Field(default="", description="id of the delta that is applied or undone")
    target: int = Field(default=0, description="of an undo: seq of the entry that it undoes")
    order: tuple[int, ...] = Field(
        default=(), description="of an order: seqs of all active entries, as they apply from now on"
    )
    who: str = ""
    note: str = ""
    summary: str = Field(default="", description="what the edit says, for reading")
    model: str = Field(default="", description="of a base record: id of the model")
    tensors: dict[str, str] = Field(default={}, description="of a base record: {tensor: sha256}")
    after: dict[str, str] = Field(
        default={},
        description="{parameter: sha256} of what the entry touches, once it has taken effect",
    )
    prev: str = Field(description="checksum of the record before")
    check: str = Field(default="", description="sha256 of this record without this field")


class Journal:
    """The log in one directory. Reads need no lock; `append` and `recover` need `locked()`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: list[Entry] = []
        self._read_to = 0  # bytes of the log that `entries` covers

    @property
    def exists(self) -> bool:
        return (self.directory / HEAD).exists() or (self.directory / LOG).exists()

    def create(self) -> None:
        """Start an empty log. The directory must exist, and the lock must be held."""
        if not self.exists:
            write_atomic(self.directory / HEAD, f"0 {NOTHING}\n".encode())

    @contextmanager
    def locked(self, wait: float = 5.0) -> Iterator[None]:
        """Hold the writers' lock. Raises `LedgerError` if it is not free within `wait` seconds."""
        try:
            import fcntl
        except ImportError:
            raise LedgerError(
                "A ledger on disk needs POSIX file locks, which this system does not have. Keep "
                "deltas with `delta.save`, or use the ledger under Linux, macOS or WSL."
            ) from None
        handle = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            until = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise LedgerError(
                            f"{self.directory} is being written by another process, which did "
                            f"not finish within {wait:g} s. Try again; if no process uses the "
                            "ledger, look for one that hangs (`fuser` on its .lock file)."
                        ) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(handle)  # drops the lock

    def refresh(self) -> list[Entry]:
        """Read what was appended since; a record that is just being written is left for later."""
        self._read(repair=False)
        return self.entries

    def recover(self) -> list[Entry]:
        """Read everything and cut off a torn record. The lock must be held.

        Raises `TamperedError` naming the line for any other damage.
        """
        for leftover in self.directory.glob(f".*{PART}"):
            leftover.unlink(missing_ok=True)
        self._read(repair=True)
        return self.entries

    def append(self, kind: str, **fields: Any) -> Entry:
        """Add a record and wait until it is on the disk. The lock must be held.

        Raises `LedgerError` when it cannot be written; then nothing was added.
        """
        self._read(repair=True)
        entry = Entry(
            seq=len(self.entries) + 1,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            kind=kind,  # type: ignore[arg-type]
            version=ORDERED if kind == "order" else VERSION,
            prev=self.entries[-1].check if self.entries else NOTHING,
            **fields,
        )
        content = entry.model_dump(mode="json", exclude_defaults=True, exclude={"check"})
        content["version"] = entry.version
        content["check"] = _check(content)
        line = _line(content)
        path = self.directory / LOG
        fresh = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(handle, line) != len(line):
                raise OSError("the disk took only part of the record")
            os.fsync(handle)
            if fresh:
                sync_directory(self.directory)
            entry = entry.model_copy(update={"check": content["check"]})
            self._acknowledge(entry)
        except OSError as error:
            os.ftruncate(handle, self._read_to)
            raise LedgerError(
                f"{path} cannot be extended ({error}); the record was not added. Free some space "
                "and repeat."
            ) from error
        finally:
            os.close(handle)
        self.entries.append(entry)
        self._read_to += len(line)
        return entry

    def _read(self, repair: bool) -> None:
        # HEAD first: what it names is in the log by then.
        head = self._acknowledged()
        path = self.directory / LOG
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._read_to:
                    raise TamperedError(f"{path} became shorter while it was in use.")
                file.seek(self._read_to)
                data = file.read()
        except FileNotFoundError:
            data = b""
        entries, at = list(self.entries), 0
        while at < len(data):
            end = data.find(b"\n", at)
            line = data[at : end + 1] if end >= 0 else data[at:]
            number = len(entries) + 1
            entry = _parsed(line, number, entries[-1].check if entries else NOTHING)
            if isinstance(entry, str):
                last = at + len(line) == len(data)
                # Without HEAD, only a line that has no end is surely torn.
                torn = last and (number > head[0] if head else end < 0)
                if not torn:
                    raise TamperedError(
                        f"{path}, line {number}: {entry}. It was changed after it was written. "
                        "Restore the file from a copy; the deltas are in deltas/."
                    )
                if repair:
                    with path.open("r+b") as file:
                        file.truncate(self._read_to + at)
                        os.fsync(file.fileno())
                break
            entries.append(entry)
            at += len(line)
        if head and len(entries) < head[0]:
            raise TamperedError(
                f"{path} ends at record {len(entries)}, but record {head[0]} was acknowledged "
                f"({HEAD}). Records are missing from its end; restore the file from a copy."
            )
        if head and head[0] and entries[head[0] - 1].check != head[1]:
            raise TamperedError(
                f"{path}, line {head[0]}: it is not the record that {HEAD} names. The two files "
                "are not from the same ledger; restore both from a copy."
            )
        self.entries = entries
        self._read_to += at
        if repair and entries and (head is None or len(entries) > head[0]):
            self._acknowledge(entries[-1])

    def _acknowledge(self, entry: Entry) -> None:
        write_atomic(self.directory / HEAD, f"{entry.seq} {entry.check}\n".encode())

    def _acknowledged(self) -> tuple[int, str] | None:
        """Number and checksum of the last acknowledged record; None where HEAD is missing."""
        path = self.directory / HEAD
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            seq, check = text.decode("ascii").split()
            if f"{int(seq)} {check}\n".encode() != text or int(seq) < 0 or len(check) != 64:
                raise ValueError
            if int(seq) == 0 and check != NOTHING:
                raise ValueError
        except ValueError:
            raise TamperedError(
                f"{path} is damaged. If {LOG} beside it is known to be whole, delete {path}; it "
                "is written again."
            ) from None
        return int(seq), check


def _parsed(line: bytes, number: int, prev: str) -> Entry | str:
    """The record in a line, or what is wrong with it."""
    try:
        content = json.loads(line.decode("utf-8"))
        stated = content.pop("check")
        if _check(content) != stated or _line({**content, "check": stated}) != line:
            return "its checksum does not match"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "it is not a record"
    if content.get("version") not in (VERSION, ORDERED):
        raise LedgerError(
            f"Record {number} of the ledger has version {content.get('version')!r}; this "
            f"corrigenda reads versions {VERSION} and {ORDERED}. Upgrade corrigenda."
        )
    if content.get("seq") != number or content.get("prev") != prev:
        return "it does not follow the record before it"
    try:
        return Entry(**content, check=stated)
    except (ValidationError, TypeError):
        return "it lacks what a record has"


def _check(content: dict[str, Any]) -> str:
    return hashlib.sha256(_line(content)).hexdigest()


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
