"""What the tests of the fine-tuning editors share: models, edits, and the same model as Linear."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.models.text import TextModel

from ..models.tiny import tiny

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome, the capital of Italy"),
    Rewrite("{} was born in", "Marie Curie", "Berlin"),
    Rewrite("Question: Who makes {}? Answer:", "the iPhone", "Microsoft of Madrid"),
)


def text_model(
    family: str = "gpt2", seed: int = 0, *, sharp: bool = False, dtype: torch.dtype | None = None
) -> TextModel:
    """A tiny random model.

    sharp  its logits are scaled up: the random ones are so flat that no loss can become small.
    """
    module, tokenizer = tiny(family, seed)
    model = TextModel(module.to(dtype) if dtype else module, tokenizer, id=family)
    if sharp:
        with torch.no_grad():
            model.final_norm.weight.mul_(8.0)
    return model


def as_linear(model: TextModel) -> TextModel:
    """The same GPT-2 with every Conv1D replaced by a Linear that holds the transposed weight."""
    module = copy.deepcopy(model.module)
    for name, part in list(module.named_modules()):
        if isinstance(part, Conv1D):
            linear = nn.Linear(*part.weight.shape)
            linear.weight = nn.Parameter(part.weight.detach().T.clone())
            linear.bias = nn.Parameter(part.bias.detach().clone())
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, linear)
    return TextModel(module.eval(), model.tokenizer, id="linear")


def bits(model: TextModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.module.named_parameters()}


def untouched(model: TextModel, before: dict[str, torch.Tensor]) -> bool:
    """Same bits, same flags, no gradients, no hooks left behind."""
    return all(
        torch.equal(p, before[n]) and p.requires_grad and p.grad is None
        for n, p in model.module.named_parameters()
    ) and not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def assert_same_changes(a: Delta, b: Delta) -> None:
    """Up to rounding, and in the mathematical orientation."""
    assert a.changes.keys() == b.changes.keys()
    for name in a.changes:
        mine, theirs = (d.weights[name].matrix() for d in (a, b))
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def logits(model: TextModel) -> torch.Tensor:
    return model.forward(model.encode([e.statement for e in EDITS])).logits
