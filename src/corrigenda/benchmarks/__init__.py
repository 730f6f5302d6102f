"""Data sets of edits as cases. One file per format; nothing is downloaded or copied into here.

    load_cases("counterfact", limit=100)       found in a data directory
    load_cases("my-edits.jsonl")               any file in a known format
    load_cases("atlas", limit=100)             the embedded world, always at hand

Names are taken with - and _ alike: "atlas-ripple" is "atlas_ripple".

A data directory is the argument `data_dir`, the one that CORRIGENDA_DATA names, `./data`, or
`data` in the cache. Files are .json or .jsonl, plain or .gz, in the directory itself, in a folder
named like the data set, or in `benchmarks/` and that folder.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..edit import Case
from ..errors import DataError, OfflineError, UnknownNameError
from .atlas import MADE

if TYPE_CHECKING:
    from ._records import Record

__all__ = ["BENCHMARKS", "MADE", "Benchmark", "DataWarning", "find", "load_cases"]

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


class DataWarning(UserWarning):
    """Records of a benchmark that are no edits (an empty target, say) were left out."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set: where its official files are, under which licence, and who made it.

    source   where to get the official file.
    files    names, without suffix, under which it is looked for.
    module   the file here that turns records into cases.
    options  what tells variants over the same files apart ("target_source").
    """

    name: str
    title: str
    licence: str
    citation: str
    source: str
    files: tuple[str, ...] = ()
    module: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_case(self) -> Callable[[Record], Case]:
        return partial(_module(self.module).to_case, **self.options)


_ZSRE = "https://rome.baulab.info/data/dsets/zsre_mend_eval.json"
_ZSRE_CITATION = "Levy et al. 2017 (1706.04115); Mitchell et al. 2022 (2110.11309)"

BENCHMARKS: Mapping[str, Benchmark] = {
    one.name: one
    for one in (
        Benchmark(
            "atlas",
            "edits of the embedded world, with all their consequences",
            "as this package; facts as the Atlas card says",
            "this package",
            "part of the package",
        ),
        Benchmark(
            "atlas_long",
            "edits of the embedded world towards objects of several words",
            "as this package; facts as the Atlas card says",
            "this package",
            "part of the package",
        ),
        Benchmark(
            "census",
            "edits of a larger world of invented people, for sequences of ten thousand",
            "as this package",
            "this package",
            "part of the package",
        ),
        Benchmark(
            "atlas_ripple",
            "the same edits with every fact that must follow, by kind and hops, or must stay",
            "as this package; facts as the Atlas card says",
            "this package; in the manner of Cohen et al. 2024 (2307.12976)",
            "part of the package",
        ),
        Benchmark(
            "atlas_lingual",
            "edits in one of four languages, asked in all of them; for the model atlas-lingual",
            "as this package; facts as the Atlas card says, names partly from Wikidata (CC0)",
            "this package; names after Fierro and Sogaard 2022 (2203.11552)",
            "part of the package",
        ),
        Benchmark(
            "counterfact",
            "counterfactual edits with paraphrases and neighbourhoods",
            "MIT",
            "Meng et al. 2022 (2202.05262)",
            "https://rome.baulab.info/data/dsets/counterfact.json",
            ("counterfact",),
            "counterfact",
        ),
        Benchmark(
            "zsre",
            "question edits towards a false answer (alt)",
            "MIT (MEND's selection)",
            _ZSRE_CITATION,
            _ZSRE,
            ("zsre", "zsre_mend_eval"),
            "zsre",
            {"target_source": "alt"},
        ),
        Benchmark(
            "zsre_answers",
            "the same questions towards the true answer (answers)",
            "MIT (MEND's selection)",
            _ZSRE_CITATION,
            _ZSRE,
            ("zsre", "zsre_mend_eval"),
            "zsre",
            {"target_source": "answers"},
        ),
        Benchmark(
            "knowedit_zsre",
            "question edits with portability and same-subject locality",
            "MIT",
            "Yao et al. 2023 (2305.13172); Zhang et al. 2024 (2401.01286)",
            "benchmark/ZsRE/ZsRE-test-all.json of the data set zjunlp/KnowEdit on the "
            "Hugging Face hub",
            ("knowedit_zsre", "ZsRE-test-all"),
            "knowedit_zsre",
        ),
        Benchmark(
            "qaedit",
            "edits from question-answering sets, for evaluation in the wild",
            "Apache-2.0",
            "Yang et al. 2025 (2502.11177)",
            "data/QAEdit.json of https://github.com/WanliYoung/Revisit-Editing-Evaluation",
            ("qaedit", "QAEdit", "QAEdit_inter_1k"),
            "qaedit",
        ),
    )
}
"""Data sets by name. Nothing is imported until one is loaded."""


# Tried in this order on the first record of a file; the last one is for your own edits.
_FORMATS = ("counterfact", "zsre", "knowedit_zsre", "qaedit", "jsonl")


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
    if (spelled := name.replace("-", "_")) in BENCHMARKS:
        name = spelled
    if name in MADE:
        return MADE[name](limit, seed)
    if name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        path, to_case = _found(benchmark, data_dir), benchmark.to_case()
        return _read(path, to_case, limit, seed, strict=False)
    path = Path(name)
    if not path.exists() and path.suffix not in (".json", ".jsonl", ".gz") and path.name == name:
        raise UnknownNameError("data set", name, BENCHMARKS)
    form = _format(path)
    return _read(path, _module(form).to_case, limit, seed, strict=form == "jsonl")


def _read(
    path: Path, to_case: Callable[[Record], Case], limit: int | None, seed: int, *, strict: bool
) -> list[Case]:
    from ._records import UnusableError, read

    unusable: list[UnusableError] = []

    def usable() -> Iterator[Case]:
        for record in read(path):
            try:
                yield to_case(record)
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
        raise DataError(f"{path} holds no edit.")
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
        f"{json.dumps(sorted(first.row))[:120]}. Known are CounterFact, zsRE (MEND), KnowEdit and "
        "QAEdit records, and your own edits with prompt, subject and target."
    )


def find(benchmark: Benchmark, data_dir: Path | str | None = None) -> Path | None:
    """Where the official file of a data set is on this machine; None if it is not."""
    folders = dict.fromkeys((benchmark.name, benchmark.module))  # variants share a folder
    for place in _directories(data_dir):
        for parent in (place, place / "benchmarks"):
            for folder in (parent, *(parent / name for name in folders)):
                for stem in benchmark.files:
                    for suffix in SUFFIXES:
                        if (path := folder / f"{stem}{suffix}").is_file():
                            return path
    return None


def _found(benchmark: Benchmark, data_dir: Path | str | None) -> Path:
    if (path := find(benchmark, data_dir)) is not None:
        return path
    places = ", ".join(str(place) for place in _directories(data_dir))
    raise OfflineError(
        f"The data set {benchmark.name} is not on this machine. Looked for "
        f"{' or '.join(benchmark.files)} ({', '.join(SUFFIXES)}) in {places}. Get it from "
        f"{benchmark.source} and put it into one of these folders, or name its folder in "
        "CORRIGENDA_DATA."
    )


def _directories(data_dir: Path | str | None) -> list[Path]:
    """Where data sets may be, the most particular place first."""
    from ..cache import cache_dir

    named = [data_dir, os.environ.get("CORRIGENDA_DATA")]
    return [Path(place) for place in named if place] + [Path("data"), cache_dir() / "data"]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __name__)
