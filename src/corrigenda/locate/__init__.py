"""Where a model holds what it knows: traces, attributions, lenses, and a chooser of layers.

    trace, average    causal tracing: which hidden states carry an answer
    attribute         integrated gradients: which neurons raise the probability of an answer
    lens              what each layer would say if it were the last
    choose            the layers at which an editor does best, found by editing

The first three explain; only the last one says where to edit. Names are resolved on first use, so
that importing this package imports no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribute import Attribution as Attribution
    from .attribute import attribute as attribute
    from .attribute import question as question
    from .choose import Candidate as Candidate
    from .choose import choose as choose
    from .lens import Lens as Lens
    from .lens import lens as lens
    from .trace import Average as Average
    from .trace import Trace as Trace
    from .trace import average as average
    from .trace import noise_level as noise_level
    from .trace import trace as trace

_HOME = {
    "Attribution": "attribute",
    "Average": "trace",
    "Candidate": "choose",
    "Lens": "lens",
    "Trace": "trace",
    "attribute": "attribute",
    "average": "trace",
    "choose": "choose",
    "lens": "lens",
    "noise_level": "trace",
    "question": "attribute",
    "trace": "trace",
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
        # Importing the submodule `trace` binds it here; `locate.trace` means the function,
        # whichever was asked for first.
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
