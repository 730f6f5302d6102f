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
    from . import locate as locate
    from . import metrics as metrics
    from . import models as models
    from .acting import Affine, Memory, Neurons
    from .delta import Delta, Dense, LowRank, Prefix
    from .edit import Case, Concept, Contrast, Probe, Rewrite, read_rewrites
    from .editor import Editor, EditWarning
    from .errors import CorrigendaError
    from .evaluate import evaluate
    from .ledger import Ledger
    from .merging import analogy, merge
    from .model import Model, Site
    from .models import TextModel, load
    from .report import Report

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "analogy",
    "Case",
    "Concept",
    "Contrast",
    "CorrigendaError",
    "Delta",
    "Dense",
    "Editor",
    "EditWarning",
    "evaluate",
    "Ledger",
    "load",
    "LowRank",
    "Memory",
    "merge",
    "Model",
    "Neurons",
    "Prefix",
    "Probe",
    "read_rewrites",
    "Report",
    "Rewrite",
    "Site",
    "TextModel",
    "__version__",
]

_HOME = {
    "Affine": "acting",
    "Case": "edit",
    "Concept": "edit",
    "Contrast": "edit",
    "CorrigendaError": "errors",
    "Delta": "delta",
    "Dense": "delta",
    "EditWarning": "editor",
    "Editor": "editor",
    "Ledger": "ledger",
    "LowRank": "delta",
    "Memory": "acting",
    "Model": "model",
    "Neurons": "acting",
    "Prefix": "delta",
    "Probe": "edit",
    "Report": "report",
    "Rewrite": "edit",
    "Site": "model",
    "TextModel": "models",
    "analogy": "merging",
    "evaluate": "evaluate",
    "load": "models",
    "merge": "merging",
    "read_rewrites": "edit",
}
_PACKAGES = frozenset({"atlas", "benchmarks", "editors", "errors", "locate", "metrics", "models"})


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
