"""Linear maps whatever their storage: `y = W k + b` with `W` of shape (o, i).

`torch.nn.Linear` stores `W`; GPT-2's `Conv1D` stores `Wᵀ`. Which of the two is known from the
type of the module and never from its shape: a square matrix has the same shape both ways.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .. import experts
from ..errors import ModelError

__all__ = ["bias", "image", "is_linear", "matrix", "shape", "transposed"]


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear map with a plain floating-point weight matrix, or a stack of
    experts, which is one (see `experts.py`)."""
    if experts.fused(module):
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return False
    if isinstance(module, Conv1D):
        return True
    # Quantised layers subclass nn.Linear but pack their weight into another shape or dtype.
    return isinstance(module, nn.Linear) and tuple(weight.shape) == (
        module.out_features,
        module.in_features,
    )


def transposed(module: nn.Module) -> bool:
    """Whether the parameter stores `Wᵀ`, of shape (i, o).

    Raises `ModelError` for a module that is no linear map with a plain weight, such as a
    quantised layer or one that an adapter wraps.
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
        f"The layer is a {kind}, not a linear map with a floating-point weight that can be read "
        "and changed. If the model is quantised, load it unquantised (dtype='bfloat16')."
    )


def matrix(module: nn.Module) -> Tensor:
    """The weight as a view of shape (o, i); of experts a copy. Raises `ModelError` as `transposed`
    does."""
    if experts.fused(module):
        return experts.matrix(module)
    weight = module.weight
    flipped = transposed(module)
    assert isinstance(weight, Tensor)
    return weight.T if flipped else weight


def shape(module: nn.Module) -> tuple[int, int]:
    """(o, i). Raises `ModelError` as `transposed` does."""
    rows, columns = matrix(module).shape
    return int(rows), int(columns)


def bias(module: nn.Module) -> Tensor | None:
    """The bias b, shape (o,), or None."""
    found = getattr(module, "bias", None)
    return found if isinstance(found, Tensor) else None


def image(module: nn.Module, k: Tensor) -> Tensor:
    """`W k + b` for keys k of shape (..., i), computed from the matrix: shape (..., o)."""
    v = k @ matrix(module).T
    b = bias(module)
    return v if b is None else v + b
