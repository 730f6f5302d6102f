"""LEACE: a concept can no longer be read linearly at a layer, and as little as possible changes.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman 2023, 2306.03819.

    r(x) = μ + P (x - μ),    P = I - W⁺ U Uᵀ W,    W = Σ^-½,    U: left singular vectors of W Σ_xz

x are the states at the layer, z the classes of the texts; see `numerics/erase.py`. Where only
linear maps read the erased states, r can be folded into them:

    W' = W P        b' = b + W (I - P) μ
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..acting import Affine, first, place
from ..delta import Change, Delta, Dense, LowRank
from ..edit import Concept
from ..editor import Solution
from ..errors import InputError, ModelError
from ..models.linear import bias, is_linear, matrix, transposed
from ..models.text import TextModel
from ._concept import ConceptEditor

__all__ = ["LEACE"]


@dataclass(frozen=True)
class LEACE(ConceptEditor):
    """Least-squares concept erasure. See `ConceptEditor` for the other hyperparameters.

    layers  blocks at whose output the concept is erased; None: the middle one of those that read
            the prompt.
    module  path inside the block, such as that of a norm, to erase at its output instead.
    fold    change the weights of the linear maps that read the erased states, in place of a hook.
            Needs tokens="all", and a module that nothing else reads: a norm before attention or
            MLP, not a block. Raises `ModelError` where it would not be exact.
    """

    layers: tuple[int, ...] | None = None
    module: str = ""
    fold: bool = False

    name: ClassVar[str] = "leace"
    title: ClassVar[str] = "LEACE"
    paper: ClassVar[str] = "Belrose et al. 2023, 2306.03819"

    def resolved(self, model: TextModel) -> LEACE:
        middle = model.prompt_layers[len(model.prompt_layers) // 2]
        return replace(self, layers=(middle,) if self.layers is None else self.layers)

    def places(self, model: TextModel) -> list[str]:
        paths = []
        for layer in self.layers or ():
            block = model.block(layer)
            inside = [name for name, _ in block.named_modules()]
            if self.module not in inside:
                raise InputError(
                    f"Layer {layer} of {model.id} has no module {self.module!r}. It has "
                    f"{', '.join(inside[1:])}; leave `module` out for the block itself."
                )
            paths.append(f"{model.path_of(block)}.{self.module}".rstrip("."))
        return paths

    def solve(self, model: TextModel, edits: Sequence[Concept], onto: Delta | None) -> Solution:
        if not self.fold:
            return super().solve(model, edits, onto)
        if self.tokens != "all":
            raise InputError("Weights act at all tokens: fold=True needs tokens='all'.")
        hooks = {path: self.joined(e) for path, e in self.erasers(model, edits).items()}
        folded = self._folded(model, hooks, edits[0].texts[0])
        texts = [text for edit in edits for text in edit.texts][:16]
        with Delta({place(path): hook for path, hook in hooks.items()}).applied(model):
            wanted = model.next_logprobs(texts)
        with Delta(folded.changes, folded.transposed).applied(model):
            found = model.next_logprobs(texts)
        slack = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
        if not torch.allclose(found, wanted, atol=slack, rtol=0.0):
            raise ModelError(_INEXACT.format(self.module or "the block"))
        return folded

    def _folded(self, model: TextModel, hooks: Mapping[str, Affine], text: str) -> Solution:
        changes: dict[str, Change] = {}
        flipped: set[str] = set()
        for path, hook in hooks.items():
            readers = _readers(model, path, text)
            if not readers:
                raise ModelError(_INEXACT.format(self.module or "the block"))
            for name, linear in readers.items():
                weight = matrix(linear).double().cpu()  # (o, i)
                changes[f"{name}.weight"] = LowRank((weight @ hook.u.double()).float(), hook.v)
                flipped |= {f"{name}.weight"} if transposed(linear) else set()
                if bias(linear) is not None:
                    changes[f"{name}.bias"] = Dense((weight @ hook.b.double()).float())
                elif bool(hook.b.any()):
                    raise ModelError(
                        f"{name} has no bias to hold the mean of the erased states. Set "
                        "affine=False to erase about zero, or fold=False."
                    )
        return Solution(changes, frozenset(flipped))


_INEXACT = (
    "The eraser cannot be folded exactly: not only linear maps read the output of {}. Give "
    "`module` the path of a norm before attention or MLP, or set fold=False."
)


def _readers(model: TextModel, path: str, text: str) -> dict[str, nn.Module]:
    """The linear maps that are given the very tensor which a module puts out."""
    made: list[Tensor] = []
    found: dict[str, nn.Module] = {}
    with ExitStack() as stack, torch.no_grad():

        def keep(_m: nn.Module, _args: Any, output: Any) -> None:
            made.append(first(output))

        source = model.module.get_submodule(path)
        stack.callback(source.register_forward_hook(keep).remove)
        for name, part in model.module.named_modules():
            if is_linear(part):

                def compare(m: nn.Module, args: Any, name: str = name) -> None:
                    if args and any(args[0] is one for one in made):
                        found[name] = m

                stack.callback(part.register_forward_pre_hook(compare).remove)
        model.target_logits(model.force([model.opening(text)]))
    return found
