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

from typing import TYPE_CHECKING

from ..lazy import lazy

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

__getattr__, __dir__ = lazy(__name__, _HOME)
