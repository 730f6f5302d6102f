"""Curves of long sequences, from the file that a lifelong run writes (`corrigenda.lifelong/1`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DataError

__all__ = ["SCHEMA", "Lifelong"]

SCHEMA = "corrigenda.lifelong/1"


@dataclass(frozen=True, slots=True)
class Lifelong:
    """Retention of editors over the number of edits: mean, lowest and highest run.

    editors  {name: [(edits, mean, low, high)]}, shares between 0 and 1.
    runs     {name: number of runs}.
    """

    editors: Mapping[str, list[tuple[float, float, float, float]]]
    runs: Mapping[str, int]
    command: str = ""

    @classmethod
    def from_json(cls, text: str) -> Lifelong:
        """Raises `DataError` for a file of another kind."""
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise ValueError(data["schema"])
            editors = {name: _points(one) for name, one in data["editors"].items()}
            runs = {name: len(one["runs"]) for name, one in data["editors"].items()}
            return cls(editors, runs, str(data.get("command", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"This is not a result of the form {SCHEMA} ({type(error).__name__}: {error}). "
                "Give the report.json of a lifelong run."
            ) from None


def _points(editor: Mapping[str, Any]) -> list[tuple[float, float, float, float]]:
    return [
        (
            float(point["edits"]),
            *(float(point[end]["retained"]) for end in ("mean", "low", "high")),
        )
        for point in editor["curves"]["retention"]
        if "retained" in point["mean"]
    ]  # type: ignore[misc]
