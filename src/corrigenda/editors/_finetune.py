"""What the fine-tuning editors share: examples, a trainable change beside the weights, the loop.

The loss is the mean over edits of the mean NLL of their target tokens (methods differ in which
tokens and positions those are). What is trained is a change Δ in fp32, not a weight: hooks let
the model compute with W + Δ while its parameters stay what they are, so a solve that is
interrupted leaves nothing behind.

Adam: Kingma and Ba 2014, 1412.6980.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..delta import Dense
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import UnstableEditError
from ..experts import entering
from ..model import Site
from ..models.asked import Asked
from ..models.linear import bias as bias_of
from ..models.linear import matrix
from ..models.moments import corpus_for
from ..models.text import TextModel
from . import presets

__all__ = [
    "FineTuneEditor",
    "Loss",
    "Trained",
    "dense_changes",
    "every_token",
    "examples",
    "linear_sites",
    "losses",
    "read_logits",
    "rerouted",
    "summed",
    "text_examples",
    "train",
    "zero_change",
]

Loss = Callable[[list[Any]], Tensor]
"""Rows of any kind -> (n,) what each of them loses; differentiable."""


@dataclass(frozen=True)
class FineTuneEditor(Editor):
    """Hyperparameters of the fine-tuning editors. None means: the preset for the model, or else
    the paper's value.

    layers      blocks that are changed.
    steps       passes over all edits (with no more edits than `batch_size`: gradient steps).
    lr          learning rate of Adam.
    tolerance   a batch whose mean NLL is below this takes no step; training ends when the mean
                over all edits is.
    batch_size  edits per gradient step.
    seed        of whatever is random: order of edits, initial factors, dropout.
    """

    layers: tuple[int, ...] | None = None
    steps: int | None = None
    lr: float | None = None
    tolerance: float = 0.01
    batch_size: int = 64
    seed: int = 0

    family: ClassVar[str] = "fine-tuning"
    change: ClassVar[str] = "Dense"

    def resolved(self, model: TextModel) -> FineTuneEditor:
        return presets.resolved(self, model)

    def sites(self, model: TextModel) -> list[Site]:
        """The down-projections of the chosen blocks."""
        return [model.site("down", layer) for layer in self.layers or ()]

    def trained(
        self,
        model: TextModel,
        rows: Sequence[Any],
        parameters: Sequence[Tensor],
        *,
        shuffle: bool = False,
        loss: Loss | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> Trained:
        """Run the loop with this editor's settings; see `train`."""
        return train(
            model,
            rows,
            parameters,
            steps=self.steps or 0,
            lr=self.lr or 0.0,
            tolerance=self.tolerance,
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            loss=loss,
            after_step=after_step,
        )

    def dense(
        self,
        model: TextModel,
        rows: Sequence[Any],
        *,
        bias: bool,
        box: float | None = None,
        shuffle: bool = False,
        loss: Loss | None = None,
        projection: Callable[[str, Tensor], Tensor] | None = None,
    ) -> Solution:
        """Train a dense change of every site, of its bias too if wanted, within ±box.

        loss        of the rows, in place of the examples' NLL.
        projection  (name, change) -> change, applied after every step. A linear one projects the
                    step itself, since changes are 0 at first.
        """
        sites = self.sites(model)

        @torch.no_grad()
        def project() -> None:
            for name, change in free.items():
                if box is not None:
                    change.clamp_(-box, box)
                if projection is not None:
                    change.copy_(projection(name, change))

        with dense_changes(model, sites, bias=bias) as free:
            found = self.trained(
                model, rows, list(free.values()), shuffle=shuffle, loss=loss, after_step=project
            )
        return Solution(
            {name: Dense(change) for name, change in free.items()},
            frozenset(s.parameter for s in sites if s.transposed),
            diagnostics=found.diagnostics(),
            notes=found.notes(self.tolerance),
        )


# -- examples and their loss ------------------------------------------------------------------


def examples(
    model: TextModel,
    edits: Sequence[Rewrite],
    *,
    loss: Literal["target", "prompt_last"] = "target",
    eos: bool = False,
) -> list[Asked]:
    """One example per edit.

    loss  "target": each target token is predicted from the prompt and the target before it.
          "prompt_last": all target tokens are wanted where the first one is.
    eos   the target ends with the EOS token, if the tokenizer has one.
    """
    found = [model.asked(e.text, e.target, e.following, eos=eos) for e in edits]
    return found if loss == "target" else [_bag(model, row) for row in found]


def _bag(model: TextModel, row: Asked) -> Asked:
    """All wanted tokens at the first read, as a bag, with nothing of the target to be seen."""
    reads = (row.reads[0],) * len(row.wanted)
    if row.decoder:
        return replace(row, reads=reads, decoder=row.decoder[: reads[0] + 1])
    return replace(
        row, reads=reads, ids=row.ids if model.kind == "masked" else row.ids[: reads[0] + 1]
    )


def text_examples(
    model: TextModel, source: str, count: int, *, length: int = 128, seed: int = 0
) -> list[Asked]:
    """The first texts of a corpus, up to `length` tokens of each; every token is predicted.

    source  see `corpus_for`.
    """
    texts = islice(corpus_for(model, source, seed=seed).texts(), count)
    rows = [tuple(model.ids(text)[: length + 1]) for text in texts]
    return [every_token(ids) for ids in rows if len(ids) > 1]


def every_token(ids: Sequence[int]) -> Asked:
    """A text in which every token but the first is predicted."""
    return Asked(tuple(ids[:-1]), tuple(range(len(ids) - 1)), tuple(ids[1:]))


def losses(
    model: TextModel, rows: Sequence[Asked], side: Literal["left", "right"] = "right"
) -> Tensor:
    """(n,) mean NLL of the wanted tokens of each example; differentiable."""
    return model.nll(rows, side)


def read_logits(
    model: TextModel, rows: Sequence[Asked], side: Literal["left", "right"] = "right"
) -> tuple[Tensor, Tensor]:
    """(n, V) fp32 logits at the reads of all examples, and (n,) the example that each belongs to.

    Differentiable. Logits are computed at the positions that are read and at no others.
    """
    questions = model.force(rows, side)
    logits = model.target_logits(questions)
    return logits, questions.row.to(logits.device)


def linear_sites(
    model: TextModel, layers: Sequence[int], roles: Sequence[str] | None = None
) -> list[Site]:
    """The linear maps of some roles in some blocks; None: all of a block's."""
    return [
        model.site(role, layer)
        for layer in layers
        for role in roles or sorted(model.row(layer)[0].linears)
    ]


# -- changes beside the weights ---------------------------------------------------------------


@contextmanager
def rerouted(module: nn.Module, output: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """The module returns `output(its input, its own output)`."""

    def hook(m: nn.Module, args: Any, kwargs: Any, own: Any) -> Any:
        return output(entering(m, args, kwargs), own)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def dense_changes(
    model: TextModel, sites: Sequence[Site], *, bias: bool
) -> Iterator[dict[str, Tensor]]:
    """Trainable changes by parameter name, zero at first; the model computes with them inside.

    Weights' changes have the mathematical shape (o, i). The weight in use is W + Δ rounded to
    the model's dtype, which is what applying the change writes, so a change that is lost in
    rounding does not seem to work while it is trained. Where applying it would leave the weight and
    act beside it, so does the change that is trained.
    """
    changes: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            linear = model.linear(site)
            weight, offset = matrix(linear).detach(), bias_of(linear)
            changes[site.parameter] = d = zero_change(weight)
            aside = model.live.beside(site.parameter)
            e = None
            if bias and offset is not None:
                changes[f"{site.module}.bias"] = e = zero_change(offset)

            def output(
                x: Tensor,
                own: Tensor,
                aside: bool = aside,
                weight: Tensor = weight,
                offset: Tensor | None = offset,
                d: Tensor = d,
                e: Tensor | None = e,
            ) -> Tensor:
                if aside:
                    more = functional.linear(x.to(d), d, e)
                    return (own.to(d) + more.view_as(own)).to(own.dtype)
                if offset is not None and e is not None:
                    offset = summed(offset, e)
                return functional.linear(x, summed(weight, d), offset)

            stack.enter_context(rerouted(linear, output))
        yield changes


def zero_change(like: Tensor) -> Tensor:
    """A trainable change of a tensor, at least fp32, zero."""
    exact = torch.promote_types(like.dtype, torch.float32)
    return torch.zeros_like(
        like, dtype=exact, memory_format=torch.contiguous_format
    ).requires_grad_(True)


def summed(original: Tensor, change: Tensor) -> Tensor:
    """W + Δ rounded to the dtype of W; the gradient goes to Δ alone."""
    return (original.detach().to(change.dtype) + change).to(original.dtype)


# -- the loop ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` saw.

    loss     mean over all rows, pass by pass.
    each     (n,) of each row when it was last evaluated; NaN without any pass.
    targets  whether the rows are the edits and the loss is the NLL of their targets.
    """

    loss: list[float]
    each: Tensor
    targets: bool = True

    def diagnostics(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "passes": len(self.loss),
            "loss": [round(x, 4) for x in self.loss],
        }
        if self.targets:
            found["target_nll"] = [round(float(x), 4) for x in self.each]
        return found

    def notes(self, tolerance: float) -> dict[int, str]:
        """Remarks about edits that were not fitted."""
        if not self.targets:
            return {}
        return {
            j: f"Training ended at target NLL {x:.2f} after {len(self.loss)} passes; "
            "try more steps, a larger lr, or another layer."
            for j, x in enumerate(self.each.tolist())
            if not x < tolerance
        }


def train(
    model: TextModel,
    rows: Sequence[Any],
    parameters: Sequence[Tensor],
    *,
    steps: int,
    lr: float,
    tolerance: float,
    batch_size: int,
    shuffle: bool,
    seed: int,
    loss: Loss | None = None,
    after_step: Callable[[], None] | None = None,
) -> Trained:
    """Descend the mean loss of the rows over mini-batches with Adam, changing `parameters`.

    loss        of some rows (n,), differentiable; None: the NLL of examples.
    after_step  called after each update, to project the parameters.

    Raises `UnstableEditError` when the loss is not finite.
    """
    measure = loss or partial(losses, model)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    generator = torch.Generator().manual_seed(seed)
    seen = torch.full((len(rows),), float("nan"))
    history: list[float] = []
    for _ in range(steps):
        order = torch.arange(len(rows))
        if shuffle:
            order = order[torch.randperm(len(rows), generator=generator)]
        for chunk in order.split(batch_size):
            with torch.enable_grad():
                each = measure([rows[j] for j in chunk.tolist()])
                mean = each.mean()
            seen[chunk] = each.detach().cpu()
            value = float(mean.detach())
            if not value < float("inf"):
                raise UnstableEditError(
                    f"The loss became {value} in pass {len(history) + 1}. Lower the learning rate "
                    f"({lr}), choose another layer, or load the model in float32."
                )
            if value < tolerance:
                continue
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(mean, list(parameters)), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
            if after_step is not None:
                after_step()
        history.append(float(seen.mean()))
        if history[-1] < tolerance:
            break
    return Trained(history, seen, targets=loss is None)
