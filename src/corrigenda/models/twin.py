"""A second module tree over the same weights, with a life of its own.

Hooks, gradients' flags and live deltas belong to a tree of modules, the numbers to tensors. A twin
has its own modules and `Parameter` objects over the very tensors of the model that it is made of,
so it costs no memory worth speaking of, and one may be edited, traced and solved on while another
answers. An edit that is live on a twin puts a new tensor in place of the one it touches, there
alone (see `Live.share`); n states of a model cost the base and the touched tensors.

Each tree is for one thread at a time. Twins are made of a model that no thread is running.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from ..errors import ModelError
from ..live import Live
from ..storage import away
from .text import TextModel

__all__ = ["twin"]

M = TypeVar("M", bound=TextModel)


def twin(model: M) -> M:
    """The same model on a tree of its own, with the same deltas live on it.

    Raises `ModelError` for a model with weights that are kept away from its modules.
    """
    module = model.module
    gone = [name for name, p in module.named_parameters() if away(p)]
    if gone:
        raise ModelError(
            f"{gone[0]} of {model.id} is away (offloaded), so a second tree cannot stand over it. "
            "Load the model so that it fits on its devices."
        )
    model.live.share()
    shared = _alike(module)
    tree = copy.deepcopy(module, shared)
    if handles := {handle.id for handle in model.live._hooks}:
        _without_hooks(tree, handles)
    other = copy.copy(model)
    other._module = tree
    other._memory = {}
    other.live = Live(other, tree)
    other.live.share()
    other.live.adopt(model.live)
    return other


def _alike(module: nn.Module) -> dict[int, object]:
    """What a copy takes as it is, by identity: tensors, in parameters of their own so that one may
    be replaced; configurations. Tied weights stay tied."""
    kept: dict[int, object] = {}
    for parameter in module.parameters():
        plain = type(parameter) is nn.Parameter  # those of quantised weights carry more
        kept[id(parameter)] = (
            nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)
            if plain
            else parameter
        )
    for buffer in module.buffers():
        kept[id(buffer)] = buffer
    for part in module.modules():
        for name in ("config", "generation_config"):
            if (config := vars(part).get(name)) is not None:
                kept[id(config)] = config
    return kept


def _without_hooks(tree: nn.Module, handles: set[int]) -> None:
    """Take from a copied tree the hooks that were copied with it; it places its own."""
    for part in tree.modules():
        for name, value in vars(part).items():
            if name.startswith("_forward") and "hooks" in name and hasattr(value, "pop"):
                for handle in handles:
                    value.pop(handle, None)
