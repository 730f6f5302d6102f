"""Where a model holds what it knows: traces, attributions, lenses, and a chooser of layers.

    trace, average    causal tracing: which hidden states carry an answer
    attribute         integrated gradients: which neurons raise the probability of an answer
    lens              what each layer would say if it were the last
    choose            the layers at which an editor does best, found by editing

The first three explain; only the last one says where to edit. Names are resolved on first use, so
that importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .attribute import Attribution as Attribution
    from .attribute import attribute as attribute
    from .attribute import question as question
    from .choose import Candidate as Candidate
    from .choose import choose as choose
    from .lens import Lens as Lens
    from .lens import lens as lens
    from .lens import lens_everywhere as lens_everywhere
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
    "lens_everywhere": "lens",
    "noise_level": "trace",
    "question": "attribute",
    "trace": "trace",
}

__all__ = [*_HOME]  # pyright: ignore

__getattr__, __dir__ = lazy(__name__, _HOME)
