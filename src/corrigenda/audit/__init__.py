"""Was a model edited, what was put into it, and how well does it hold?

    changed     what differs between two checkpoints: tensors, ranks, spectra, keys and values
    meaning     what a change says: its subject, and the object that it puts there
    suspicion   how suspicious each map of one checkpoint alone is
    reversal    take suspicious directions out, and see what comes back
    audit       every check of how well the edits of a delta hold; each has its own file

Names are resolved on first use, so that importing this package imports no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .candidates import Candidates as Candidates
    from .changed import Changed as Changed
    from .changed import TensorChange as TensorChange
    from .changed import changed as changed
    from .check import Check as Check
    from .meaning import Meaning as Meaning
    from .meaning import meaning as meaning
    from .reversal import Reversal as Reversal
    from .reversal import judged as judged
    from .reversal import without_change as without_change
    from .reversal import without_leading as without_leading
    from .robustness import CHECKS as CHECKS
    from .robustness import Audit as Audit
    from .robustness import audit as audit
    from .suspicion import Suspect as Suspect
    from .suspicion import suspicion as suspicion

_HOME = {
    "Audit": "robustness",
    "CHECKS": "robustness",
    "Candidates": "candidates",
    "Changed": "changed",
    "Check": "check",
    "Meaning": "meaning",
    "Reversal": "reversal",
    "Suspect": "suspicion",
    "TensorChange": "changed",
    "audit": "robustness",
    "changed": "changed",
    "judged": "reversal",
    "meaning": "meaning",
    "suspicion": "suspicion",
    "without_change": "reversal",
    "without_leading": "reversal",
}

__all__ = [*_HOME]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodule `changed` binds it here; `audit.changed` means the function,
        # whichever was asked for first.
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
