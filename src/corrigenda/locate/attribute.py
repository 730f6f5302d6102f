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
So only that position is run again, in the upper layers alone: a point of the path costs one token.
A general library (captum) would run the whole text through the whole model for each point, once
per layer and neuron mask, which is why it is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..models.hooks import captured, stopping
from ..models.suffix import Row, SuffixRun
from ..models.text import TextModel

__all__ = ["Attribution", "Question", "attribute", "question"]

Rule = Literal["right", "midpoint"]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as tokens, the position where its answer is predicted, and the answer's first token."""

    ids: tuple[int, ...]
    position: int
    answer: int


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


def question(model: TextModel, prompt: str, answer: str | int | None = None) -> Question:
    """A prompt, as it is, with the token whose probability is of interest.

    answer  text, whose first token after the prompt it is; a token id; or None for the token that
            the model itself predicts.
    """
    if isinstance(answer, str):
        asked = model.asked(prompt, answer)
        place = asked.reads[0]
        # A model that reads left to right sees nothing of what comes after the position.
        ids = asked.ids[: place + 1] if model.kind == "causal" else asked.ids
        return Question(ids, place, asked.wanted[0])
    asked = model.opening(prompt.rstrip(" "))
    place = asked.reads[0]
    if answer is None:
        rows, row = model.batch([asked.ids]), torch.zeros(1, dtype=torch.long)
        answer = int(model.logits_at(rows, row, row + place).argmax())
    return Question(asked.ids, place, answer)


def attribute(
    model: TextModel,
    questions: Sequence[Question],
    layers: Sequence[int] | None = None,
    *,
    steps: int = 20,
    rule: Rule = "right",
    batch_size: int = 512,
) -> Attribution:
    """The attributions of all neurons of these layers (all, if None), question by question.

    steps       m, points on the path.
    batch_size  points per forward pass.

    Raises `InputError` for no questions, no steps or an unknown rule.
    """
    if not questions or steps < 1 or rule not in ("right", "midpoint"):
        raise InputError(
            f"An attribution needs questions, at least 1 step and the rule right or midpoint; got "
            f"{len(questions)} questions, {steps} steps, rule {rule!r}."
        )
    layers = tuple(range(model.n_layers) if layers is None else layers)
    shift = 1.0 if rule == "right" else 0.5
    points = (torch.arange(1, steps + 1, dtype=torch.float64) - 1 + shift) / steps  # α_j
    with model.frozen():
        found = [_layer(model, questions, layer, points, batch_size) for layer in layers]
    scores, neurons = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return Attribution(scores, neurons, layers)


def _layer(
    model: TextModel, questions: Sequence[Question], layer: int, points: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """(n, i) attributions and activations of one layer."""
    site = model.site("down", layer)
    neurons = _neurons(model, questions, model.linear(site))  # (n, i)
    weight = model.weight(site).double()  # (o, i)
    written = neurons @ weight.T  # (n, o)
    rows = [Row(q.ids, q.position, (q.position,)) for q in questions]
    run = SuffixRun(model, layer, rows, site="mlp")
    wanted = torch.tensor([q.answer for q in questions], device=model.device)
    total = torch.zeros_like(written)
    owners = torch.arange(len(rows)).repeat_interleave(len(points))
    scales = points.repeat(len(rows))
    for keep, scale in zip(owners.split(batch_size), scales.split(batch_size), strict=True):
        owner = keep.to(model.device)
        delta = (scale.to(written) - 1)[:, None] * written[owner]
        delta = delta.float().requires_grad_(True)
        with torch.enable_grad():
            probability = run.logits(delta, keep).softmax(-1).gather(1, wanted[owner, None])
            (gradient,) = torch.autograd.grad(probability.sum(), delta)
        total.index_add_(0, owner, gradient.double())
    scores = neurons * (total @ weight) / len(points)
    return scores.cpu(), neurons.cpu()


@torch.no_grad()
def _neurons(model: TextModel, questions: Sequence[Question], linear: torch.nn.Module) -> Tensor:
    """(n, i) float64 inputs of a linear map at the positions of the answers."""
    padded = model.batch([q.ids for q in questions], side="right")
    with captured({"w": (linear, "input")}) as seen, stopping(linear, before=True):
        model.forward(padded)
    whole = seen["w"].reshape(*padded.ids.shape, -1)
    return whole[range(len(questions)), [q.position for q in questions]].double()
