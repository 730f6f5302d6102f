"""Models that can be edited, and how to get one.

    load          "atlas", a hub id, a path or (module, tokenizer) -> TextModel
    TextModel     a causal language model with its tokenizer
    Layout        where the parts of an architecture are
    layout_of     the layout of a loaded module
    LAYOUTS       the architectures that have one

Names are resolved on first use, so that importing this package imports neither torch nor
transformers.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layouts import LAYOUTS as LAYOUTS
    from .layouts import Layout as Layout
    from .layouts import layout_of as layout_of
    from .load import load as load
    from .text import TextModel as TextModel

_HOME = {
    "LAYOUTS": "layouts",
    "Layout": "layouts",
    "layout_of": "layouts",
    "load": "load",
    "TextModel": "text",
}

__all__ = ["LAYOUTS", "Layout", "TextModel", "layout_of", "load"]


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
        # Importing the submodule `load` binds it here; `models.load` means the function, whichever
        # was asked for first.
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
