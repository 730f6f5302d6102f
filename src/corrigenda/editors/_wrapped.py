"""Editors that take another editor's change and hold it back, filter or replace it.

`of` is the inner editor, by name or as an object, and `settings` its hyperparameters: it solves
the edits as always, and each of its changes of a weight matrix then passes through the wrapper.
Changes of biases and norms pass as they are, and so does the inner editor's state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from ..delta import Delta, Dense, LowRank
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import InputError
from ..experts import as_map
from ..models.text import TextModel
from . import presets

__all__ = ["FilterEditor", "Place", "WrappedEditor"]


@dataclass(frozen=True, slots=True)
class Place:
    """The matrix that a change is for, in mathematical orientation whatever the storage.

    name      of the parameter.
    weight    (o, i) as it is now, with earlier edits.
    pristine  (o, i) without any edits.
    earlier   what `onto` changes here, or None.
    """

    name: str
    weight: Tensor
    pristine: Tensor
    earlier: LowRank | Dense | None


@dataclass(frozen=True)
class WrappedEditor(Editor):
    """Another editor with its changes restrained. What the inner editor needs, this one needs.

    of        the inner editor: its name, or an editor.
    settings  its hyperparameters, as `make(name, **settings)` takes them.

    Raises `UnknownNameError` for an unknown inner editor, and `InputError` for one that changes no
    weights.
    """

    of: str | Editor = "memit"
    settings: Mapping[str, Any] = field(default_factory=dict)

    needs: ClassVar[tuple[str, ...]] = ("subject", "statistics")
    family: ClassVar[str] = "locate-then-edit"

    def __post_init__(self) -> None:
        inner = self.inner
        if inner.change not in ("LowRank", "Dense"):
            raise InputError(
                f"{self.title} restrains changes of weights, but {inner.title} makes a "
                f"{inner.change}. Give an editor of weights, such as of='memit'."
            )
        for name in ("needs", "family", "batches"):
            object.__setattr__(self, name, getattr(inner, name))

    @property
    def inner(self) -> Editor:
        """The editor whose changes are restrained."""
        settings = {name: _tupled(value) for name, value in self.settings.items()}
        if isinstance(self.of, Editor):
            return replace(self.of, **settings)
        from . import make

        return make(self.of, **settings)

    def __getattr__(self, name: str) -> Any:
        # What is not the wrapper's own is the inner editor's: layers, statistics, max_norm, seed.
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def resolved(self, model: TextModel) -> Self:
        own = presets.resolved(self, model)
        return replace(own, of=self.inner.resolved(model), settings={})

    def arguments(self) -> dict[str, Any]:
        """The hyperparameters, ready for JSON: those of the inner editor under `settings`."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        inner = self.inner
        return {**own, "of": inner.name, "settings": inner.arguments()}


@dataclass(frozen=True)
class FilterEditor(WrappedEditor):
    """A wrapper that looks at one matrix at a time."""

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        found = self.inner.solve(model, edits, onto)
        earlier = onto.weights if onto is not None else {}
        changes = dict(found.changes)
        for name, change in changes.items():
            assert isinstance(change, LowRank | Dense)
            if len(change.shape) == 2:
                place = _place(model, name, name in found.transposed, earlier.get(name))
                changes[name] = self.restrained(model, change, place)
        return replace(found, changes=changes)

    @abstractmethod
    def restrained(
        self, model: TextModel, change: LowRank | Dense, place: Place
    ) -> LowRank | Dense:
        """What is left of the inner editor's change of one matrix."""


def _place(model: TextModel, name: str, transposed: bool, earlier: LowRank | Dense | None) -> Place:
    live = model.live
    now, pristine = live.value(name, live.deltas), live.pristine(name)
    if transposed:
        now, pristine = now.T, pristine.T
    now, pristine = as_map(now), as_map(pristine)
    return Place(name, now.cpu(), pristine.cpu(), earlier)


def _tupled(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that hyperparameters are."""
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value
