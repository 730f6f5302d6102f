"""Short texts put in front of an edit's prompt, so that an edit does not depend on one context.

ROME and MEMIT average keys and fit values over sampled continuations of a few opening words. They
are sampled once per model and seed, and recorded with the edit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .text import TextModel

__all__ = ["joined", "sample_prefixes"]


@torch.no_grad()
def sample_prefixes(
    model: TextModel,
    counts: Sequence[tuple[int, int]],
    *,
    openings: Sequence[str] = (),
    seed: int = 0,
    top_k: int = 5,
) -> tuple[str, ...]:
    """Sampled continuations, as text.

    counts    pairs (how many, of how many tokens), e.g. ((10, 5), (10, 10)).
    openings  words to begin with, used in turn; empty means the BOS (or EOS) token alone.
    top_k     sample among this many most probable tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    tokenizer = model.tokenizer
    start = model.start_id
    found: list[str] = []
    for many, length in counts:
        rows = [
            model.ids(openings[j % len(openings)])
            if openings
            else [start if start is not None else 0]
            for j in range(many)
        ]
        for _ in range(length):
            padded = model.batch(rows)
            last = torch.full((len(rows),), padded.ids.shape[1] - 1)
            logits = model.logits_at(padded, torch.arange(len(rows)), last).cpu()
            values, ids = logits.topk(min(top_k, logits.shape[-1]))
            choice = torch.multinomial(values.softmax(-1), 1, generator=generator)
            rows = [[*r, int(t)] for r, t in zip(rows, ids.gather(1, choice)[:, 0], strict=True)]
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        found.extend(" ".join(text.split()) for text in texts)
    return tuple(text for text in found if text)


def joined(prefix: str, prompt: str) -> str:
    """Prefix, full stop, prompt; the prompt alone for an empty prefix."""
    if not prefix:
        return prompt
    return f"{prefix}{' ' if prefix[-1] in '.!?' else '. '}{prompt}"
