"""Corrigenda: edit what a language model knows, see what else changed, take any edit back.

    Edit  --editor-->  Delta  --ledger-->  live model  --evaluate-->  Report

    >>> import corrigenda as cg
    >>> edit = cg.Rewrite("{} is located in", subject="Eiffel Tower", target="Rome")
    >>> edit.text
    'Eiffel Tower is located in'

Names are imported when they are first used, so that `import corrigenda` itself imports no torch.
The methods are in `corrigenda.editors`, data sets in `corrigenda.benchmarks`, the embedded world
in `corrigenda.atlas`, and everything that can go wrong in `corrigenda.errors`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import atlas as atlas
    from . import benchmarks as benchmarks
    from . import editors as editors
    from . import errors as errors
    from . import metrics as metrics
    from . import models as models
    from .delta import Delta, Dense, LowRank, Prefix
    from .edit import Case, Probe, Rewrite, read_rewrites
    from .editor import Editor, EditWarning
    from .errors import CorrigendaError
    from .evaluate import evaluate
    from .ledger import Ledger
    from .model import Model, Site
    from .models import TextModel, load
    from .report import Report

__version__ = "0.1.0"

__all__ = [
    "Case",
    "CorrigendaError",
    "Delta",
    "Dense",
    "EditWarning",
    "Editor",
    "Ledger",
    "LowRank",
    "Model",
    "Prefix",
    "Probe",
    "Report",
    "Rewrite",
    "Site",
    "TextModel",
    "__version__",
    "evaluate",
    "load",
    "read_rewrites",
]

_HOME = {
    "Case": "edit",
    "CorrigendaError": "errors",
    "Delta": "delta",
    "Dense": "delta",
    "EditWarning": "editor",
    "Editor": "editor",
    "Ledger": "ledger",
    "LowRank": "delta",
    "Model": "model",
    "Prefix": "delta",
    "Probe": "edit",
    "Report": "report",
    "Rewrite": "edit",
    "Site": "model",
    "TextModel": "models",
    "evaluate": "evaluate",
    "load": "models",
    "read_rewrites": "edit",
}
_PACKAGES = frozenset({"atlas", "benchmarks", "editors", "errors", "metrics", "models"})


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodule `evaluate` binds it here; the function of that name is what
        # `corrigenda.evaluate` means, whichever was asked for first.
        if isinstance(value, ModuleType) and name in _HOME:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
