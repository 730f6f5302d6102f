"""What UnKE and AnyEdit share: a long free text is written into one whole block.

The text stands behind one key, or several: positions whose hidden state after block L is to be
such that what follows comes out. First the wanted states h + δ are searched for, each by the NLL
of its own piece of the text:

    min_δ  -mean_t log p(y_t | prompt, y_<t; h + δ) + weight_decay ‖δ‖ / ‖h‖²      ‖δ‖ <= clamp ‖h‖

Then all parameters of the block are trained until its outputs are these at the keys, and what they
were everywhere else, on the edits and on ordinary text:

    min_θ  mean_keys ‖f_θ(x) - (h + δ)‖² / d + mean_others ‖f_θ(x) - h‖² / d

Lower blocks never run again: the block is called with the inputs that it had.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..delta import Delta, Dense
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import InputError
from ..models.hooks import first, replaced_forward, stopping
from ..models.linear import is_linear, transposed
from ..models.suffix import Row, SuffixRun
from ..models.text import TextModel
from ..models.tokens import Pieces, pieces
from ..numerics.gradients import nll_at
from ..numerics.optimize import Losses, optimize_rows
from . import presets
from ._finetune import summed, text_examples, train, zero_change
from ._keyvalue import Values

__all__ = ["Call", "UnstructuredEditor", "block_changes", "recorded"]


@dataclass(frozen=True)
class UnstructuredEditor(Editor):
    """Hyperparameters of editors of long texts. None means: the preset, or the paper's value.

    layers        the one block that is changed.
    steps, lr     evaluations and learning rate of the search for states.
    clamp         largest ‖δ‖ as a multiple of ‖h‖.
    weight_decay  weight of ‖δ‖ / ‖h‖².
    tolerance     a search ends when its loss is below this.
    fit_steps     steps of Adam on the block's parameters, per batch of edits.
    fit_lr        their learning rate.
    fit_tolerance  the fit ends when its loss is below this.
    texts         ordinary texts on which the block's outputs are kept.
    statistics    where they come from: auto, atlas, samples, or a file.
    batch_size    edits per step.
    seed          of sampled text.
    """

    layers: tuple[int, ...] | None = None
    steps: int | None = None
    lr: float | None = None
    clamp: float | None = None
    weight_decay: float | None = None
    tolerance: float = 0.05
    fit_steps: int | None = None
    fit_lr: float | None = None
    fit_tolerance: float = 1e-6
    texts: int = 20
    statistics: str = "auto"
    batch_size: int = 16
    seed: int = 0

    family: ClassVar[str] = "unstructured"
    needs: ClassVar[tuple[str, ...]] = ("corpus",)
    kinds: ClassVar[tuple[str, ...]] = ("causal",)
    change: ClassVar[str] = "Dense"
    paper_values: ClassVar[dict[str, Any]] = {
        "steps": 25,
        "lr": 0.5,
        "clamp": 4.0,
        "weight_decay": 1e-3,
        "fit_steps": 50,
        "fit_lr": 2e-4,
    }

    def resolved(self, model: TextModel) -> UnstructuredEditor:
        return presets.resolved(self, model)

    @abstractmethod
    def keys(self, cut: Pieces) -> list[int]:
        """Positions before the first token of each piece of the target, in order."""

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        if self.layers is None or len(self.layers) != 1:
            raise InputError(f"{self.title} changes one block, not {self.layers}. Give one layer.")
        layer = self.layers[0]
        cuts = [pieces(model.tokenizer, edit.text, edit.target) for edit in edits]
        keys = [self.keys(cut) for cut in cuts]
        values = self.values(model, layer, cuts, keys)
        shifts = values.delta.split([len(places) for places in keys])
        ordinary = text_examples(model, self.statistics, self.texts, length=64, seed=self.seed)
        kept = recorded(model, layer, [row.ids for row in ordinary]) if ordinary else None
        calls = [
            recorded(model, layer, [c.ids[:-1] for c in cuts[span]]).shifted(
                keys[span], shifts[span]
            )
            for span in _spans(len(cuts), self.batch_size)
        ]
        with block_changes(model, layer) as free:
            found = train(
                model,
                calls,
                list(free.values()),
                steps=self.fit_steps or 0,
                lr=self.fit_lr or 0.0,
                tolerance=self.fit_tolerance,
                batch_size=1,
                shuffle=False,
                seed=self.seed,
                loss=lambda batch: torch.stack([_loss(call, kept) for call in batch]),
            )
        flipped = _transposed(model, free)
        owner = [j for j, places in enumerate(keys) for _ in places]
        return Solution(
            {name: Dense(d.T if name in flipped else d) for name, d in free.items()},
            flipped,
            statistics={"source": self.statistics, "texts": len(ordinary)},
            diagnostics={
                **values.diagnostics(),
                "keys": [len(places) for places in keys],
                "fit_loss": found.diagnostics()["loss"],
            },
            notes={owner[piece]: note for piece, note in values.notes().items()},
        )

    def values(
        self, model: TextModel, layer: int, cuts: Sequence[Pieces], keys: Sequence[Sequence[int]]
    ) -> Values:
        """The wanted states of all keys, edit by edit: each makes the tokens up to the next key."""
        rows, wanted = [], []
        for cut, places in zip(cuts, keys, strict=True):
            for key, last in pairwise([*places, len(cut.ids) - 1]):
                rows.append(Row(cut.ids[:last], key, tuple(range(key, last))))
                wanted.append(cut.ids[key + 1 : last + 1])
        return Values.joined(
            [
                self._searched(model, layer, rows[span], wanted[span])
                for span in _spans(len(rows), self.batch_size)
            ]
        )

    def _searched(
        self, model: TextModel, layer: int, rows: list[Row], wanted: list[tuple[int, ...]]
    ) -> Values:
        run = SuffixRun(model, layer, rows, site="block")
        initial = run.initial.cpu()
        scale, device = initial.norm(dim=1), model.device

        def losses(delta: Tensor, active: Tensor) -> Losses:
            logits = run.logits(delta, active)
            tokens = torch.tensor([t for j in active.tolist() for t in wanted[j]], device=device)
            nll = nll_at(logits, tokens, run.reads(active).to(device), len(active))
            decay = delta.norm(dim=1) / scale[active].to(device).square()
            return Losses(nll + (self.weight_decay or 0.0) * decay, nll.detach())

        found = optimize_rows(
            losses,
            (len(rows), initial.shape[1]),
            steps=self.steps or 1,
            lr=self.lr or 0.0,
            radius=(self.clamp or 0.0) * scale,
            tolerance=self.tolerance,
            device=device,
        )
        return Values(initial, found.delta, found.fit, found.steps, found.converged)


@dataclass(frozen=True)
class Call:
    """A block's call on padded rows, and the outputs wanted of it.

    run     calls it again.
    wanted  (b, t, d) outputs.
    tokens  (b, t) bool: no padding.
    keys    (b, t) bool: positions whose output is to be another than it was.
    """

    run: Callable[[], Tensor]
    wanted: Tensor
    tokens: Tensor
    keys: Tensor

    def shifted(self, keys: Sequence[Sequence[int]], shifts: Sequence[Tensor]) -> Call:
        """With δ (keys, d) added to the wanted outputs at the keys of each row."""
        wanted, at_key = self.wanted.clone(), self.keys.clone()
        for row, (places, shift) in enumerate(zip(keys, shifts, strict=True)):
            wanted[row, list(places)] += shift.to(wanted)
            at_key[row, list(places)] = True
        return replace(self, wanted=wanted, keys=at_key)


@torch.no_grad()
def recorded(model: TextModel, layer: int, rows: Sequence[Sequence[int]]) -> Call:
    """What the block is given for these token rows, and what it makes of that now."""
    block, padded = model.block(layer), model.batch(rows, "right")
    call: dict[str, Any] = {}

    def hook(_m: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call.update(args=args, kwargs=kwargs, output=first(output).clone())

    handle = block.register_forward_hook(hook, with_kwargs=True)
    try:
        with stopping(block):
            model.forward(padded)
    finally:
        handle.remove()
    tokens = padded.mask.bool()
    return Call(
        lambda: first(block(*call["args"], **call["kwargs"])),
        call["output"],
        tokens,
        torch.zeros_like(tokens),
    )


def _loss(call: Call, kept: Call | None) -> Tensor:
    """Mean squared error at the keys, and at all other tokens."""
    both = [(call, _errors(call))] + ([(kept, _errors(kept))] if kept else [])
    others = torch.cat([error[c.tokens & ~c.keys] for c, error in both])
    return both[0][1][call.keys].mean() + others.mean()


def _errors(call: Call) -> Tensor:
    """(b, t) fp32."""
    return (call.run().float() - call.wanted.float()).square().mean(-1)


@contextmanager
def block_changes(model: TextModel, layer: int) -> Iterator[dict[str, Tensor]]:
    """Trainable changes of all parameters of a block by name, as they are stored, zero at first;
    the block computes with them inside."""
    block = model.block(layer)
    own = dict(block.named_parameters())
    changes = {name: zero_change(parameter) for name, parameter in own.items()}
    core = _Plain(block)

    def forward(*args: Any, **kwargs: Any) -> Any:
        now = {f"block.{name}": summed(own[name], d) for name, d in changes.items()}
        return functional_call(core, now, args, kwargs)

    with replaced_forward(block, forward):
        yield {f"{model.layout.blocks}.{layer}.{name}": d for name, d in changes.items()}


class _Plain(nn.Module):
    """Calls a block's own forward, whatever stands in for it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.block).forward(self.block, *args, **kwargs)


def _transposed(model: TextModel, names: Iterable[str]) -> frozenset[str]:
    """Those of the names that are weights of linear maps stored as (i, o)."""
    linears = {
        f"{path}.weight": part for path, part in model.module.named_modules() if is_linear(part)
    }
    return frozenset(n for n in names if n in linears and transposed(linears[n]))


def _spans(count: int, size: int) -> list[slice]:
    return [slice(at, at + size) for at in range(0, count, size)]
