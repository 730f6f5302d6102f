"""Concept scrubbing: LEACE at every layer, each fitted on states that are scrubbed upstream.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman 2023, 2306.03819, section 6.

    for each norm in the order of running:  x ← r(x),  r fitted to x as it is by then

Attention and MLP read the concept nowhere. What the unembedding reads is left alone. An eraser that
was fitted to unscrubbed states would be wrong as soon as a layer before it has one.

Erased are the norms that attention and MLP read through. Where they read the residual stream
itself, whose norms stand behind (BERT, OLMo 2), these norms are erased and what enters the first
block: the stream is then a sum, or a norm, of erased terms.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..models.layouts import Layout
from ..models.text import TextModel
from ._concept import ConceptEditor

__all__ = ["Scrubbing"]


@dataclass(frozen=True)
class Scrubbing(ConceptEditor):
    """Erase a concept from all that attention and MLP read. See `ConceptEditor`."""

    name: ClassVar[str] = "scrubbing"
    title: ClassVar[str] = "Concept scrubbing"
    paper: ClassVar[str] = "Belrose et al. 2023, 2306.03819"

    def places(self, model: TextModel) -> list[str]:
        wanted = {}
        for layer in range(model.n_layers):
            row, index = model.row(layer)
            block = model.block(layer)
            inner = [n for n in _norms(model, block) if not n.startswith(f"{row.attention}.")]
            behind = [n for n in inner if n in (row.attention_norm, row.post_norm)]
            before = [n for n in inner if n not in behind]
            stream = row.norm_last or not before
            if stream and index == 0:
                wanted[_entry(model, row)] = None
            path = model.path_of(block)
            wanted |= {f"{path}.{n}": None for n in (inner if stream else before)}
        encoder = model.row(0)[0]
        if encoder is not model.layout and encoder.final_norm:
            wanted[encoder.final_norm] = None  # cross-attention reads the encoder through it
        final = f"{model.path_of(model.blocks[-1])}.{model.layout.post_norm}"
        return [path for path in _order(model, list(wanted)) if path != final]


def _norms(model: TextModel, module: nn.Module) -> list[str]:
    """Paths of the norms of the residual stream's width inside a module."""
    return [
        name
        for name, part in module.named_modules()
        if type(part).__name__.endswith("Norm")
        and isinstance(weight := getattr(part, "weight", None), torch.Tensor)
        and weight.shape == (model.width,)
    ]


def _entry(model: TextModel, row: Layout) -> str:
    """What enters the first block: the norm beside the embedding, or else the embedding."""
    around = row.embedding.rpartition(".")[0]
    beside = [
        f"{around}.{n}" for n in _norms(model, model.module.get_submodule(around)) if "." not in n
    ]
    return next((n for n in beside if n != row.final_norm), row.embedding)


def _order(model: TextModel, paths: list[str]) -> list[str]:
    """The paths in the order in which their modules run."""
    ran: dict[str, None] = {}
    with ExitStack() as stack, torch.no_grad():
        for path in paths:

            def note(_m: nn.Module, _args: Any, path: str = path) -> None:
                ran[path] = None

            module = model.module.get_submodule(path)
            stack.callback(module.register_forward_pre_hook(note).remove)
        model.target_logits(model.force([model.opening("A text")]))
    return list(ran)
