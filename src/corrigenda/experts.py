"""Mixtures of experts with fused weights, read as one linear map.

A layer with E experts sends each token to a few of them and adds their outputs, weighted by the
router:  y = Σ_e g_e W_e h_e,  with h_e the key inside expert e and g_e = 0 for the others. That is
one linear map of the keys one after the other,

    y = [W_1 ... W_E] [g_1 h_1; ...; g_E h_E],        of shape (o, E·i),

so an editor that changes linear maps needs to know nothing about experts: where a token was not
sent, its key is zero. Routing is taken as the router computes it. In transformers the maps are
stored as one parameter (E, o, i).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_map", "entering", "fused", "held", "keys", "laid_out", "matrix", "stacks", "used"]


def stacks(module: nn.Module) -> tuple[str, str] | None:
    """Names of the two stacked parameters of experts with gated MLPs and no biases: the maps down
    (E, o, i) and those of gate and key together (E, 2i, o). None for any other module."""
    if getattr(module, "is_transposed", False) or getattr(module, "has_bias", False):
        return None
    own = {n: p for n, p in module.named_parameters(recurse=False) if p.is_floating_point()}
    if len(own) != 2 or any(p.ndim != 3 for p in own.values()):
        return None
    for down, up in (tuple(own), tuple(own)[::-1]):
        e, o, i = own[down].shape
        if tuple(own[up].shape) == (e, 2 * i, o):
            return down, up
    return None


def fused(module: nn.Module) -> bool:
    """Whether this is a stack of experts that is read as one linear map."""
    return stacks(module) is not None


def held(module: nn.Module) -> int:
    """How many experts a module is a stack of; 0 for any other module."""
    return len(_stacked(module)[0]) if fused(module) else 0


def matrix(module: Any) -> Tensor:
    """[W_1 ... W_E], (o, E·i): a copy."""
    return as_map(_stacked(module)[0])


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
    down, gate_up = _stacked(module)
    e, _, i = down.shape
    found = hidden.new_zeros(len(hidden), e, i)
    for expert in index.unique().tolist():
        row, slot = (index == expert).nonzero(as_tuple=True)
        gate, up = (hidden[row] @ gate_up[expert].T).chunk(2, dim=-1)
        key = module.act_fn(gate) * up * weight[row, slot, None]
        found = found.index_put((row, torch.full_like(row, expert)), key.to(found.dtype))
    return found.flatten(1)


def _stacked(module: nn.Module) -> tuple[Tensor, Tensor]:
    names = stacks(module)
    assert names is not None
    return module.get_parameter(names[0]), module.get_parameter(names[1])


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
