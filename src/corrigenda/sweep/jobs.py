"""One job of a sweep: an editor on a model and a data set, what it depends on, and doing it.

The key is a sha256 over all that the result depends on: the editor with every hyperparameter, the
content of the model's and the data's files, seed, size, mode, and the versions of the libraries
that compute. Where a file lies is no part of it. Not part of it either, since a plan must be cheap
and possible without them: the weights of a hub model (its name and revision stand for them) and
the processor, whose number of threads may change the last bits of a float.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmarks import BENCHMARKS, find, load_cases
from ..editor import plain, versions
from ..editors import editor_class
from ..editors._settings import configured
from ..errors import InputError
from ..results import content_key

if TYPE_CHECKING:
    from ..edit import Case
    from ..editor import Editor
    from ..models import TextModel
    from ..report import Report

__all__ = ["Job", "Models", "Progress", "perform"]

Progress = Callable[[str, int, int], None]
"""(stage, done, total), as `evaluate` calls it."""


@dataclass(frozen=True)
class Job:
    """One evaluation. `label` is what tables call the method; the other fields are the grid's."""

    editor: str
    model: str
    data: str
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    dtype: str | None = None
    mode: str = "single"
    size: int | None = None
    seed: int = 0
    known_only: bool = False
    max_new_tokens: int = 16
    batch_size: int = 64
    step: int = 1
    checkpoints: tuple[int, ...] | None = None
    device: str | None = None
    data_dir: str | None = None
    folder: str = ""

    @property
    def title(self) -> str:
        """For people: "rome on atlas, 100 of counterfact, seed 0"."""
        count = f"{self.size} of {self.data}" if self.size else self.data
        mode = "" if self.mode == "single" else f", {self.mode}"
        return f"{self.label or self.editor} on {self.model}, {count}{mode}, seed {self.seed}"

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits. Raises what a missing model, data set or editor raises."""
        editor = self.made()
        said = self.to_dict()
        arguments = None if editor is None else editor.arguments()
        for name in ("label", "settings", "data_dir", "folder"):
            del said[name]
        return content_key(
            "job",
            said,
            arguments,
            _files_named(arguments),
            _model_content(str(self.model_path), self.revision),
            self._data_content(),
            _versions(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` reads it back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Job:
        checkpoints = row["checkpoints"]
        return cls(**{**row, "checkpoints": checkpoints and tuple(checkpoints)})

    # -- what it is made of ------------------------------------------------------------------

    def made(self) -> Editor | None:
        """The editor; None for the unedited model.

        Raises `UnknownNameError` and `InputError` for hyperparameters that it does not take.
        """
        if self.editor == "none":
            return None
        cls = editor_class(self.editor)
        seeded = {"seed": self.seed} if "seed" in cls.__dataclass_fields__ else {}
        return configured(cls, seeded | dict(self.settings))

    @property
    def model_path(self) -> str | Path:
        """A directory seen from the folder of the grid, or the name as it is."""
        inside = Path(self.folder) / Path(self.model).expanduser()
        return inside if inside.is_dir() else self.model

    @property
    def data_path(self) -> str | Path:
        """A file seen from the folder of the grid, or the name as it is."""
        if self.data in BENCHMARKS:
            return self.data
        return Path(self.folder) / Path(self.data).expanduser()

    @property
    def pool(self) -> int | None:
        """How many cases are read. With `known_only` the size counts those that are left, so more
        are taken: all of a file, twice as many of a world that makes them as asked."""
        if not self.known_only or self.size is None:
            return self.size
        made = self.data in BENCHMARKS and not BENCHMARKS[self.data].files
        return 2 * self.size if made else None

    def cases(self) -> list[Case]:
        return load_cases(self.data_path, limit=self.pool, seed=self.seed, data_dir=self.data_dir)

    def _data_content(self) -> str:
        """Hash of the files, or of the cases where there are none."""
        if self.data not in BENCHMARKS:
            return _file_content(self.data_path)
        benchmark = BENCHMARKS[self.data]
        if benchmark.files and (paths := find(benchmark, self.data_dir)):
            return content_key([_file_content(path) for path in paths])
        return _cases_content(self.data, self.pool, self.seed, self.data_dir)

    @property
    def command(self) -> str:
        """The command line that does this job alone."""
        words = ["corrigenda", "eval", self.model, "--editor", self.editor, "--data", self.data]
        words += ["--limit", str(self.size)] if self.size else []
        words += ["--mode", self.mode, "--seed", str(self.seed)]
        words += ["--known-only"] if self.known_only else []
        for name, value in self.settings.items():
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        if self.mode == "sequential":
            words += ["--step", str(self.step)]
            if self.checkpoints:
                words += ["--checkpoints", ",".join(map(str, self.checkpoints))]
        for name, value, usual in (
            ("max-new-tokens", self.max_new_tokens, 16),
            ("batch-size", self.batch_size, 64),
            ("dtype", self.dtype, None),
            ("device", self.device, None),
        ):
            words += [f"--{name}", str(value)] if value != usual else []
        return shlex.join(words)


class Models:
    """Loads models by name. Keeps the last one and what it knows: the next job probably wants
    both."""

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] | None = None
        self._model: TextModel | None = None
        self._known: dict[tuple[Any, ...], list[Case]] = {}

    def get(self, job: Job) -> TextModel:
        """The job's model. Raises what `load` raises."""
        from ..models import load

        name = job.model_path
        asked = (name, job.revision, job.device, job.dtype)
        if self._model is None or asked != self._asked:
            self._model = None  # before the next one is loaded: both may not fit
            self._known.clear()
            self._model = load(name, revision=job.revision, device=job.device, dtype=job.dtype)
            if isinstance(name, Path):
                self._model.id = job.model  # as the grid calls it, wherever that lies
            self._asked = asked
        return self._model

    def known(self, job: Job) -> list[Case]:
        """Those of the job's cases whose true answer its model gives.

        Raises `InputError` if there is none.
        """
        from ..evaluate import known_only

        model = self.get(job)
        drawn = (
            job.data_path,
            job.data_dir,
            job.size,
            job.seed,
            job.max_new_tokens,
            job.batch_size,
        )
        if drawn not in self._known:
            cases = job.cases()
            found = known_only(
                model,
                cases,
                limit=job.size,
                max_new_tokens=job.max_new_tokens,
                batch_size=job.batch_size,
            )
            if not found:
                raise InputError(
                    f"{model.id} knows the true answer of none of the {len(cases)} cases of "
                    f"{job.data}. Take other data, or drop known_only."
                )
            self._known[drawn] = found
        return self._known[drawn]


def perform(
    job: Job, models: Models, *, resume: Path | None = None, progress: Progress | None = None
) -> Report:
    """Do the job: load, draw the cases, edit, measure.

    resume    file of finished cases, as of `evaluate`.

    The result is the same whether it is done at once or goes on from finished cases, times apart.
    """
    import torch

    from ..evaluate import evaluate

    editor, model = job.made(), models.get(job)
    cases = models.known(job) if job.known_only else job.cases()
    torch.manual_seed(job.seed)
    report = evaluate(
        model,
        editor,
        cases,
        mode=job.mode,  # type: ignore[arg-type]
        batch_size=job.batch_size,
        max_new_tokens=job.max_new_tokens,
        checkpoints=job.checkpoints,
        step=job.step,
        progress=progress,
        resume=resume,
        seed=job.seed,
        command=job.command,
    )
    if job.known_only:
        note = f"Known only: {len(cases)} cases of {job.data} whose true answer {model.id} gives."
        report.environment["notes"] = [*report.environment["notes"], note]
    report.environment["data"]["name"] = job.data
    report.environment["label"] = job.label or job.editor
    return report


# -- what keys are made of ---------------------------------------------------------------------


@cache
def _versions() -> dict[str, str]:
    return versions() | {"python": platform.python_version()}


@cache
def _file_content(path: str | Path) -> str:
    """sha256 of a file; raises `InputError` if there is none."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}). A file is named as seen from the folder "
            "of the grid."
        ) from None


@cache
def _folder_content(path: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return content_key([[p.relative_to(path).as_posix(), _file_content(p)] for p in files])


@cache
def _model_content(name: str, revision: str | None) -> str:
    """Of a directory its files, of an embedded model too; of a hub model its name."""
    from ..models.load import place

    where = place(name)
    return _folder_content(where) if isinstance(where, Path) else f"{where}@{revision}"


@cache
def _cases_content(name: str, limit: int | None, seed: int, data_dir: str | None) -> str:
    return content_key([asdict(c) for c in load_cases(name, limit=limit, seed=seed,
                                                      data_dir=data_dir)])  # fmt: skip


def _files_named(arguments: Mapping[str, Any] | None) -> dict[str, str]:
    """Contents of files and directories that hyperparameters name (a corpus, a network)."""
    found = {}
    for name, value in (arguments or {}).items():
        text = plain(value)
        if isinstance(text, str) and text and len(text) < 4096 and Path(text).exists():
            path = Path(text)
            found[name] = _folder_content(path) if path.is_dir() else _file_content(path)
    return found
