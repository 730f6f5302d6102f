"""Results on disk as they come: JSON lines, each durable before the next is begun.

A line is `{"key": ..., "kind": ..., "value": ...}`, where the key is a hash of everything that the
value depends on. A run that was interrupted at any instant finds every acknowledged line again; a
line that was being written is cut off. One file may hold several runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import DataError

__all__ = ["Results", "content_key", "read_results"]

_HEAD = b'{"key": "'


def content_key(*parts: Any) -> str:
    """sha256 over the canonical JSON of the parts, 64 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_results(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file, oldest first.

    Raises `DataError` if there is no such file, or it is one of another kind.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}. Give the file that the run was resumed from.")
    return _parse(path)[0]


class Results:
    """Values by key, in a file or, without a path, only in memory.

    Raises `DataError` for a file of another kind, which is left as it is.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._values: dict[str, Any] = {}
        self._file = None
        if path is None:
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = 0
        if path.exists():
            lines, kept = _parse(path)
            self._values = {line["key"]: line["value"] for line in lines}
        self._file = open(path, "ab")  # noqa: SIM115  closed by close()
        self._file.truncate(kept)

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def put(self, key: str, kind: str, value: Any) -> None:
        """Store a value. It is on the disk afterwards, and read back as JSON gives it."""
        line = json.dumps(
            {"key": key, "kind": kind, "value": value}, ensure_ascii=False, allow_nan=False
        )
        if self._file is not None:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._values[key] = json.loads(line)["value"]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _parse(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Complete lines, and the number of bytes that they take."""
    *pieces, torn = path.read_bytes().split(b"\n")
    lines: list[dict[str, Any]] = []
    end = 0
    for number, piece in enumerate(pieces, start=1):
        try:
            line = json.loads(piece)
            if not {"key", "kind", "value"} <= line.keys():
                raise ValueError
        except (ValueError, AttributeError):
            raise _foreign(path, number) from None
        lines.append(line)
        end += len(piece) + 1
    # What an interruption left of a line is cut off; anything else is somebody's file.
    if not (torn.startswith(_HEAD) or _HEAD.startswith(torn)):
        raise _foreign(path, len(lines) + 1)
    return lines, end


def _foreign(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}, line {number}: not a line of evaluation results. "
        "Give a new file to write to, or the one of the interrupted run."
    )
