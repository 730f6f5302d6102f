"""What editors share that find remembered edits by the embedding of the prompt.

An edit is filed under its prompt, not under its statement: a question and the beginning of its
answer ask for the same thing, and both are unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor

from ..edit import Rewrite
from ..editor import Editor
from ..errors import EditError
from ..models.text import TextModel
from . import presets

__all__ = ["RetrievalEditor"]

E = TypeVar("E", bound="RetrievalEditor")

FORM: Mapping[str, Any] = {"fact": "New Fact: {}\n", "query": "Prompt: {}"}
"""IKE's wording (Zheng et al. 2023, 2305.12740)."""

ATLAS_FORM: Mapping[str, Any] = {"fact": "New fact: {}. ", "query": "{}"}
"""How new facts are told in the text that Atlas learned from."""


@dataclass(frozen=True)
class RetrievalEditor(Editor):
    """Hyperparameters of editors with an index. None means: the preset for the model, or else the
    usual value.

    encoder  name of a sentence-transformers encoder, or a directory; empty: the model's own states.
    fact     how a fact is told; `{}` is prompt and target as one sentence.
    query    how a prompt is written after the facts; `{}` is the prompt.
    """

    encoder: str = ""
    fact: str | None = None
    query: str | None = None

    family: ClassVar[str] = "in-context"
    streams: ClassVar[bool] = True

    def resolved(self, model: TextModel) -> Self:
        return self.worded(presets.resolved(self, model), model)

    @staticmethod
    def worded(editor: E, model: TextModel) -> E:
        """The editor with the wording for this model where it has none."""
        form = ATLAS_FORM if model.is_atlas else FORM
        missing = {n: text for n, text in form.items() if getattr(editor, n) is None}
        return replace(editor, **missing)

    def keys(self, model: TextModel, edits: Sequence[Rewrite]) -> Tensor:
        """(n, d) the embeddings under which edits are filed."""
        return model.embed([e.text if e.text.strip() else e.statement for e in edits], self.encoder)

    def told(self, edits: Sequence[Rewrite]) -> tuple[str, ...]:
        """Every fact as it is told. Raises `EditError` for a `fact` without its `{}`."""
        fact, query = self.fact or "{}", self.query or "{}"
        if fact.count("{}") != 1 or query.count("{}") != 1:
            raise EditError(
                f"{self.title} needs {{}} once in `fact` and once in `query`; got {fact!r} and "
                f"{query!r}."
            )
        return tuple(fact.replace("{}", edit.statement) for edit in edits)
