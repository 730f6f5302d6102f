"""Linear maps whatever their storage: `y = W k + b` with `W` of shape (o, i).

`torch.nn.Linear` stores `W`; GPT-2's `Conv1D` stores `Wᵀ`. Which of the two is known from the
type of the module and never from its shape: a square matrix has the same shape both ways.
Quantised layers are read as the matrix that they stand for, and layers whose weights are away are
read where these are kept; see `storage.py`.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .. import experts
from ..errors import ModelError
from ..storage import away, dequantized, packed, sizes, stored

__all__ = ["bias", "image", "is_linear", "matrix", "shape", "transposed"]


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear map with a plain floating-point weight matrix, a quantised one,
    or a stack of experts, which is one (see `experts.py`)."""
    if experts.fused(module) or packed(module):
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return False
    if isinstance(module, Conv1D):
        return True
    return isinstance(module, nn.Linear)


def transposed(module: nn.Module) -> bool:
    """Whether the parameter stores `Wᵀ`, of shape (i, o).

    Raises `ModelError` for a module that is no linear map, such as one that an adapter wraps.
    """
    if isinstance(module, Conv1D):
        return True
    if is_linear(module):
        return False
    kind = type(module).__name__
    if hasattr(module, "base_layer"):
        raise ModelError(
            f"The layer is a {kind}, which an adapter wraps. Merge the adapter into the model "
            "first (`merge_and_unload()` in PEFT) or load the base model without it."
        )
    raise ModelError(
        f"The layer is a {kind}, not a linear map with a weight that can be read and changed. If "
        "the model is quantised, load it unquantised (dtype='bfloat16')."
    )


def matrix(module: nn.Module) -> Tensor:
    """The weight as a view of shape (o, i); a copy of experts, and of what is quantised or away.

    Raises `ModelError` as `transposed` does, and for a quantised weight that cannot be read.
    """
    if experts.fused(module):
        return experts.matrix(module)
    flipped = transposed(module)
    if packed(module):
        return dequantized(module)
    weight = module.weight
    assert isinstance(weight, Tensor)
    if away(weight):
        weight = stored(module, "weight")
    return weight.T if flipped else weight


def shape(module: nn.Module) -> tuple[int, int]:
    """(o, i). Raises `ModelError` as `transposed` does."""
    if experts.fused(module):
        rows, columns = experts.matrix(module).shape
        return int(rows), int(columns)
    flipped = transposed(module)
    if packed(module) and (found := sizes(module)):
        return found
    rows, columns = module.weight.shape  # type: ignore[union-attr]
    return (int(columns), int(rows)) if flipped else (int(rows), int(columns))


def bias(module: nn.Module) -> Tensor | None:
    """The bias b, shape (o,), or None."""
    found = getattr(module, "bias", None)
    if away(found):
        return stored(module, "bias")
    return found if isinstance(found, Tensor) else None


def image(module: nn.Module, k: Tensor) -> Tensor:
    """`W k + b` for keys k of shape (..., i), computed from the matrix: shape (..., o)."""
    v = k @ matrix(module).T.to(k)
    b = bias(module)
    return v if b is None else v + b.to(v)
