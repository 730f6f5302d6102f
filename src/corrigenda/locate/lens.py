"""The logit lens: what each layer would say if it were the last.

nostalgebraist 2020, "interpreting GPT: the logit lens". With the residual stream h_l after block l,

    p_l = softmax( head( norm_f(h_l) ) )

The states pass through the model's own end, final norm included, once: whatever it does to its
logits is done to these, and those of the last layer are the model's own. (The last entry of
`output_hidden_states` is normed already in most models, so a second norm would be wrong.)

A masked model is read at a mask after the prompt, an encoder-decoder in its decoder's layers where
the answer starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.asked import Asked
from ..models.hooks import captured, replaced_input, selected_input
from ..models.text import TextModel
from .attribute import answering_layers

__all__ = ["Lens", "lens", "lens_everywhere"]


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """The next token as seen from each layer.

    layers    (L) indices.
    logprobs  (L, V) fp32.
    """

    model: str
    prompt: str
    layers: tuple[int, ...]
    logprobs: Tensor

    def rank(self, token: int) -> list[int]:
        """How many tokens each layer finds more probable than this one; 0 is the first."""
        return (self.logprobs > self.logprobs[:, token, None]).sum(1).tolist()

    def top(self, k: int = 1) -> list[list[tuple[int, float]]]:
        """For each layer, its k most probable tokens with their probabilities."""
        values, ids = self.logprobs.exp().topk(k, dim=1)
        return [
            list(zip(tokens, shares, strict=True))
            for tokens, shares in zip(ids.tolist(), values.tolist(), strict=True)
        ]


def lens(model: TextModel, prompt: str, position: int = -1) -> Lens:
    """Read every layer's prediction of the token after `position` (the last token, if -1).

    Raises `IndexError` for a position that the prompt does not have, or a decoder's one token.
    """
    asked = model.opening(prompt.rstrip(" "))
    tokens = asked.decoder or asked.ids
    column = asked.reads[0] if position == -1 else range(len(tokens))[position]
    return _read(model, prompt, asked, [column])[0]


def lens_everywhere(model: TextModel, prompt: str) -> tuple[tuple[int, ...], list[Lens]]:
    """The tokens that a prompt is put in, and every layer's prediction after each, in one pass. Of
    an encoder-decoder, the one token that its decoder starts with."""
    asked = model.opening(prompt.rstrip(" "))
    tokens = asked.decoder or asked.ids
    return tokens, _read(model, prompt, asked, range(len(tokens)))


@torch.no_grad()
def _read(model: TextModel, prompt: str, asked: Asked, columns: Sequence[int]) -> list[Lens]:
    questions = model.force([asked])
    layers = answering_layers(model)
    decoder = {} if questions.decoder is None else {"decoder": questions.decoder}
    modules = {str(j): (model.block(j), "output") for j in layers}
    rows = torch.arange(len(layers), device=model.device).repeat(len(columns))
    places = torch.tensor(list(columns), device=model.device).repeat_interleave(len(layers))
    with captured(modules) as seen:

        def states() -> Tensor:
            return torch.cat([seen[str(j)] for j in layers])  # (L, t, d)

        end = model.head if model.final_norm is None else model.final_norm
        with replaced_input(end, states), selected_input(model.head, rows, places):
            logits = model.forward(questions.rows, **decoder).logits[0]
    logprobs = logits.float().log_softmax(-1).cpu().view(len(columns), len(layers), -1)
    return [Lens(model.id, prompt.rstrip(" "), layers, one) for one in logprobs]
