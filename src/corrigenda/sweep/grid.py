"""The file that declares a sweep, and the jobs that it stands for: every combination.

    editors = ["rome", { name = "ft-m", set = { layers = [1] }, vary = { lr = [1e-3, 5e-3] } }]
    models = ["atlas", { name = "my-models/gpt2-large", dtype = "bfloat16" }]
    data = ["atlas", "counterfact"]
    seeds = [0, 1]
    sizes = [100]
    modes = ["single"]
    known_only = true
    skip = [{ editor = "rome", model = "atlas-t5" }]

`set` fixes hyperparameters of an editor, `vary` tries every value of a list. Paths are seen from
the folder of the file. A hub model without a revision is known by its name alone.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..benchmarks import BENCHMARKS, canonical
from ..editors import TABLE
from ..errors import DataError, InputError, UnknownNameError
from ..evaluate import MODES
from .jobs import Job

__all__ = ["EditorChoice", "Grid", "ModelChoice"]

LABEL = 60  # characters of a method's name that is made of its settings


@dataclass(frozen=True, slots=True)
class EditorChoice:
    """A method with hyperparameters. `label` is what tables call it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model by name, hub id or directory; `revision` is of the hub."""

    name: str
    revision: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """What is combined with what. Built by `read` or `parse`.

    sizes           numbers of cases; None is all of a data set.
    known_only      keep the cases whose true answer the unedited model gives.
    step            edits per call in a sequence; `checkpoints` are those of `evaluate`.
    data_dir        where data sets are looked for first.
    skip            combinations to leave out: each names values of editor, model, data, mode,
                    seed or size, and leaves out the jobs that have all of them.
    """

    editors: tuple[EditorChoice, ...]
    models: tuple[ModelChoice, ...]
    data: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    sizes: tuple[int | None, ...] = (None,)
    modes: tuple[str, ...] = ("single",)
    known_only: bool = False
    max_new_tokens: int = 16
    batch_size: int = 64
    step: int = 1
    checkpoints: tuple[int, ...] | None = None
    device: str | None = None
    data_dir: str | None = None
    skip: tuple[Mapping[str, Any], ...] = ()
    folder: Path = Path()

    @classmethod
    def read(cls, path: Path | str) -> Grid:
        """Raises `DataError` for a file that is no TOML, and what `parse` raises."""
        path = Path(path)
        if not path.is_file():
            raise InputError(
                f"There is no file {path}. Give a grid, such as: editors = ['rome'], "
                "models = ['atlas'], data = ['atlas'], one per line."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text. Give a grid as TOML.") from None
        try:
            return cls.parse(text, path.absolute().parent)
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"{path} is not TOML: {error}.") from None

    @classmethod
    def parse(cls, text: str, folder: Path = Path()) -> Grid:
        """The grid of a text. Paths are relative to `folder`.

        Raises `UnknownNameError` for a setting, editor, data set or mode that there is not,
        `InputError` for one of the wrong type.
        """
        given = tomllib.loads(text)
        for name in given:
            if name not in _READERS:
                raise UnknownNameError("setting of a grid", name, _READERS)
        for name in ("editors", "models", "data"):
            if name not in given:
                raise InputError(
                    f'A grid needs {name}. Example: {name} = ["{_EXAMPLE[name]}"]. '
                    f"Found: {', '.join(given) or 'nothing'}."
                )
        return cls(**{name: _READERS[name](name, value) for name, value in given.items()},
                   folder=folder)  # fmt: skip

    def jobs(self) -> list[Job]:
        """Every combination that is not skipped, those of one model together.

        Raises what the editors, models and data sets raise that cannot be had.
        """
        found: dict[str, Job] = {}
        combined = itertools.product(
            self.models, self.data, self.modes, self.sizes, self.seeds, self.editors
        )
        for model, data, mode, size, seed, editor in combined:
            traits = {
                "model": model.name, "data": data, "mode": mode, "size": size, "seed": seed,
                "editor": (editor.name, editor.label),
            }  # fmt: skip
            if any(_matches(rule, traits) for rule in self.skip):
                continue
            job = Job(
                editor=editor.name,
                settings=editor.settings,
                label=editor.label,
                model=model.name,
                revision=model.revision,
                dtype=model.dtype,
                data=data,
                mode=mode,
                size=size,
                seed=seed,
                known_only=self.known_only,
                max_new_tokens=self.max_new_tokens,
                batch_size=self.batch_size,
                step=self.step if mode == "sequential" else 1,
                checkpoints=self.checkpoints if mode == "sequential" else None,
                device=self.device,
                data_dir=self._inside(self.data_dir) if self.data_dir else None,
                folder=str(self.folder),
            )
            found.setdefault(job.key, job)
        if not found:
            raise InputError(
                "The grid stands for no job: every combination is skipped, or a list is empty."
            )
        return list(found.values())

    def _inside(self, path: str) -> str:
        return str((self.folder / Path(path).expanduser()).absolute())


_EXAMPLE = {"editors": "rome", "models": "atlas", "data": "atlas"}


# -- reading, one kind of value each ----------------------------------------------------------


def _editors(name: str, value: Any) -> tuple[EditorChoice, ...]:
    found: list[EditorChoice] = []
    for entry in _list(name, value, (str, dict)):
        if isinstance(entry, str):
            entry = {"name": entry}
        _known_keys("setting of an editor", entry, ("name", "label", "set", "vary"))
        editor = _text("editors: name", entry.get("name"))
        if editor != "none" and editor not in TABLE:
            raise UnknownNameError("editor", editor, (*TABLE, "none"))
        fixed = _table("editors: set", entry.get("set", {}))
        varied = _table("editors: vary", entry.get("vary", {}))
        if editor == "none" and (fixed or varied):
            raise InputError("The editor none is the unedited model and has no hyperparameters.")
        for key, values in varied.items():
            if not isinstance(values, list) or not values:
                raise InputError(
                    f"vary takes lists of values to try, not {key} = {values!r}. "
                    f"Example: vary = {{ {key} = [1, 2] }}"
                )
            if key in fixed:
                raise InputError(f"{editor}: {key} is in both set and vary. Leave one of them out.")
        label = entry.get("label")
        for values in itertools.product(*varied.values()):
            tried = dict(zip(varied, values, strict=True))
            shown = tried if label else fixed | tried
            words = [_text("editors: label", label)] if label else [editor]
            words += [f"{key}={_short(item)}" for key, item in shown.items()]
            found.append(EditorChoice(editor, fixed | tried, " ".join(words)))
    return tuple(_distinct(name, found, [one.label for one in found]))


def _models(name: str, value: Any) -> tuple[ModelChoice, ...]:
    found: list[ModelChoice] = []
    for entry in _list(name, value, (str, dict)):
        if isinstance(entry, str):
            entry = {"name": entry}
        _known_keys("setting of a model", entry, ("name", "revision", "dtype"))
        texts = {key: _text(f"models: {key}", item) for key, item in entry.items()}
        if "name" not in texts:
            raise InputError('A model needs a name. Example: models = [{ name = "atlas" }]')
        found.append(ModelChoice(**texts))
    return tuple(_distinct(name, found, found))


def _data(name: str, value: Any) -> tuple[str, ...]:
    found = [canonical(entry) for entry in _list(name, value, (str,))]
    for entry in found:
        file = Path(entry).suffix in (".json", ".jsonl", ".gz") or len(Path(entry).parts) > 1
        if entry not in BENCHMARKS and not file:
            raise UnknownNameError("data set", entry, BENCHMARKS)
    return tuple(_distinct(name, found, found))


def _modes(name: str, value: Any) -> tuple[str, ...]:
    found = _list(name, value, (str,))
    for entry in found:
        if entry not in MODES:
            raise UnknownNameError("evaluation mode", entry, MODES)
    return tuple(_distinct(name, found, found))


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    found = _list(name, value, (int,))
    least = 0 if name == "seeds" else 1
    if any(isinstance(n, bool) or n < least for n in found):
        raise InputError(f"{name} are whole numbers from {least} on, not {value!r}.")
    return tuple(_distinct(name, found, found))


def _number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is a whole number from 1 on, not {value!r}.")
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is true or false, not {value!r}.")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is a text, not {value!r}.")
    return value


def _skips(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    rules = _list(name, value, (dict,), empty=True)
    for rule in rules:
        _known_keys("part of a job", rule, ("editor", "model", "data", "mode", "size", "seed"))
        if not rule:
            raise InputError('An empty skip would leave out everything. Name what: editor = "rome"')
    return tuple(rules)


_READERS: dict[str, Any] = {
    "editors": _editors,
    "models": _models,
    "data": _data,
    "seeds": _numbers,
    "sizes": _numbers,
    "modes": _modes,
    "known_only": _truth,
    "max_new_tokens": _number,
    "batch_size": _number,
    "step": _number,
    "checkpoints": _numbers,
    "device": _text,
    "data_dir": _text,
    "skip": _skips,
}


def _list(name: str, value: Any, kinds: tuple[type, ...], empty: bool = False) -> list[Any]:
    words = {str: "texts", dict: "tables", int: "whole numbers"}
    if not isinstance(value, list):
        raise InputError(f"{name} is a list, not {value!r}. Write {name} = [{_toml(value)}].")
    if not value and not empty:
        raise InputError(f"{name} is empty. Name at least one.")
    for entry in value:
        if not isinstance(entry, kinds):
            raise InputError(
                f"{name} is a list of {' or '.join(words[kind] for kind in kinds)}, and "
                f"{entry!r} is none."
            )
    return value


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name} is a table such as {{ clamp = 3 }}, not {value!r}.")
    return value


def _known_keys(kind: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in entry:
        if key not in known:
            raise UnknownNameError(kind, key, known)


def _distinct(name: str, found: Sequence[Any], labels: Sequence[Any]) -> Sequence[Any]:
    for j, label in enumerate(labels):
        if label in labels[:j]:
            raise InputError(f"{name} has {label} twice. Leave one out, or give it a label.")
    return found


def _matches(rule: Mapping[str, Any], traits: Mapping[str, Any]) -> bool:
    return all(
        value in traits[key] if isinstance(traits[key], tuple) else value == traits[key]
        for key, value in rule.items()
    )


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
