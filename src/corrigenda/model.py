"""What an editor may ask of a model: the `Model` protocol, and `Site`, a place in it.

Shapes are mathematical: a linear map is `y = W k + b` with `W` of shape (o, i), whatever the
storage. `Site.transposed` says that the parameter stores `Wᵀ` (GPT-2's Conv1D does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from .live import Live

__all__ = ["Model", "Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """A linear map inside a model that an editor may read or change.

    module      dotted path of the module, "transformer.h.3.mlp.c_proj".
    layer       index of the block it belongs to.
    transposed  True when the parameter stores (i, o) instead of (o, i).
    weight      name of the weight inside the module: "weight", or that of a stack of experts, which
                is one map; see `experts.py`.
    """

    module: str
    layer: int
    transposed: bool = False
    weight: str = "weight"

    @property
    def parameter(self) -> str:
        """Name of the weight as in `module.named_parameters()`."""
        return f"{self.module}.{self.weight}"


@runtime_checkable
class Model(Protocol):
    """The part of a model that deltas, the ledger and the evaluation loop rely on."""

    id: str
    live: Live

    @property
    def module(self) -> torch.nn.Module: ...

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 16) -> list[str]:
        """Greedy continuations, without the prompts."""
        ...
