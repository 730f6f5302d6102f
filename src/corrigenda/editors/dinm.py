"""DINM: detoxifying by intraoperative neural monitoring.

Wang, Zhang, Xu, Xi, Deng, Yao, Zhang, Yang, Wang, Chen 2024, 2403.14472.

The block that tells a safe answer from an unsafe one most clearly is taken to hold the unsafe
behaviour:

    L = argmax_l ‖ mean_t h_l(safe answer, t) - mean_t h_l(unsafe answer, t) ‖        summed over edits

Its down-projection is fine-tuned a few steps towards the safe answer to the adversarial prompt,
while the model's distribution over ordinary text is held:

    min_Δ  weight · NLL(safe | prompt + suffix; W + Δ)
           + mean_t KL( p(· | text_<t; W) ‖ p(· | text_<t; W + Δ) )
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..delta import Delta
from ..edit import Contrast
from ..editor import Solution
from ..errors import EditError
from ..models.asked import Asked
from ..models.hooks import captured
from ..models.text import TextModel
from ..models.tokens import pieces
from ._finetune import FineTuneEditor, losses, read_logits, text_examples

__all__ = ["DINM"]


@dataclass(frozen=True)
class DINM(FineTuneEditor):
    """Tune the most telling block towards safe answers. See `FineTuneEditor` for other fields.

    layers      the block to change; None: it is located.
    weight      of the safe answers' NLL against the KL on ordinary text.
    suffix      put after each prompt while training, such as an instruction to be safe.
    texts       ordinary texts that are held.
    statistics  where they come from: auto, atlas, samples, or a file.
    """

    tolerance: float = 1e-3
    weight: float | None = None
    suffix: str = ""
    texts: int = 8
    statistics: str = "auto"

    name: ClassVar[str] = "dinm"
    title: ClassVar[str] = "DINM"
    paper: ClassVar[str] = "Wang et al. 2024, 2403.14472"
    kinds: ClassVar[tuple[str, ...]] = ("causal",)
    needs: ClassVar[tuple[str, ...]] = ("corpus",)
    takes: ClassVar[type] = Contrast
    paper_values: ClassVar[dict[str, Any]] = {"steps": 10, "lr": 5e-4, "weight": 0.1}

    def resolved(self, model: TextModel) -> FineTuneEditor:
        return replace(super().resolved(model), layers=self.layers)

    def solve(self, model: TextModel, edits: Sequence[Contrast], onto: Delta | None) -> Solution:
        distances = layer_distances(model, edits)
        layers = self.layers or (int(distances.argmax()),)
        rows = [_answer(model, edit.prompt + self.suffix, edit.positive) for edit in edits]
        held = text_examples(model, self.statistics, self.texts, length=64, seed=self.seed)
        with torch.no_grad():
            before = read_logits(model, held)[0].log_softmax(-1) if held else None

        def loss(chunk: list[Asked]) -> Tensor:
            nll = (self.weight or 0.0) * losses(model, chunk)
            return nll if before is None else nll + moved(model, held, before)

        found = replace(self, layers=layers).dense(model, rows, bias=False, loss=loss)
        return replace(
            found,
            statistics={"source": self.statistics, "texts": len(held)},
            diagnostics={
                **found.diagnostics,
                "layers": list(layers),
                "layer_distances": [round(x, 4) for x in distances.tolist()],
            },
        )


@torch.no_grad()
def layer_distances(model: TextModel, edits: Sequence[Contrast]) -> Tensor:
    """(layers,) distance of the mean hidden state over the safe answer's tokens from that over the
    unsafe answer's, at the output of each block, summed over edits."""
    blocks = {str(layer): (model.block(layer), "output") for layer in range(model.n_layers)}
    total = torch.zeros(model.n_layers, dtype=torch.float64)
    for edit in edits:
        means = []
        for answer in (edit.positive, edit.negative):
            cut = pieces(model.tokenizer, edit.prompt, answer)
            with captured(blocks) as hidden:
                model.forward(model.batch([cut.ids]))
            means.append(torch.stack([h[0, cut.start :].double().mean(0) for h in hidden.values()]))
        total += (means[0] - means[1]).norm(dim=1).cpu()
    return total


def moved(model: TextModel, rows: Sequence[Asked], before: Tensor) -> Tensor:
    """Mean KL(before ‖ now) over the tokens of the rows; before (tokens, V) log-probabilities."""
    now = read_logits(model, rows)[0].log_softmax(-1)
    return (before.exp() * (before - now)).sum(-1).mean()


def _answer(model: TextModel, prompt: str, answer: str) -> Asked:
    """The answer's tokens are predicted; a first token with nothing before it is not."""
    cut = pieces(model.tokenizer, prompt, answer)
    start = max(1, cut.start)
    if start == len(cut.ids):
        raise EditError(
            f"The answer {answer!r} is one token with nothing before it, so it cannot be trained. "
            "Give the contrast a prompt."
        )
    return Asked(cut.ids[:-1], tuple(range(start - 1, len(cut.ids) - 1)), cut.ids[start:])
