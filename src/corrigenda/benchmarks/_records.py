"""Reading records: JSON lines or a JSON array, plain or gzip, with the place of each record."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..edit import Case, Probe, Rewrite
from ..errors import DataError, EditError

__all__ = ["Record", "UnusableError", "case", "flat", "read"]

T = TypeVar("T")


class UnusableError(DataError):
    """A well-formed record that is no edit: an empty target, a prompt without its subject."""


class Record:
    """One JSON object and where it stands. Every complaint names that place."""

    def __init__(self, row: Any, place: str) -> None:
        self.place = place
        if not isinstance(row, dict):
            raise self.wrong(f"a record is a JSON object, not {type(row).__name__}")
        self.row: dict[str, Any] = row

    def wrong(self, what: str) -> DataError:
        return DataError(f"{self.place}: {what}.")

    def get(self, path: str, kind: type[T], default: T | None = None) -> T:
        """The value at "a" or "a.b", of the given type. Raises `DataError` if it is not there."""
        value: Any = self.row
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None and default is not None:
            return default
        if value is None:
            raise self.wrong(f"the field {path} is missing; it should be {_NAMES[kind]}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(
                f"the field {path} should be {_NAMES[kind]}, not {json.dumps(value)[:60]}"
            )
        return value

    def texts(self, path: str) -> list[str]:
        """A list of texts, empty if the field is absent."""
        values = self.get(path, list, [])
        for value in values:
            if not isinstance(value, str):
                raise self.wrong(
                    f"the field {path} should hold texts, not {json.dumps(value)[:60]}"
                )
        return values

    def rewrite(self, prompt: str, subject: str, target: str, **more: Any) -> Rewrite:
        """Raises `UnusableError` naming the record if these make no edit."""
        try:
            return Rewrite(prompt, subject, target, **more)
        except EditError as error:
            raise UnusableError(f"{self.place}: {error}") from None

    def probe(
        self, prompt: Any, answers: Sequence[str], axis: Any, kind: str, **more: Any
    ) -> Probe:
        """Raises `DataError` naming the record if these make no probe."""
        if not isinstance(prompt, str):
            raise self.wrong(f"a prompt should be text, not {json.dumps(prompt)[:60]}")
        try:
            return Probe(prompt, tuple(answers), axis, kind, **more)
        except EditError as error:
            raise self.wrong(str(error).rstrip(".")) from None

    def rewrite_probe(self, edit: Rewrite) -> Probe:
        """The edit's own prompt as a probe."""
        return self.probe(edit.text, (edit.target,), "efficacy", "rewrite", foil=edit.target_true)


_NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}


def read(path: Path) -> Iterator[Record]:
    """The records of a file, one at a time where it is JSON lines.

    Raises `DataError` naming the file and line (or record) that cannot be read.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            start = ""
            for number, line in enumerate(file, start=1):
                if not start:
                    start = line.lstrip()[:1]
                    if start == "[" or line.strip() == "{":
                        yield from _array(path, line + file.read())
                        return
                if line.strip():
                    place = f"{path}, line {number}"
                    yield Record(_parsed(line, place), place)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a .json or .jsonl file in it.") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is damaged or not gzip: {error}. Fetch it again.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}.") from None


def flat(value: Any) -> list[str]:
    """Texts out of nested lists, as some official files have them."""
    if isinstance(value, list):
        return [text for part in value for text in flat(part)]
    return [] if value is None else [str(value)]


def case(
    record: Record, edit: Rewrite, probes: Iterable[Probe], id: Any, source: str, **meta: Any
) -> Case:
    """A case judged by the edit's own prompt and these probes."""
    own = record.rewrite_probe(edit)
    return Case(edit, tuple(dict.fromkeys((own, *probes))), str(id), source, meta)


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error.msg}): {text.strip()[:80]!r}") from None


def _array(path: Path, text: str) -> Iterator[Record]:
    """A file that is one JSON array. A single object over several lines counts as one record."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from None
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        yield Record(row, f"{path}, record {number}")
