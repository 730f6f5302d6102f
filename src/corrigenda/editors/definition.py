"""Definition prepending: what is new about a subject stands in front of every prompt.

Onoe, Zhang, Padmanabhan, Durrett, Choi 2023, 2305.01651. The input is definition + " " + prompt;
nothing is learned, so it is what methods that do learn a definition are measured against. Two
controls tell reading from guessing: another subject's definition, and the subject's name alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..delta import Delta, Prefix
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import EditError
from ..models.text import TextModel
from . import presets

__all__ = ["Definition"]


@dataclass(frozen=True)
class Definition(Editor):
    """Put the edit's statement in front of the prompt.

    control  what stands there instead: "random", the statement of another edit; "subject", the
             subject alone.
    form     how it stands there; `{}` is the definition without its full stop. None: the preset
             for the model, or "{}. ".
    limit    at most this many definitions are shown with a prompt, those that share most words
             with it; 0: all.
    seed     of the other edits' choice.
    """

    control: Literal["none", "random", "subject"] = "none"
    form: str | None = None
    limit: int = 1
    seed: int = 0

    name: ClassVar[str] = "definition"
    title: ClassVar[str] = "Definition prepending"
    paper: ClassVar[str] = "Onoe et al. 2023, 2305.01651"
    family: ClassVar[str] = "in-context"
    change: ClassVar[str] = "Prefix"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {"form": "{}. "}

    def resolved(self, model: TextModel) -> Definition:
        return presets.resolved(self, model)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        texts = [edit.statement for edit in edits]
        if self.control == "subject":
            texts = [edit.subject for edit in edits]
        elif self.control == "random":
            if len(edits) < 2:
                raise EditError("A random definition needs another edit to take it from.")
            # A rotation leaves no edit its own statement.
            by = random.Random(self.seed).randrange(1, len(edits))
            texts = texts[by:] + texts[:by]
        form = self.form or "{}"
        passages = tuple(form.replace("{}", text.rstrip(" .")) for text in texts)
        return Solution({"context": Prefix(passages, limit=self.limit)})
