"""Labelled texts, gathered from many records into concepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..edit import Case, Concept
from ..errors import DataError, EditError
from ._records import Record

__all__ = ["concepts"]


def concepts(
    records: Iterable[Record], of: Callable[[Record], tuple[str, str, str]], source: str
) -> Iterator[Case]:
    """One case per concept, in the order in which they first come.

    of  (name of the concept, text, label) of a record.

    Raises `DataError` for a concept with labels of one kind only.
    """
    examples: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        name, text, label = of(record)
        if not text.strip():
            raise record.wrong("the text is empty")
        examples.setdefault(name, []).append((text, label))
    for name, pairs in examples.items():
        try:
            concept = Concept(name, tuple(t for t, _ in pairs), tuple(k for _, k in pairs))
        except EditError as error:
            raise DataError(f"{source}: {error}") from None
        yield Case(concept, (), name, source)
