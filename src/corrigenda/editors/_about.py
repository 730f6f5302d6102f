"""What a method says of itself, read from its class: in a sentence, and setting by setting."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..editor import Editor

__all__ = ["documentation", "settings", "summary"]


def summary(cls: type[Editor]) -> str:
    """The first sentence of the class's docstring."""
    return (
        (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")
    )


def settings(cls: type[Editor]) -> list[dict[str, Any]]:
    """The hyperparameters: name, default, the paper's value where that differs, type, meaning."""
    meaning: dict[str, str] = {}
    for base in reversed(documentation(cls)):
        meaning |= _meanings(inspect.getdoc(base) or "")
    found = []
    for field in fields(cls):
        default = None if field.default is MISSING else field.default
        found.append(
            {
                "name": field.name,
                "default": default,
                "paper": cls.paper_values.get(field.name),
                "type": str(field.type),
                "meaning": meaning.get(field.name, ""),
            }
        )
    return found


def documentation(cls: type[Editor]) -> list[type]:
    """The class, and the bases in editors/ that explain the fields they share."""
    return [c for c in cls.__mro__ if c.__module__.startswith("corrigenda.editors.")]


def _meanings(text: str) -> dict[str, str]:
    """Lines "name  what it is", with the lines that go on with it; "a, b  what" explains both."""
    found: dict[str, str] = {}
    current: list[str] = []
    for line in text.splitlines():
        start = re.match(r"^(\w+(?:, \w+)*) {2,}(\S.*)$", line)
        if start:
            current = start[1].split(", ")
            found |= dict.fromkeys(current, start[2])
        elif current and line.startswith("    "):
            for name in current:
                found[name] += " " + line.strip()
        else:
            current = []
    return found
