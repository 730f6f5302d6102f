"""Records of a file, whose every complaint names the place, and how they become cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..edit import Case, Condition, Contrast, Edit, Probe, Rewrite
from ..errors import DataError, EditError
from ._files import rows

__all__ = ["Record", "UnusableError", "case", "flat", "read"]

T = TypeVar("T")


class UnusableError(DataError):
    """A well-formed record that is no edit: an empty target, a prompt without its subject."""


class Record:
    """One JSON object and where it stands. Every complaint names that place."""

    def __init__(self, row: Any, place: str, path: Path | None = None) -> None:
        self.place, self.path = place, path
        if not isinstance(row, dict):
            raise self.wrong(f"a record is a JSON object, not {type(row).__name__}")
        self.row: dict[str, Any] = row

    def wrong(self, what: str) -> DataError:
        return DataError(f"{self.place}: {what}.")

    def unusable(self, what: str) -> UnusableError:
        return UnusableError(f"{self.place}: {what}.")

    def part(self, row: Any, name: str) -> Record:
        """An object inside this one, as a record of its own."""
        return Record(row, f"{self.place}, {name}", self.path)

    def parts(self, path: str) -> list[Record]:
        """A list of objects, each as a record of its own; empty if the field is absent."""
        items = self.get(path, list, [])
        return [self.part(item, f"{path}[{j}]") for j, item in enumerate(items)]

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

    def whole(self, question: str, target: str, **more: Any) -> Rewrite:
        """The edit of a record that names no subject: the whole question stands for it."""
        return self.rewrite("{}", question, target, **more)

    def contrast(self, positive: str, negative: str, prompt: str = "") -> Contrast:
        """Raises `UnusableError` naming the record if these make no contrast."""
        try:
            return Contrast(positive, negative, prompt)
        except EditError as error:
            raise UnusableError(f"{self.place}: {error}") from None

    def condition(self, prompt: str, answers: Sequence[str]) -> Condition:
        """Raises `DataError` naming the record if these make no condition."""
        try:
            return Condition(prompt, tuple(answers))
        except EditError as error:
            raise self.wrong(str(error).rstrip(".")) from None

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

    def rewrite_probe(self, edit: Rewrite, **more: Any) -> Probe:
        """The edit's own prompt as a probe; it competes with the true answer if that is another."""
        foil = edit.target_true if edit.target_true != edit.target else None
        return self.probe(edit.text, (edit.target,), "efficacy", "rewrite", foil=foil, **more)


_NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}


def read(path: Path) -> Iterator[Record]:
    """The records of a file, one at a time.

    Raises `DataError` naming the file and line (or record) that cannot be read.
    """
    for row, place in rows(path):
        yield Record(row, place, path)


def flat(value: Any) -> list[str]:
    """Texts out of nested lists, as some official files have them."""
    if isinstance(value, list):
        return [text for part in value for text in flat(part)]
    return [] if value is None else [str(value)]


def case(
    record: Record,
    edit: Edit,
    probes: Iterable[Probe],
    id: Any,
    source: str,
    *,
    also: Sequence[Edit] = (),
    in_turn: bool = False,
    **meta: Any,
) -> Case:
    """A case judged by these probes and, if none of them is about efficacy, by the prompts of its
    rewrites; of edits made in turn, by that of the last."""
    probes = tuple(probes)
    if not any(probe.axis == "efficacy" for probe in probes):
        made = [one for one in (edit, *also) if isinstance(one, Rewrite)]
        own = made[-1:] if in_turn else made
        probes = (*(record.rewrite_probe(one) for one in own), *probes)
    once = tuple(dict.fromkeys(probes))
    return Case(edit, once, str(id), source, meta, tuple(also), in_turn)
