"""Is the old knowledge gone, or does training on other old facts bring it back?

Half of the edited facts are trained back to their old objects, on top of the edit; the other half is
asked. With A the share of the asked half that is answered with the old object,

    recovery = (A_relearn - A_edit) / (A_pre - A_edit)

(Deeb and Roger 2024, 2410.08827, where 88 % of unlearned facts came back). Undefined where the edit
left nothing to bring back.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..delta import Delta
from ..edit import Rewrite
from ..editor import EditWarning
from ..editors import make
from ..metrics.robustness import recovery
from ..metrics.statistics import bootstrap
from ..models.text import TextModel
from .check import Check, returns

__all__ = ["relearned"]


def relearned(
    model: TextModel, delta: Delta, edits: Sequence[Rewrite], editor: str = "ft-m"
) -> Check:
    """On the unedited model: the recovery rate of one half of the edits by training on the other.

    Every second edit whose old object is known is trained back; with fewer than four of them
    nothing is asked. The interval is a bootstrap over the asked edits.
    """
    name = "gen.relearned.recovery"
    about = f"old answers recovered by training ({editor}) on other old facts"
    known = [edit for edit in edits if edit.target_true]
    trained, asked = known[0::2], known[1::2]
    if len(known) < 4:
        return Check(name, about, None, None, None, 0, "low")
    prompts = [edit.text for edit in asked]
    before = returns(model, prompts, asked)
    with delta.applied(model):
        edited = returns(model, prompts, asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)
            old = [replace(edit, target=edit.target_true or "") for edit in trained]
            back = make(editor)(model, old)
        with back.applied(model):
            after = returns(model, prompts, asked)
            learned = sum(returns(model, [edit.text for edit in trained], trained))
    rows = np.array([before, edited, after], dtype=float).T

    def rate(drawn: np.ndarray) -> float:
        found = recovery(*drawn.mean(0).tolist())
        return 0.0 if found is None else found

    value = recovery(*rows.mean(0).tolist())
    detail = {
        "before": sum(before),
        "edited": sum(edited),
        "relearned": sum(after),
        "trained": len(trained),
        "trained_learned": learned,
    }
    if value is None:
        return Check(name, about, None, None, None, len(asked), "low", (), detail)
    low, high = bootstrap(rows, rate, draws=2000)
    return Check(name, about, value, low, high, len(asked), "low", (), detail)
