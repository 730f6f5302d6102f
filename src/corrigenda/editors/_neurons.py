"""What editors share that put extra key-value units beside an MLP.

    y = MLP(x) + v act(k x + bias)         k: (n, i), bias: (n,), v: (o, n)

How strongly a unit is active is computed in one place, while it is trained and when it is used.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor, nn

from ..acting import fired
from ._finetune import rerouted

__all__ = ["with_units"]


def with_units(
    mlp: nn.Module, k: Tensor, bias: Tensor, v: Tensor, gate: Tensor, activation: str
) -> AbstractContextManager[None]:
    """The MLP with units beside it, differentiable in their parameters; see `acting.Neurons`."""

    def output(x: Tensor, own: Tensor) -> Tensor:
        return (own.float() + fired(x, k, bias, gate, activation) @ v.T).to(own.dtype)

    return rerouted(mlp, output)
