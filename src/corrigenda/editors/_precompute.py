"""The second moments that an editor will ask for, collected before it is asked to solve.

They are cached (`models.moments`), so the editor then finds them ready. Statistics of another kind
(CrispEdit's curvature) the editor collects itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..editor import Editor
from ..models.moments import collected, second_moments
from ..models.text import TextModel

__all__ = ["needs_moments", "precompute", "precomputed"]


def needs_moments(model: TextModel, editor: Editor) -> bool:
    """Whether the editor will ask for any."""
    return _wanted(model, editor) is not None


def precompute(model: TextModel, editor: Editor, progress: Callable[[int, int], None]) -> None:
    """Collect them, if any are needed. progress: (tokens read, of how many)."""
    if (wanted := _wanted(model, editor)) is not None:
        second_moments(model, progress=progress, **wanted)


def precomputed(model: TextModel, editor: Editor) -> bool:
    """Whether they are there already, or none are needed."""
    wanted = _wanted(model, editor)
    return wanted is None or collected(model, **wanted)


def _wanted(model: TextModel, editor: Editor) -> dict[str, Any] | None:
    """Which ones: arguments of `second_moments`; None where the editor needs none."""
    resolved: Any = editor.resolved(model)
    if "statistics" not in editor.needs or not hasattr(resolved, "tokens"):
        return None
    if resolved.statistics == "identity":
        return None
    return {
        "sites": resolved.sites(model),
        "source": resolved.statistics,
        "tokens": resolved.tokens,
        "seed": resolved.seed,
    }
