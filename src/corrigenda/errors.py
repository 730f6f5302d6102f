"""Everything that can go wrong on purpose.

    CorrigendaError
    ├── InputError               bad request: exit code 2
    │   ├── EditError            the edit itself is malformed (no subject, empty target, ...)
    │   ├── UnknownNameError     no such editor, model, data set, metric; suggests the nearest
    │   └── DataError            a file cannot be read as what it should be; names the line
    ├── ModelError               the model cannot be used for this: exit code 2
    │   └── UnknownLayoutError   the architecture has no row yet; carries the proposed one
    ├── DeltaError               an edit artifact is damaged or belongs to other weights: exit code 2
    │   ├── TamperedError        the file is truncated or does not match its checksum
    │   ├── WrongBaseError       the tensors are not those the delta was made for
    │   └── UnstableEditError    the solved change is non-finite or too large to be safe
    ├── LedgerError              the log of edits refuses the request: exit code 2
    ├── JudgeError               the judge is missing, or does not answer: exit code 3
    ├── EndpointError            a model behind an address refuses, or does not answer: exit code 3
    └── OfflineError             a resource is needed, not cached, and there is no network: exit code 3

A message says what was asked, what was found, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CorrigendaError",
    "DataError",
    "DeltaError",
    "EditError",
    "EndpointError",
    "InputError",
    "JudgeError",
    "LedgerError",
    "ModelError",
    "OfflineError",
    "TamperedError",
    "UnknownLayoutError",
    "UnknownNameError",
    "UnstableEditError",
    "WrongBaseError",
]


class CorrigendaError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 2


class InputError(CorrigendaError, ValueError):
    """What the caller asked for is malformed."""


class EditError(InputError):
    """The edit is malformed: no subject, an empty target, a subject absent from its prompt."""


class UnknownNameError(InputError):
    """There is no such editor, model, data set or metric. Suggests the nearest names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.5)
        near = [k for c in close for k in known if k.lower() == c]  # the nearest first
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        super().__init__(f"There is no {kind} called {name!r}. {hint}")
        self.kind, self.name, self.suggestions = kind, name, near


class DataError(InputError):
    """A data file cannot be read as what it should be. Names the file and the line."""


class ModelError(CorrigendaError):
    """The model cannot be loaded or does not offer what was asked of it."""


class UnknownLayoutError(ModelError):
    """The architecture has no row in `models/layouts.py`; the message proposes one."""


class DeltaError(CorrigendaError):
    """A delta cannot be built, combined, read or applied."""


class TamperedError(DeltaError):
    """A saved delta is truncated, or its content does not match its recorded checksum."""


class WrongBaseError(DeltaError):
    """The tensors at hand are not the ones that the delta was made for."""


class UnstableEditError(DeltaError):
    """A solved change is non-finite, or so large that it would damage the model."""


class LedgerError(CorrigendaError):
    """The ledger refuses: no such entry, already undone, or foreign weights."""


class JudgeError(CorrigendaError):
    """Answers are to be judged, and the judge is missing, refuses, or does not answer."""

    exit_code = 3


class EndpointError(CorrigendaError):
    """A model behind an address refuses, does not answer, or speaks another protocol."""

    exit_code = 3


class OfflineError(CorrigendaError):
    """A model or file must be downloaded, and there is no network or it is forbidden."""

    exit_code = 3
