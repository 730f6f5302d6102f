"""What comes back when the suspicious directions are taken out of a checkpoint.

With the base model at hand, its difference D = W' - W is taken back by its leading components:

    W'' = W' - D_r                (D_r the best approximation of rank r)

Without it, those of the suspicious tensor itself are (Youssef et al. 2025, 2505.20819, "bottom-rank
approximation"):

    W'' = W' - W'_r

which also removes what the unedited weights had in these directions. Either is a delta on the edited
model: it can be looked at, applied, and undone. Neither is an undo, which restores bits; see `live.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..delta import Delta, LowRank, Provenance
from ..edit import Rewrite
from ..errors import InputError
from ..metrics.statistics import wilson
from ..metrics.text import answer_of, begins, preserved
from ..models.linear import matrix, transposed
from ..models.text import TextModel
from ..numerics.spectrum import spectrum
from .changed import Changed

__all__ = ["Reversal", "judged", "without_change", "without_leading"]


@dataclass(frozen=True, slots=True)
class Reversal:
    """What a reversal does to edits and to everything else.

    edits     how many edits were in the model, by their own prompts.
    undone    of these, how many are not answered with their target any more.
    restored  how many are answered with the old object again (where it is known).
    others    how many other prompts were asked.
    moved     how many of them are answered differently.
    """

    edits: int
    undone: int
    restored: int
    others: int
    moved: int

    def to_dict(self) -> dict[str, Any]:
        shares = {
            f"{name}_interval": wilson(count, n) if n else None
            for name, count, n in (
                ("undone", self.undone, self.edits),
                ("restored", self.restored, self.edits),
                ("moved", self.moved, self.others),
            )
        }
        return {**asdict(self), **shares}


def without_change(edited: TextModel, change: Changed, rank: int = 1) -> Delta:
    """On the edited model: take back the leading components of its difference from the base."""
    changes, flipped = {}, set()
    for one in change.tensors:
        if one.spectrum is None:
            continue
        found = one.spectrum
        u = -(found.left[:, :rank] * found.values[:rank])
        changes[one.name] = LowRank(u.float(), found.right[:rank].float())
        if one.transposed:
            flipped.add(one.name)
    return _delta(edited, changes, flipped)


def without_leading(edited: TextModel, tensors: Sequence[str], rank: int = 1) -> Delta:
    """On the edited model: take out the leading components of some of its linear maps.

    Raises `InputError` for a name that is no linear map of the model.
    """
    changes, flipped = {}, set()
    for name in tensors:
        path, _, leaf = name.rpartition(".")
        try:
            module = edited.module.get_submodule(path)
        except AttributeError:
            module = None
        if module is None or leaf != "weight":
            raise InputError(
                f"{edited.id} has no linear map {name}. `corrigenda audit {edited.id}` lists them."
            )
        found = spectrum(matrix(module))
        u = -(found.left[:, :rank] * found.values[:rank])
        changes[name] = LowRank(u.float(), found.right[:rank].float())
        if transposed(module):
            flipped.add(name)
    return _delta(edited, changes, flipped)


def _delta(model: TextModel, changes: dict[str, LowRank], flipped: set[str]) -> Delta:
    return Delta(
        changes,
        frozenset(flipped),
        {name: model.live.pristine_hash(name) for name in changes},
        provenance=Provenance(editor="reversal", model=model.id),
    )


def judged(
    edited: TextModel, reversal: Delta, edits: Sequence[Rewrite], others: Sequence[str]
) -> Reversal:
    """Ask the edits and other prompts of the edited model, with the reversal and without it.

    The model may hold its edit in its weights or as a live delta; the reversal is applied on top.
    """
    prompts = [*(edit.text for edit in edits), *others]
    before = edited.generate(prompts)
    with reversal.applied(edited):
        after = edited.generate(prompts)
    n = len(edits)
    held = [
        (edit, now)
        for edit, was, now in zip(edits, before[:n], after[:n], strict=True)
        if begins(answer_of(was), edit.target)
    ]
    return Reversal(
        len(held),
        sum(not begins(answer_of(now), edit.target) for edit, now in held),
        sum(
            bool(edit.target_true and begins(answer_of(now), edit.target_true))
            for edit, now in held
        ),
        len(others),
        sum(not preserved(was, now) for was, now in zip(before[n:], after[n:], strict=True)),
    )
