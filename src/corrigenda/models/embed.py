"""Texts as vectors: which remembered question is this prompt, in another wording?

`embed` reads the language model's own hidden states at a middle layer, so it needs nothing but the
model. A causal model has gathered what a prompt asks for at its last token; the mean over tokens
(and the mean weighted by position, SGPT, Muennighoff 2022, 2202.08904) shows its words instead,
and is for comparing whole sentences with prompts. The states of all texts share a large common
part, which is estimated on unrelated texts and taken away. `sentence_encoder` gives an encoder
that was trained for the purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import InputError, ModelError
from .hooks import captured, stopping
from .text import TextModel

__all__ = ["Pool", "embed", "sentence_encoder"]

Pool = Literal["last", "mean", "weighted"]

UNRELATED = (
    "The weather was mild and the streets were",
    "She opened the window and looked at the",
    "Two plus two equals",
    "The committee will meet again on",
    "Add the flour slowly and stir until it is",
    "He plays the violin better than his",
    "Prices rose last year by more than",
    "The cat slept all afternoon under the",
    "Please send your answer before the end of the",
    "At one hundred degrees water begins to",
    "The train was late, so we decided to",
    "They painted the old door in a bright",
    "In her second book the author writes about",
    "Most of the children in this school walk to",
    "The new engine is lighter and uses less",
    "Nobody knew why the lights had gone",
)
"""Unfinished sentences about nothing in particular, since prompts are unfinished too."""


@torch.no_grad()
def embed(
    model: TextModel,
    texts: Sequence[str],
    layer: int | None = None,
    *,
    pool: Pool = "last",
    batch_size: int = 64,
) -> Tensor:
    """(n, d) fp32 rows of length 1 on the CPU, whose dot products are cosine similarities.

    layer  the block whose output is read; None: the middle one.
    pool   "last" token, "mean" over tokens, or their mean "weighted" by position. Tokens that the
           tokenizer puts around a text are not among them.

    The unedited model is read, whatever deltas are live: a memory of edits must not move when one
    is added. A row does not depend on the others in its batch but for rounding. Raises
    `InputError` for a text without tokens, one longer than the context, or an unknown pool.
    """
    if pool not in ("last", "mean", "weighted"):
        raise InputError(f"There is no pool {pool!r}; there are last, mean and weighted.")
    layer = model.n_layers // 2 if layer is None else layer
    model.block(layer)  # refuses a layer that does not exist
    with model.live.suspended(), model.frozen():
        common = model.remembered(
            f"embed/{layer}/{pool}",
            lambda: _states(model, UNRELATED, layer, pool, batch_size).mean(0),
        )
        distinct = tuple(dict.fromkeys(texts))
        rows = _states(model, distinct, layer, pool, batch_size)
    place = {text: j for j, text in enumerate(distinct)}
    return normalize(rows - common, dim=1)[[place[text] for text in texts]]


def sentence_encoder(name: str, *, device: str | None = None) -> Callable[[Sequence[str]], Tensor]:
    """An encoder of the sentence-transformers library: texts -> (n, d) fp32 rows of length 1.

    name  as on the Hugging Face hub ("all-MiniLM-L6-v2"), or a directory.

    Raises `ModelError` where the library is not installed or has no such encoder.
    """
    try:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]
    except ImportError:
        raise ModelError(
            f"The encoder {name!r} needs the sentence-transformers library, which is not "
            "installed. Install it (pip install 'corrigenda[retrieval]'), or leave the encoder "
            "out: the language model's own states are used then."
        ) from None
    try:
        encoder: Any = SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"sentence-transformers cannot load the encoder {name!r}: {error}. Give the name of "
            "one that is on the hub or in the cache, or a directory."
        ) from error

    def encode(texts: Sequence[str]) -> Tensor:
        rows = encoder.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
        return normalize(rows.float().cpu(), dim=1)

    return encode


def _states(
    model: TextModel, texts: Sequence[str], layer: int, pool: Pool, batch_size: int
) -> Tensor:
    """(n, d) fp32 pooled hidden states of texts, as the model is now."""
    rows, inner = [], []
    context = getattr(model.module.config.get_text_config(), "max_position_embeddings", None)
    for text in texts:
        encoded = model.tokenizer(text.rstrip(" "), return_special_tokens_mask=True)
        rows.append(list(encoded["input_ids"]))
        inner.append([1 - mark for mark in encoded["special_tokens_mask"]])
        if not any(inner[-1]):
            raise InputError("A text to embed is empty. Give it some words.")
        if context and len(rows[-1]) > context:
            raise InputError(
                f"A text of {len(rows[-1])} tokens does not fit into {model.id}'s context of "
                f"{context}: {text[:60]!r}… Shorten it."
            )
    found = torch.zeros(len(texts), model.width)
    block = model.block(layer)
    # Rows of like length share a batch, so that little is spent on padding.
    order = sorted(range(len(rows)), key=lambda j: len(rows[j]))
    for at in range(0, len(order), batch_size):
        chunk = order[at : at + batch_size]
        padded = model.batch([rows[j] for j in chunk], side="right")
        with captured({"hidden": (block, "output")}) as seen, stopping(block):
            model.forward(padded)
        hidden = seen["hidden"].float().cpu()  # (b, t, d)
        own = torch.zeros(hidden.shape[:2])  # (b, t) 1 at the text's own tokens
        for r, j in enumerate(chunk):
            own[r, : len(rows[j])] = torch.tensor(inner[j], dtype=own.dtype)
        count = own.cumsum(1)
        if pool == "last":
            own = own * (count == count[:, -1:])
        elif pool == "weighted":
            own = own * count
        # Padding may hold anything, NaN included: it is left out, not multiplied by 0.
        hidden = hidden.masked_fill(own[..., None] == 0, 0.0)
        found[chunk] = (hidden * own[..., None]).sum(1) / own.sum(1, keepdim=True)
    return found
