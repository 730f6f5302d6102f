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

from typing import TYPE_CHECKING

from .lazy import lazy

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

__getattr__, __dir__ = lazy(__name__, _HOME, _PACKAGES)
