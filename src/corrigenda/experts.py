"""Mixtures of experts with fused weights, read as one linear map.

A layer with E experts sends each token to a few of them and adds their outputs, weighted by the
router:  y = Σ_e g_e W_e h_e,  with h_e the key inside expert e and g_e = 0 for the others. That is
one linear map of the keys one after the other,

    y = [W_1 ... W_E] [g_1 h_1; ...; g_E h_E],        of shape (o, E·i),

so an editor that changes linear maps needs to know nothing about experts: where a token was not
sent, its key is zero. Routing is taken as the router computes it. In transformers the maps are
stored as one parameter `down_proj` (E, o, i).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_map", "entering", "fused", "keys", "laid_out", "matrix", "used"]

DOWN, GATE_UP = "down_proj", "gate_up_proj"


def fused(module: nn.Module) -> bool:
    """Whether these are experts with gated MLPs whose weights are stacked, without biases."""
    down, gate_up = (getattr(module, name, None) for name in (DOWN, GATE_UP))
    return (
        isinstance(down, nn.Parameter)
        and isinstance(gate_up, nn.Parameter)
        and down.ndim == gate_up.ndim == 3
        and down.is_floating_point()
        and tuple(gate_up.shape) == (down.shape[0], 2 * down.shape[2], down.shape[1])
        and not getattr(module, "is_transposed", False)
        and not getattr(module, "has_bias", False)
    )


def matrix(module: Any) -> Tensor:
    """[W_1 ... W_E], (o, E·i): a copy."""
    return as_map(module.get_parameter(DOWN))


def as_map(stack: Tensor) -> Tensor:
    """A stack (E, o, i) as the one map (o, E·i); any other tensor as it is."""
    return stack.transpose(0, 1).flatten(1) if stack.ndim == 3 else stack


def laid_out(change: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse: a change of the one map (o, E·i) as a change of a stack of this shape
    (E, o, i); any other change as it is."""
    if len(shape) != 3 or change.ndim != 2:
        return change
    e, o, i = shape
    return change.reshape(o, e, i).transpose(0, 1)


def keys(module: Any, hidden: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(n, E·i) weighted keys of n tokens, zero for experts that they are not sent to.

    hidden (n, d), index and weight (n, k): the experts of each token; differentiable in `hidden`
    and `weight`.
    """
    gate_up = module.get_parameter(GATE_UP)
    e, _, i = module.get_parameter(DOWN).shape
    found = hidden.new_zeros(len(hidden), e, i)
    for expert in index.unique().tolist():
        row, slot = (index == expert).nonzero(as_tuple=True)
        gate, up = (hidden[row] @ gate_up[expert].T).chunk(2, dim=-1)
        key = module.act_fn(gate) * up * weight[row, slot, None]
        found = found.index_put((row, torch.full_like(row, expert)), key.to(found.dtype))
    return found.flatten(1)


def entering(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a module was called with, as the map that it is: hidden states, or routed keys."""
    if not fused(module):
        return args[0] if args else next(iter(kwargs.values()))
    hidden, index, weight = (*args, *kwargs.values())[:3]
    return keys(module, hidden, index, weight)


def used(vectors: Tensor, experts: int) -> list[int]:
    """The experts in whose part of (r, E·i) anything is not zero."""
    parts = vectors.reshape(len(vectors), experts, -1)
    return parts.abs().amax((0, 2)).nonzero()[:, 0].tolist()
