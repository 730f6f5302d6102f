"""How modules keep their weights: plainly, packed, or away.

    plain   a floating-point parameter of the map's own shape: changes are written into it
    packed  quantised to 8 or 4 bits, in another shape or dtype, with scales beside it
    away    not on any device until the module runs; kept in memory or on disk (accelerate)

What cannot be written stands still, and its change acts beside it: `y = W x + b` becomes
`y + x Δᵀ`. So can every change of a linear map, which then loses nothing to the dtype of W.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .errors import ModelError
from .experts import stacks

__all__ = [
    "away",
    "dequantized",
    "device_of",
    "maps",
    "packed",
    "packed_hash",
    "present",
    "sizes",
    "stored",
    "tensor_hash",
]


def tensor_hash(tensor: Tensor) -> str:
    """sha256 over dtype, shape and bytes; of a tensor that is made of others, over those."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        parts = "".join(f"{name} {tensor_hash(getattr(tensor, name))}\n" for name in names)
        return hashlib.sha256(parts.encode()).hexdigest()
    flat = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{flat.dtype} {tuple(flat.shape)}".encode())
    digest.update(flat.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sizes(module: nn.Module) -> tuple[int, int] | None:
    """(o, i) as a linear layer says it of itself; None for any other module."""
    found = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return found if all(isinstance(n, int) for n in found) else None  # type: ignore[return-value]


def packed(module: nn.Module) -> bool:
    """Whether this is a linear map whose weight is quantised."""
    shape = sizes(module)
    if shape is None or hasattr(module, "base_layer"):  # an adapter around a linear map
        return False
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return callable(getattr(module, "dequantize", None))
    return (
        not weight.is_floating_point()
        or weight.dtype.itemsize == 1  # 8-bit floats mean nothing without their scales
        or tuple(weight.shape) != shape
        or is_traceable_wrapper_subclass(weight)
    )


def maps(module: nn.Module, leaf: str) -> bool:
    """Whether the change of this tensor of the module is a change `x Δᵀ`, or a constant, added to
    its output: the weight and bias of linear maps, and the stacked maps down of experts."""
    if (names := stacks(module)) is not None:
        return leaf == names[0]
    # Conv1D, which stores Wᵀ, calls its sizes nf and nx.
    plain = isinstance(module, nn.Linear) or (hasattr(module, "nf") and hasattr(module, "nx"))
    return leaf in ("weight", "bias") and (plain or packed(module))


# -- away -------------------------------------------------------------------------------------


def away(tensor: Tensor | None) -> bool:
    """Whether a tensor's values are not on any device now."""
    return tensor is not None and tensor.is_meta


@contextmanager
def present(module: nn.Module) -> Iterator[None]:
    """The module's own tensors have their values inside the block.

    Raises `ModelError` where they are nowhere to be had.
    """
    if not any(p.is_meta for p in module.parameters(recurse=False)):
        yield
        return
    from accelerate.utils import align_module_device  # who sent them away

    with align_module_device(module):
        if any(p.is_meta for p in module.parameters(recurse=False)):
            raise ModelError(
                f"The weights of a {type(module).__name__} are on the meta device, and nothing "
                "says where their values are. Load the model with corrigenda.load(..., "
                "device_map='auto'), or dispatch it with accelerate after its weights are loaded."
            )
        yield


def stored(module: nn.Module, leaf: str) -> Tensor:
    """A tensor of a module as it is kept: that tensor itself, or a copy where it is away."""
    found = getattr(module, leaf)
    if not away(found):
        return found.data
    with present(module):
        return getattr(module, leaf).data.clone()


def device_of(module: nn.Module) -> torch.device:
    """Where the module computes, also while its tensors are away."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    for tensor in tensors:
        if not tensor.is_meta:
            return tensor.device
    hook: Any = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,)):
        if (found := getattr(one, "execution_device", None)) is not None:
            return torch.device(found)
    return torch.device("cpu")


# -- packed -----------------------------------------------------------------------------------


@torch.no_grad()
def dequantized(module: Any) -> Tensor:
    """The weight (o, i) of a packed linear map in floating point, a copy.

    The module's own `dequantize()` is asked first, then the tensor's, then bitsandbytes. Raises
    `ModelError` where none of them knows.
    """
    with present(module):
        weight: Any = getattr(module, "weight", None)
        found: Any = None
        if callable(getattr(module, "dequantize", None)):
            found = module.dequantize()
        elif isinstance(weight, Tensor):
            if weight.is_quantized or is_traceable_wrapper_subclass(weight):
                found = weight.dequantize()
            elif hasattr(weight, "quant_state") or hasattr(weight, "SCB"):
                from transformers.integrations.bitsandbytes import dequantize_bnb_weight

                module.state_dict()  # back from the order of a CPU kernel, if it was in that
                state = getattr(module, "state", None)
                found = dequantize_bnb_weight(weight, state)  # type: ignore[arg-type]
    if not isinstance(found, Tensor) or tuple(found.shape) != sizes(module):
        raise ModelError(
            f"The layer is a {type(module).__name__}, whose quantised weight cannot be read as a "
            f"matrix of shape {sizes(module)}. Give its class a method dequantize() that returns "
            "one, or load the model unquantised (dtype='bfloat16')."
        )
    return found.detach()


def packed_hash(module: nn.Module) -> str:
    """sha256 over all that a packed map is stored as, scales included, without its bias."""
    with present(module):
        parts: dict[str, Tensor] = dict(module.state_dict())
        lines = [
            f"{name} {tensor_hash(tensor)}\n"
            for name, tensor in sorted(parts.items())
            if name != "bias" and isinstance(tensor, Tensor)
        ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
