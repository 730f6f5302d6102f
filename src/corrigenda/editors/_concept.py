"""What the methods share that erase a concept from activations.

The eraser r(x) = x - u v (x - μ) of `numerics/erase.py` is fitted at one place after the other, each
on states that those before it have already erased, and acts there as an `Affine` change.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..acting import Affine, place
from ..delta import Change, Delta, Outcome
from ..edit import Concept
from ..editor import Editor, Solution
from ..models.text import TextModel
from ..numerics.erase import ConceptMoments, Eraser, leace
from ..numerics.probe import majority, probe_accuracy
from ._states import every, last, opened, states

__all__ = ["ConceptEditor", "affine_of", "classes_of", "split"]


@dataclass(frozen=True)
class ConceptEditor(Editor):
    """Hyperparameters of the erasing editors.

    tokens     "last": fitted at the last token of each text, where an answer is decided, and acting
               from there on; "all": fitted at all tokens, and acting at all.
    method     "leace", or "orth" for the orthogonal projection along the same subspace.
    affine     keep the mean of the states.
    shrink     estimate their covariance by shrinking it, for few texts of wide models.
    tolerance  directions that correlate less with the concept are left alone.
    held_out   share of the texts that is kept from the fit, to judge it by.

    An edit took if a linear probe told the concept better than a constant before, and no longer
    does: on the texts held out, or on those of the fit where fewer than four of a class are left.
    """

    tokens: Literal["last", "all"] = "last"
    method: Literal["leace", "orth"] = "leace"
    affine: bool = True
    shrink: bool = False
    tolerance: float = 0.01
    held_out: float = 0.25

    family: ClassVar[str] = "concept-erasure"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    takes: ClassVar[type] = Concept
    change: ClassVar[str] = "Affine"
    streams: ClassVar[bool] = True

    @abstractmethod
    def places(self, model: TextModel) -> list[str]:
        """Paths of the modules whose outputs are erased, in the order in which they run."""

    def solve(self, model: TextModel, edits: Sequence[Concept], onto: Delta | None) -> Solution:
        erasers = self.erasers(model, edits)
        changes = {place(path): self.joined(found) for path, found in erasers.items()}
        return Solution(changes, diagnostics=_ranks(erasers))

    def joined(self, erasers: Sequence[Eraser]) -> Affine:
        """Erasers at one place, one after the other."""
        where = "all" if self.tokens == "all" else "answer"
        first, *more = (affine_of(eraser, where) for eraser in erasers)
        for one in more:
            first = first.plus(one)
        return first

    def erasers(self, model: TextModel, edits: Sequence[Concept]) -> dict[str, list[Eraser]]:
        """Path -> the erasers of all concepts there, fitted with those before them at work."""
        changes: dict[str, Change] = {}
        found: dict[str, list[Eraser]] = {}
        for path in self.places(model):
            for edit in edits:
                with Delta(changes).applied(model):
                    x, z = self._rows(model, edit, path)
                eraser = leace(
                    ConceptMoments.of(x, z),
                    method=self.method,
                    affine=self.affine,
                    shrink=self.shrink,
                    tolerance=self.tolerance,
                )
                found.setdefault(path, []).append(eraser)
                changes[place(path)] = self.joined(found[path])
        return found

    def _rows(self, model: TextModel, edit: Concept, path: str) -> tuple[Tensor, Tensor]:
        """States x (n, d) of the texts to fit to, and their classes z (n, k), one-hot."""
        fit, _ = split(edit, self.held_out)
        read = self._read(model, [edit.texts[j] for j in fit], [path])[path]
        return read.x, torch.nn.functional.one_hot(classes_of(edit)[fit])[read.owner]

    def _read(self, model: TextModel, texts: Sequence[str], paths: Sequence[str]) -> dict:
        tokens = every if self.tokens == "all" else last
        return states(model, opened(model, texts), paths, tokens)

    def outcomes(
        self, model: TextModel, delta: Delta, edits: Sequence[Any], notes: Mapping[int, str]
    ) -> list[Outcome]:
        # A folded eraser shows where the linear map that it is in writes.
        paths = list(
            dict.fromkeys(
                name.partition("@")[0] if "@" in name else name.rpartition(".")[0]
                for name in delta.changes
            )
        )
        return [self._outcome(model, delta, edit, paths) for edit in edits]

    def _outcome(self, model: TextModel, delta: Delta, edit: Concept, paths: list[str]) -> Outcome:
        fit, held = split(edit, self.held_out)
        classes = classes_of(edit)
        enough = int(classes[held].bincount(minlength=1).min()) >= 4 if held else False
        chosen = held if enough else fit
        classes = classes[chosen].unique(return_inverse=True)[1]

        def read() -> tuple[float, float]:
            """Accuracy of the probe and of a constant, mean over places."""
            found = self._read(model, [edit.texts[j] for j in chosen], paths).values()
            told = [
                (probe_accuracy(s.x, z, groups=s.owner, folds=4 if enough else 1), majority(z))
                for s in found
                for z in (classes[s.owner],)
            ]
            return fmean(a for a, _ in told), fmean(c for _, c in told)

        before, constant = read()
        with delta.applied(model):
            after, _ = read()
        limit = constant + 2 * sqrt(constant * (1 - constant) / len(chosen))
        return Outcome(
            took=after <= limit and after < before,
            answer=f"a linear probe tells it at {before:.0%} of tokens before, {after:.0%} after; "
            f"a constant in {constant:.0%}",
            note=f"{len(chosen)} texts held out" if enough else "judged by the texts of the fit",
        )


def affine_of(eraser: Eraser, where: Literal["all", "answer"]) -> Affine:
    """x - u v (x - μ) as x + (-u) v x + u v μ."""
    return Affine(-eraser.u, eraser.v, eraser.u @ (eraser.v @ eraser.mean), where)


def classes_of(concept: Concept) -> Tensor:
    """(n,) the class of each text, counted through the sorted labels."""
    kinds = sorted(set(concept.labels))
    return torch.tensor([kinds.index(label) for label in concept.labels])


def split(concept: Concept, held_out: float) -> tuple[list[int], list[int]]:
    """Indices of texts to fit to and to judge by: this share of each class, evenly spread."""
    fit, held, seen = [], [], dict.fromkeys(concept.labels, 0)
    for j, label in enumerate(concept.labels):
        n = seen[label] = seen[label] + 1
        (held if int(n * held_out) > int((n - 1) * held_out) else fit).append(j)
    return fit, held


def _ranks(erasers: Mapping[str, Sequence[Eraser]]) -> dict[str, Any]:
    return {"ranks": {path: [e.rank for e in found] for path, found in erasers.items()}}
