"""Data sets of edits as cases. One file per format; nothing is downloaded or copied into here.

    load_cases("counterfact", limit=100)       found in a data directory
    load_cases("my-edits.jsonl")               any file in a known format
    load_cases("atlas", limit=100)             the embedded world, always at hand

Names are taken with - and _ alike: "atlas-ripple" is "atlas_ripple". The table of data sets is
registry.py. A data directory is the argument `data_dir`, the one that
CORRIGENDA_DATA names, `./data`, or `data` in the cache. Files are .json, .jsonl, .csv or .parquet,
plain or .gz, in the directory itself, in a folder named like the data set or its format, or in
`benchmarks/` and such a folder.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..edit import Case
from ..errors import DataError, OfflineError, UnknownNameError
from ._files import SUFFIXES
from .atlas import MADE
from .registry import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "MADE", "Benchmark", "DataWarning", "canonical", "find", "load_cases"]


class DataWarning(UserWarning):
    """Records of a benchmark that are no edits (an empty target, say) were left out."""


# Tried in this order on the first record of a file; the last one is for your own edits.
_FORMATS = (
    "mquake",
    "akew",
    "leme",
    "portability",
    "ripple_edits",
    "conflictedit",
    "roundedit",
    "bizsre",
    "counterfact",
    "wikibigedit",
    "zsre",
    "knowedit",
    "wikibio",
    "qaedit",
    "unke",
    "entity_inferences",
    "ecbd",
    "safeedit",
    "safeedit_questions",
    "personality_edit",
    "convsent",
    "sanitation",
    "lre",
    "known_1000",
    "leme_annotations",
    "truth_statements",
    "jsonl",
)


def canonical(name: str) -> str:
    """A data set's name with its underscores; any other text as it is."""
    spelled = name.replace("-", "_")
    return spelled if spelled in BENCHMARKS else name


def load_cases(
    name_or_path: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    data_dir: Path | str | None = None,
) -> list[Case]:
    """Cases of a named data set, or of a file in any of the known formats.

    limit     at most so many cases.
    seed      0 keeps the file's order, as published protocols do; another seed shuffles the file
              before it is cut. Atlas draws its edits by the seed.
    data_dir  where named sets are looked for first.

    Raises `UnknownNameError` for a name that is none, `OfflineError` if the data set is not on
    this machine (the message says where to get it), and `DataError` naming the line or record that
    cannot be read. Well-formed records of a benchmark that are no edits (an empty target, a prompt
    without its subject) are left out with a `DataWarning`; in a file of your own they are errors.
    """
    if limit is not None and limit < 1:
        raise DataError(f"A limit is at least 1 case, not {limit}.")
    name = str(name_or_path)
    name = canonical(name)
    if name in MADE:
        return MADE[name](limit, seed)
    if name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        paths = _found(benchmark, data_dir)
        return _read(paths, benchmark.loader(), benchmark.options, limit, seed, strict=False)
    path = Path(name)
    if not path.exists() and not name.endswith(SUFFIXES) and path.name == name:
        raise UnknownNameError("data set", name, BENCHMARKS)
    form = _format(path)
    return _read([path], _module(form), {}, limit, seed, strict=form == "jsonl")


def _read(
    paths: Sequence[Path],
    module: ModuleType,
    options: Mapping[str, Any],
    limit: int | None,
    seed: int,
    *,
    strict: bool,
) -> list[Case]:
    from ._records import UnusableError, read

    unusable: list[UnusableError] = []

    def usable() -> Iterator[Case]:
        records = (record for path in paths for record in read(path))
        if hasattr(module, "gather"):  # a case out of many records
            yield from module.gather(records, **options)
            return
        split = getattr(module, "parts", lambda record: (record,))  # many cases out of a record
        for record in (part for whole in records for part in split(whole)):
            try:
                yield module.to_case(record, **options)
            except UnusableError as error:
                if strict:
                    raise
                unusable.append(error)

    found: list[Case] = []
    for case in usable():
        found.append(case)
        if limit is not None and not seed and len(found) == limit:
            break
    if unusable:
        warnings.warn(
            f"{len(unusable)} records were left out because they are no edits, the first: "
            f"{unusable[0]}",
            DataWarning,
            stacklevel=3,
        )
    if not found:
        raise DataError(f"{' and '.join(map(str, paths))} holds no edit.")
    if seed:
        random.Random(seed).shuffle(found)
    return found[:limit]


def _format(path: Path) -> str:
    """The format of a file, by the fields of its first record."""
    from ._records import read

    first = next(read(path), None)
    if first is None:
        raise DataError(f"{path} is empty. Give one JSON object per edit.")
    for name in _FORMATS:
        if _module(name).matches(first.row):
            return name
    raise DataError(
        f"{first.place}: these fields belong to no known format: "
        f"{json.dumps(sorted(first.row))[:120]}. Known are the formats of the data sets that "
        "`corrigenda data` lists, and your own edits with prompt, subject and target."
    )


def find(benchmark: Benchmark, data_dir: Path | str | None = None) -> list[Path]:
    """Where the official files of a data set are on this machine; none if they are not."""
    folders = dict.fromkeys((benchmark.name, benchmark.module))  # variants share a folder
    for place in _directories(data_dir):
        for parent in (place, place / "benchmarks"):
            for folder in (parent, *(parent / name for name in folders if name)):
                for stem in benchmark.files:
                    if paths := _matching(folder, stem):
                        return paths
    return []


def _matching(folder: Path, stem: str) -> list[Path]:
    """The file of that name with one of the suffixes; the files, if the name has a star."""
    for suffix in SUFFIXES:
        name = f"{stem}{suffix}"
        found = sorted(folder.glob(name)) if "*" in stem else [folder / name]
        if paths := [path for path in found if path.is_file()]:
            return paths
    return []


def _found(benchmark: Benchmark, data_dir: Path | str | None) -> list[Path]:
    if paths := find(benchmark, data_dir):
        return paths
    places = ", ".join(str(place) for place in _directories(data_dir))
    raise OfflineError(
        f"The data set {benchmark.name} is not on this machine, and nothing is downloaded unasked. "
        f"Looked for {' or '.join(benchmark.files)} ({', '.join(SUFFIXES)}) in {places}. Get it "
        f"from {benchmark.source} and put it into one of these folders, or name its folder in "
        "CORRIGENDA_DATA."
    )


def _directories(data_dir: Path | str | None) -> list[Path]:
    """Where data sets may be, the most particular place first."""
    from ..cache import cache_dir

    named = [data_dir, os.environ.get("CORRIGENDA_DATA")]
    return [Path(place) for place in named if place] + [Path("data"), cache_dir() / "data"]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __name__)
