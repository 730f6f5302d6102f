"""Changes of the prompt: what the model is given in place of the user's text.

    Prefix    passages are put in front of the prompt

A change of this kind answers `given(prompts, model)`: for every prompt the text to use, and the
model that is to go on from it (almost always the same one). It may ask the model about the prompts
first; the model then runs without any change of the prompt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from .errors import DeltaError

__all__ = ["CONTEXTS", "Context", "Given", "Prefix"]


class Given(NamedTuple):
    """What becomes of a prompt: the text, and the model that answers it (None: the edited one)."""

    text: str
    by: Any = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """Changes the input: passages of text are put in front of the prompt.

    passages  one text per edited fact, each ending where the next text may begin.
    query     how the user's prompt is written after them; holds `{}` once.
    limit     at most this many passages, those sharing most words with the prompt, where a word
              counts less the more passages hold it, the newer passage wins a tie, and the best
              one stands last; 0 means all.
    head      text in front of all passages that belongs to no fact, such as demonstrations.
    """

    passages: tuple[str, ...]
    query: str = "{}"
    limit: int = 0
    head: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "passages", tuple(self.passages))
        if self.query.count("{}") != 1:
            raise DeltaError(f"A prefix's query needs {{}} once; got {self.query!r}.")

    def given(self, prompts: Sequence[str], model: Any) -> list[Given]:
        return [Given(self.wrap(prompt)) for prompt in prompts]

    def wrap(self, prompt: str) -> str:
        """The text that the model is given in place of `prompt`."""
        chosen = self.passages
        if self.limit and len(chosen) > self.limit:
            asked, told = _words(prompt), [_words(p) for p in chosen]
            common = Counter(word for words in told for word in words)
            overlap = [sum(1 / common[word] for word in words & asked) for words in told]
            best = sorted(range(len(chosen)), key=lambda j: (-overlap[j], -j))[: self.limit]
            chosen = tuple(chosen[j] for j in reversed(best))
        return self.head + "".join(chosen) + self.query.replace("{}", prompt, 1)

    def like(self, other: object) -> bool:
        """Whether both are written in the same form, so that they can be added."""
        return isinstance(other, Prefix) and (self.query, self.limit) == (other.query, other.limit)

    def plus(self, other: Prefix) -> Prefix:
        if not self.like(other):
            raise DeltaError("Prefixes with different query forms or limits cannot be added.")
        head = self.head if other.head in self.head else self.head + other.head
        return replace(self, passages=self.passages + other.passages, head=head)

    @property
    def numel(self) -> int:
        return 0

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {
            "passages": list(self.passages),
            "query": self.query,
            "limit": self.limit,
            "head": self.head,
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Prefix:
        return cls(**settings)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


Context = Prefix
CONTEXTS: dict[str, Any] = {kind.__name__: kind for kind in (Prefix,)}
"""The kinds of change of the prompt, by name."""
