"""Integrated gradients of feed-forward neurons: which of them raise the probability of an answer.

Dai, Dong, Hao, Sui, Chang, Wei 2021, 2104.08696, §3.1; the method is that of Sundararajan et al.
2017, 1703.01365. The neurons of a layer are the inputs w of its down-projection W at the position
where the answer is predicted. With all of them scaled together from 0 to their values w̄,

    Attr(w_i) = w̄_i · (1/m) Σ_j ∂p(y) / ∂w_i  at  w = α_j w̄

    right     α_j = j/m          the paper's; the error falls as 1/m
    midpoint  α_j = (j - 1/2)/m  the error falls as 1/m²

so that Σ_i Attr(w_i) tends to p(y | w̄) - p(y | 0) (completeness). Where a norm without bias follows
the MLP, α cancels in it and p changes only close to α = 0, between two points of the path: scores
then compare neurons, but their sum is about 0.

Scaling w by α adds (α - 1) W w̄ to what the layer writes at one position, and ∂p/∂w = Wᵀ ∂p/∂(W w).
So in a causal model only that position is run again, in the upper layers alone: a point of the path
costs one token.
A general library (captum) would run the whole text through the whole model for each point, once
per layer and neuron mask, which is why it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.asked import Asked
from ..models.hooks import captured, replaced_output, stopping
from ..models.suffix import Row, SuffixRun
from ..models.text import TextModel

__all__ = ["Attribution", "answering_layers", "attribute", "question"]

Rule = Literal["right", "midpoint"]


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Attributions of n questions.

    scores   (n, L, i) float64.
    neurons  (n, L, i) float64 activations w̄.
    layers   (L) indices.
    """

    scores: Tensor
    neurons: Tensor
    layers: tuple[int, ...]


def question(
    model: TextModel, prompt: str, answer: str | int | None = None, after: str = "", at: int = 0
) -> Asked:
    """A prompt, as it is, with the one token whose probability is of interest: `reads` is where it
    is predicted, `wanted` is what it is.

    answer  text; a token id; or None for the token that the model itself predicts.
    after   what follows the answer, for models that see it.
    at      which token of the answer is meant, where it is text.
    """
    if isinstance(answer, str):
        asked = model.asked(prompt, answer, after)
        place, token = asked.reads[at], asked.wanted[at]
    else:
        asked = model.opening(prompt.rstrip(" "))
        place, token = asked.reads[0], answer
        if token is None:
            with torch.no_grad():
                token = int(model.target_logits(model.force([asked]))[0].argmax())
    # A model that reads from left to right sees nothing of what stands behind the position.
    ids = asked.ids[: place + 1] if model.kind == "causal" else asked.ids
    return replace(asked, ids=ids, reads=(place,), wanted=(token,))


def attribute(
    model: TextModel,
    questions: Sequence[Asked],
    layers: Sequence[int] | None = None,
    *,
    steps: int = 20,
    rule: Rule = "right",
    batch_size: int = 512,
) -> Attribution:
    """The attributions of all neurons of some layers, question by question.

    layers      indices; None: all of the stack that answers, which is a decoder's if there is one.
    steps       m, points on the path.
    batch_size  points per forward pass.

    Raises `InputError` for no questions, no steps or an unknown rule.
    """
    if not questions or steps < 1 or rule not in ("right", "midpoint"):
        raise InputError(
            f"An attribution needs questions, at least 1 step and the rule right or midpoint; got "
            f"{len(questions)} questions, {steps} steps, rule {rule!r}."
        )
    layers = answering_layers(model) if layers is None else tuple(layers)
    shift = 1.0 if rule == "right" else 0.5
    points = (torch.arange(1, steps + 1, dtype=torch.float64) - 1 + shift) / steps  # α_j
    with model.frozen():
        found = [_layer(model, questions, layer, points, batch_size) for layer in layers]
    scores, neurons = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return Attribution(scores, neurons, layers)


def answering_layers(model: TextModel) -> tuple[int, ...]:
    """The layers in whose stack answers are predicted."""
    first = len(model.prompt_layers) if model.kind == "encoder-decoder" else 0
    return tuple(range(first, model.n_layers))


def _layer(
    model: TextModel, questions: Sequence[Asked], layer: int, points: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """(n, i) attributions and activations of one layer."""
    site = model.site("down", layer)
    neurons = _neurons(model, questions, model.linear(site))  # (n, i)
    weight = model.weight(site).double()  # (o, i)
    written = neurons @ weight.T  # (n, o)
    logits = _answers(model, questions, layer)
    wanted = torch.tensor([q.wanted[0] for q in questions], device=model.device)
    total = torch.zeros_like(written)
    owners = torch.arange(len(questions)).repeat_interleave(len(points))
    scales = points.repeat(len(questions))
    for keep, scale in zip(owners.split(batch_size), scales.split(batch_size), strict=True):
        owner = keep.to(model.device)
        delta = (scale.to(written) - 1)[:, None] * written[owner]
        delta = delta.float().requires_grad_(True)
        with torch.enable_grad():
            probability = logits(delta, keep).softmax(-1).gather(1, wanted[owner, None])
            (gradient,) = torch.autograd.grad(probability.sum(), delta)
        total.index_add_(0, owner, gradient.double())
    scores = neurons * (total @ weight) / len(points)
    return scores.cpu(), neurons.cpu()


def _answers(
    model: TextModel, questions: Sequence[Asked], layer: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """(δ (k, d), which questions (k,)) -> (k, V) fp32 logits with δ added to what the layer's MLP
    writes where the answer is predicted."""
    if model.kind == "causal":
        rows = [Row(q.ids, q.reads[0], q.reads) for q in questions]
        return SuffixRun(model, layer, rows, site="mlp").logits

    def logits(delta: Tensor, keep: Tensor) -> Tensor:
        # Each token is seen by every other, so there is no constant part to keep.
        forced = model.force([questions[j] for j in keep.tolist()])

        def added(output: Tensor) -> Tensor:
            whole = output.reshape(len(keep), -1, delta.shape[1])
            there = torch.zeros_like(whole).index_put((forced.row, forced.column), delta.to(whole))
            return (whole + there).reshape(output.shape)

        with replaced_output(model.mlp(layer), added):
            return model.target_logits(forced)

    return logits


@torch.no_grad()
def _neurons(model: TextModel, questions: Sequence[Asked], linear: nn.Module) -> Tensor:
    """(n, i) float64 inputs of a linear map where the answers are predicted."""
    forced = model.force(questions)
    with captured({"w": (linear, "input")}) as seen, stopping(linear, before=True):
        model.target_logits(forced)
    whole = seen["w"].reshape(len(questions), -1, seen["w"].shape[-1])
    return whole[forced.row, forced.column].double()
