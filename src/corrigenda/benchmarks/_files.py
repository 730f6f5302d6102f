"""Reading files row by row, each with the place where it stands.

    .jsonl            one JSON object per line
    .json             one array of objects, one object, or lines as above
    .csv              a head line and rows
    .parquet          rows; needs the extra "parquet"

The first three may be packed with gzip (.gz). Lines and arrays of any size take the memory of one
record.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import DataError, InputError

__all__ = ["SUFFIXES", "rows"]

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".json.gz", ".jsonl.gz", ".csv.gz")
"""What names of data files end in."""

CHUNK = 1 << 16  # characters read at a time from an array
Row = tuple[Any, str]


def rows(path: Path) -> Iterator[Row]:
    """(row, place) of every row of a file; the place is "FILE, line 7" or "FILE, record 7".

    Raises `DataError` naming the file and line (or record) that cannot be read.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    table = path.name.removesuffix(".gz").endswith(".csv")
    try:
        with opened(path, "rt", encoding="utf-8", newline="" if table else None) as file:
            yield from _table(path, file) if table else _json(path, file)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a .json or .jsonl file in it.") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is damaged or not gzip: {error}. Fetch it again.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}.") from None


def _json(path: Path, file: TextIO) -> Iterator[Row]:
    """Lines, an array, or one object over several lines; the first character tells."""
    start = ""
    for number, line in enumerate(file, start=1):
        if not start:
            start = line.lstrip()[:1]
            if start == "[":
                yield from _array(path, file, line.lstrip()[1:], number)
                return
            if line.strip() == "{":
                yield _parsed(line + file.read(), f"{path}, line", number), f"{path}, record 1"
                return
        if line.strip():
            yield _parsed(line.rstrip(), f"{path}, line", number), f"{path}, line {number}"


def _array(path: Path, file: TextIO, text: str, line: int) -> Iterator[Row]:
    """The elements of an array, after its "["; `line` is where `text` begins."""
    decoder, size, number, at, ended = json.JSONDecoder(), CHUNK, 0, 0, False
    while True:
        between = _BETWEEN if number else _SPACE
        begin = between.match(text, at).end()  # type: ignore[union-attr]
        line, at = line + text.count("\n", at, begin), begin
        if text.startswith("]", at):
            return
        try:
            row, end = decoder.raw_decode(text, at)
            if end == len(text) and not ended:  # a number may go on in the next piece
                raise json.JSONDecodeError("incomplete", text, end)
        except json.JSONDecodeError as error:
            if ended:
                what = "the array does not end" if at == len(text) else error.msg
                wrong = line + text.count("\n", at, error.pos)
                raise DataError(f"{path}, line {wrong}: not JSON ({what}).") from None
            more = file.read(size)
            text, at, size, ended = text[at:] + more, 0, 2 * size, not more
            continue
        number, size = number + 1, CHUNK
        yield row, f"{path}, record {number}"
        line, at = line + text.count("\n", at, end), end


_SPACE, _BETWEEN = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n,]*")


def _parsed(text: str, place: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{place} {line + error.lineno - 1}"
        raise DataError(f"{at}: not JSON ({error.msg}): {text.strip()[:80]!r}") from None


def _table(path: Path, file: TextIO) -> Iterator[Row]:
    """Rows under the names of the head line; all values are text."""
    reader = csv.DictReader(file)
    try:
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{place}: {len(reader.fieldnames or ())} columns are named in the first line, "
                    "and this row has another number of them."
                )
            yield row, place
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}).") from None


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{path} is a Parquet file, and reading those needs pyarrow: "
            'pip install "corrigenda[parquet]". Or convert it to JSON lines.'
        ) from None
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"{path}, record {number}"
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is damaged or not Parquet: {error}. Fetch it again.") from None
