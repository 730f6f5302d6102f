"""Hyperparameters by name: from the text of a command line, or from values of a file."""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from ..editor import Editor

__all__ = ["configured"]


def configured(cls: type[Editor], asked: Mapping[str, Any]) -> Editor:
    """The editor with these hyperparameters.

    asked  {name: value}; a text is read as the type that the field declares: lists with commas and
           ranges, "4,5,6" or "4-8", or as JSON; "none" is None.

    Raises `UnknownNameError` for an unknown hyperparameter, `InputError` for a value of the wrong
    type.
    """
    known = {field.name for field in fields(cls)}
    types = typing.get_type_hints(cls)
    values = {}
    for key, value in asked.items():
        if key not in known:
            raise UnknownNameError(f"hyperparameter of {cls.name}", key, known)
        values[key] = _typed(cls.name, key, value, types[key])
    return cls(**values)


def _typed(editor: str, name: str, value: Any, kind: Any) -> Any:
    """A value of the type that the dataclass declares."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    for candidate in _readings(value) if isinstance(value, str) else [value]:
        try:
            return adapter.validate_python(candidate)
        except ValidationError:
            continue
    raise InputError(
        f"{name}={value} is not a value for {editor}: it takes {_type_name(kind)}. "
        f"`corrigenda editors {editor}` lists the hyperparameters with their defaults."
    )


def _readings(text: str) -> list[Any]:
    """What a text may stand for, the likeliest first."""
    found: list[Any] = [None] if text.lower() in ("none", "null") else []
    found.append(text)
    with contextlib.suppress(ValueError):
        found.append(json.loads(text))
    return [*found, _listed(text)]


def _listed(text: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and first.isdigit() and last.isdigit():
            found += [str(n) for n in range(int(first), int(last) + 1)]
        else:
            found.append(part.strip())
    return found


def _type_name(kind: Any) -> str:
    """A declared type in words that a command line understands."""
    if kind is type(None):
        return "none"
    if isinstance(kind, type) and not typing.get_args(kind):
        return {"int": "a whole number", "float": "a number", "str": "text"}.get(
            kind.__name__, kind.__name__
        )
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(kind) is tuple:
        inner = arguments[0]
        return "a list of pairs, as JSON" if typing.get_args(inner) else "numbers such as 4,5,6"
    return " or ".join(_type_name(a) for a in arguments)
