"""KnowEdit's ConvSent: a conversation's sentiment on a topic (Mitchell et al. 2022, 2206.06520;
Zhang et al. 2024, 2401.01286; MIT).

Fields: ent (the topic), pos and neg (opinions). A case prefers the opinions of one side to those of
the other; the published protocol draws the side at random, here it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..edit import Case
from ._records import Record
from .personality_edit import opinions

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record has this form."""
    return {"ent", "pos", "neg"} <= row.keys()


def to_case(record: Record, toward: Literal["pos", "neg"] = "pos") -> Case:
    """Raises `DataError` naming the record if a field is missing or of the wrong type."""
    away = "neg" if toward == "pos" else "pos"
    return opinions(record, toward, [away], "knowedit_convsent")
