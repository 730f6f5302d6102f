"""What differs between two checkpoints: which tensors, by how much, and in which directions.

For each tensor with D = W' - W: whether it differs at all, its norm, and the singular values of D.
An edit leaves few tensors, and in them few directions: ROME and MEMIT write a rank-one change per
edit and layer, D = value keyᵀ, so the first singular vectors are its value and its key (up to one
sign). Fine-tuning leaves a D of full rank. Both checkpoints are rounded to their dtype, and the
rank does not count directions that such rounding makes.

The key of a closed-form editor is C⁻¹k: the direction that answers the subject's key k and little
else, not k itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..delta import Delta, Dense, LowRank, Provenance
from ..errors import InputError, WrongBaseError
from ..experts import as_map
from ..models.linear import is_linear, transposed
from ..models.text import TextModel
from ..numerics.spectrum import Spectrum, rounding, spectrum
from ..verify import named_tensors

__all__ = ["Changed", "TensorChange", "changed"]

SHOWN = 8  # singular values that are reported


@dataclass(frozen=True, slots=True, eq=False)
class TensorChange:
    """How one tensor differs. Its difference is D, of shape (o, i) for a linear map.

    norm, relative  Frobenius norm of D, and its share of the norm of the tensor before.
    largest         largest absolute entry of D.
    entries         share of entries that differ.
    rank            singular values above the rounding of the checkpoints; None for a vector, and
                    for a matrix whose spectrum was not asked for.
    spectrum        of D, or None likewise.
    transposed      the parameter stores (i, o).
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    relative: float
    largest: float
    entries: float
    rank: int | None
    spectrum: Spectrum | None
    difference: Tensor
    transposed: bool = False

    @property
    def key(self) -> Tensor | None:
        """(i,) unit vector: the input direction that the change answers most. Its sign, together
        with that of `value`, is arbitrary."""
        return None if self.spectrum is None else self.spectrum.right[0]

    @property
    def value(self) -> Tensor | None:
        """(o,) what the change adds for an input equal to `key`."""
        if self.spectrum is None:
            return None
        return self.spectrum.left[:, 0] * self.spectrum.values[0]

    def to_dict(self) -> dict[str, Any]:
        found = self.spectrum
        shape: dict[str, Any] = {}
        if found is not None:
            shape = {
                "rank": self.rank,
                "stable_rank": found.stable_rank,
                "effective_rank": found.effective_rank,
                "entropy": found.entropy,
                "leading": found.leading,
                "singular_values": found.values[:SHOWN].tolist(),
            }
        return {
            "tensor": self.name,
            "shape": list(self.shape),
            "norm": self.norm,
            "relative": self.relative,
            "largest": self.largest,
            "entries": self.entries,
            **shape,
        }


@dataclass(frozen=True, slots=True)
class Changed:
    """Two checkpoints side by side.

    tensors    those that differ, the most changed (relative to their size) first.
    unchanged  how many are equal bit for bit.
    missing    names that only the first has; `added` only the second.
    """

    tensors: tuple[TensorChange, ...]
    unchanged: int
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors that differ."""
        return tuple(one.name for one in self.tensors)

    @property
    def looks_like(self) -> str:
        """In words, what kind of change leaves such a trace. A guess from the ranks alone."""
        if not self.tensors:
            return "no change"
        if not self.unchanged:
            return "every tensor differs: further training, a merge, or another model"
        maps = [one for one in self.tensors if one.rank is not None]
        ranks = {one.rank for one in maps}
        where = "one linear map" if len(maps) == 1 else f"{len(maps)} linear maps"
        if maps and ranks == {1} and len(maps) == len(self.tensors):
            return f"rank one in {where}: one locate-then-edit change (as ROME or MEMIT leave it)"
        if maps and all(4 * (one.rank or 0) <= min(one.shape) for one in maps):
            listed = ", ".join(str(one.rank) for one in maps)
            return (
                f"low rank ({listed}) in {where}: several edits, an adapter, or brief fine-tuning"
            )
        plural = "s" if len(self.tensors) != 1 else ""
        return f"high rank in {len(self.tensors)} tensor{plural}: fine-tuning of a part"

    def delta(self, model: TextModel) -> Delta:
        """The difference as a delta on the first checkpoint, with directions of rounding left out:
        what it takes to get from one to the other, to apply, look at, or take back.

        Raises `WrongBaseError` where a tensor does not belong to the model.
        """
        changes: dict[str, LowRank | Dense] = {}
        for one in self.tensors:
            model.live.parameter(one.name)
            found, rank = one.spectrum, one.rank or 0
            if found is not None and rank * sum(one.shape) < one.difference.numel():
                u = found.left[:, :rank] * found.values[:rank]
                changes[one.name] = LowRank(u.float(), found.right[:rank].float())
            else:
                changes[one.name] = Dense(one.difference.float())
        return Delta(
            changes,
            frozenset(one.name for one in self.tensors if one.transposed),
            {one.name: model.live.pristine_hash(one.name) for one in self.tensors},
            provenance=Provenance(editor="difference", model=model.id),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "tensors": [one.to_dict() for one in self.tensors],
            "unchanged": self.unchanged,
            "missing": list(self.missing),
            "added": list(self.added),
            "looks_like": self.looks_like,
        }


def changed(
    base: TextModel, edited: TextModel | nn.Module | Mapping[str, Tensor], *, most: int = 32
) -> Changed:
    """Compare every tensor of two checkpoints of one architecture.

    base    the unedited model, as it is now.
    edited  the other one: a model, or its tensors by name.
    most    the spectrum is computed of so many of the most changed matrices.

    Raises `InputError` when the two share no tensor, or one has another shape.
    """
    before, names = named_tensors(base.module)
    after = _tensors(edited, names)
    shared = [name for name in before if name in after]
    if not shared:
        raise InputError(
            f"The two checkpoints share no tensor: {base.id} has {_some(before)}, the other "
            f"{_some(after)}. Compare two checkpoints of one architecture."
        )
    found: list[TensorChange] = []
    for name in shared:
        a, b = before[name], after[name].to(before[name].device)
        if a.shape != b.shape:
            raise InputError(
                f"{name} has the shape {tuple(a.shape)} in one checkpoint and {tuple(b.shape)} in "
                "the other. Compare two checkpoints of one architecture and vocabulary."
            )
        if a.dtype == b.dtype and torch.equal(a, b):
            continue
        found.append(_compared(base, name, a, b))
    found.sort(key=lambda one: (-one.relative, one.name))
    matrices = [one for one in found if one.difference.ndim == 2][:most]
    spectra = {one.name: _ranks(one, before[one.name], after[one.name]) for one in matrices}
    return Changed(
        tuple(spectra.get(one.name, one) for one in found),
        len(shared) - len(found),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
    )


def _tensors(edited: Any, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The other checkpoint's tensors, under the first names that the base gives them."""
    if isinstance(edited, Mapping):
        return {names.get(name, name): tensor for name, tensor in edited.items()}
    module = edited if isinstance(edited, nn.Module) else edited.module
    return {names.get(n, n): t for n, t in named_tensors(module)[0].items()}


def _compared(base: TextModel, name: str, a: Tensor, b: Tensor) -> TensorChange:
    flipped = _flipped(base, name)
    gap = as_map(b.double() - a.double())
    gap = (gap.T if flipped else gap).cpu()
    norm, whole = float(gap.norm()), float(a.double().norm())
    return TensorChange(
        name=name,
        shape=tuple(gap.shape),
        norm=norm,
        relative=norm / whole if whole else float("inf") if norm else 0.0,
        largest=float(gap.abs().max()) if gap.numel() else 0.0,
        entries=float((gap != 0).double().mean()),
        rank=None,
        spectrum=None,
        difference=gap,
        transposed=flipped,
    )


def _ranks(one: TensorChange, a: Tensor, b: Tensor) -> TensorChange:
    found = spectrum(one.difference)
    noise = max(rounding(as_map(a)), rounding(as_map(b)))
    return replace(one, spectrum=found, rank=found.rank(noise))


def _flipped(base: TextModel, name: str) -> bool:
    path, _, leaf = name.rpartition(".")
    try:
        module = base.module.get_submodule(path)
    except AttributeError:
        raise WrongBaseError(f"{base.id} has no module {path}.") from None
    return leaf == "weight" and is_linear(module) and transposed(module)


def _some(tensors: Mapping[str, Any]) -> str:
    return ", ".join(list(tensors)[:3]) or "none"
