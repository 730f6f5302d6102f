"""The states of the served model: base, edited, and named sets of edits, each on a tree of its own.

All trees stand over the same weights (`models/twin.py`), so a state costs the tensors that its
edits touch. A state never changes: when the edits do, a new tree takes the name, and requests under
way finish on the one that they began on.

Work that places hooks, or edits and takes back, happens on benches: further trees that take on a
state for a while, one user at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..delta import Delta
from ..models.text import TextModel
from ..models.twin import twin
from .refusals import Busy, Unknown

__all__ = ["BASE", "EDITED", "Bench", "States"]

BASE, EDITED = "base", "edited"
PATIENCE = 60.0
"""Seconds that a request waits for a bench."""


class States:
    """The trees by name. `root` is the model as it was loaded; nothing runs on it."""

    def __init__(self, root: TextModel) -> None:
        for parameter in root.module.parameters():
            parameter.requires_grad_(False)  # nothing here trains the weights themselves
        self.root = root
        self._making = threading.Lock()  # of a tree, from the root
        self._states: dict[str, TextModel] = {BASE: self.tree()}
        self._states[EDITED] = self._states[BASE]

    def tree(self, deltas: Sequence[Delta] = ()) -> TextModel:
        """A new tree with these deltas live, in this order.

        Raises `WrongBaseError` or `UnstableEditError` if one of them cannot be."""
        with self._making:
            made = twin(self.root)
        if deltas:
            made.live.become(deltas)
        return made

    def put(self, name: str, model: TextModel) -> None:
        """From now on requests for this state go to this tree."""
        self._states = {**self._states, name: model}

    def drop(self, names: Iterable[str]) -> None:
        gone = set(names)
        self._states = {n: m for n, m in self._states.items() if n not in gone}

    @property
    def names(self) -> list[str]:
        return list(self._states)

    def of(self, name: str) -> TextModel:
        """The tree of a state; the model's own id means the edited one. Raises `Unknown`."""
        found = self._states.get(EDITED if name == self.root.id else name)
        if found is None:
            raise Unknown(
                f"There is no model {name[:100]!r}. There are: {', '.join(self.names)}, and "
                f"{self.root.id}, which is {EDITED}."
            )
        return found

    def bench(self) -> Bench:
        """A further tree to work on."""
        return Bench(self.tree())


class Bench:
    """A tree that takes on one state after another, for one user at a time."""

    def __init__(self, tree: TextModel) -> None:
        self._tree = tree
        self._lock = threading.Lock()

    @contextmanager
    def on(self, state: TextModel) -> Iterator[TextModel]:
        """The tree with what is live in a state. What is done to it inside is gone afterwards.

        Raises `Busy` when another user does not let go of it."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise Busy("The model is being looked at by others. Try again in a moment.")
        try:
            self._tree.live.adopt(state.live)
            yield self._tree
        finally:
            self._tree.live.clear()
            self._lock.release()
