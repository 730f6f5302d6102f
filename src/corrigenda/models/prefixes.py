"""Short texts put in front of an edit's prompt, so that an edit does not depend on one context.

ROME and MEMIT average keys and fit values over sampled continuations of a few opening words. They
are sampled once per model and seed, and recorded with the edit. Encoder-decoders and masked models
do not continue text, so for them sentences of a corpus take their place.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import islice

import torch

from .moments import corpus_for
from .text import TextModel

__all__ = ["joined", "pristine_prefixes", "sample_prefixes"]


def pristine_prefixes(
    model: TextModel,
    counts: Sequence[tuple[int, int]],
    *,
    openings: Sequence[str] = (),
    seed: int = 0,
    corpus: str = "auto",
) -> tuple[str, ...]:
    """`sample_prefixes` on the pristine model, sampled once: all edits of a sequence share them."""

    def make() -> tuple[str, ...]:
        with model.live.suspended():
            return sample_prefixes(model, counts, openings=openings, seed=seed, corpus=corpus)

    key = f"prefixes-{model.weights_hash()}-{counts}-{openings}-{seed}-{corpus}"
    return model.remembered(key, make)


@torch.no_grad()
def sample_prefixes(
    model: TextModel,
    counts: Sequence[tuple[int, int]],
    *,
    openings: Sequence[str] = (),
    seed: int = 0,
    top_k: int = 5,
    corpus: str = "auto",
) -> tuple[str, ...]:
    """Sampled continuations, as text; sentences of about as many tokens for a model that does not
    continue text.

    counts    pairs (how many, of how many tokens), e.g. ((10, 5), (10, 10)).
    openings  words to begin with, used in turn; empty means the BOS (or EOS) token alone.
    top_k     sample among this many most probable tokens.
    corpus    where sentences come from, see `corpus_for`. Where it names no text, they are ordinary
              English ones.
    """
    if model.kind != "causal":
        return _sentences(model, counts, corpus, seed)
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


def _sentences(
    model: TextModel, counts: Sequence[tuple[int, int]], corpus: str, seed: int
) -> tuple[str, ...]:
    """For each of `counts`, sentences whose lengths are nearest to the one asked for."""
    known = ORDINARY
    if corpus not in ("auto", "identity") or model.is_atlas:
        source = "auto" if corpus == "identity" else corpus
        texts = islice(corpus_for(model, source, seed=seed).texts(), 200)
        known = tuple(s for text in texts for s in re.findall(r"[^.!?\n]+[.!?]", text)) or ORDINARY
    distinct = list(dict.fromkeys(" ".join(s.split()) for s in known))
    random.Random(seed).shuffle(distinct)
    lengths = [len(model.ids(s)) for s in distinct]
    found: list[str] = []
    for many, length in counts:
        near = sorted(range(len(distinct)), key=lambda j, n=length: abs(lengths[j] - n))
        found.extend([distinct[j] for j in near if distinct[j] not in found][:many])
    return tuple(found)


ORDINARY = (
    "It rained all day.",
    "The shop opens at nine.",
    "He went home early.",
    "Dinner was almost ready.",
    "Nobody answered the door.",
    "They met again in spring.",
    "The road was closed for repairs.",
    "She had read the letter twice.",
    "A dog was barking in the yard.",
    "There were two cups on the table.",
    "Most of the seats were already taken.",
    "The children played in the garden until dark.",
    "We should leave before the traffic gets worse.",
    "In the evening the wind became much stronger.",
    "The report was longer than anyone had expected.",
    "Every morning he walked along the river to work.",
    "The old map hung on the wall beside the window.",
    "After the meeting they talked about the plans for the summer.",
    "The bread was still warm when she brought it to the table.",
    "It took them most of the afternoon to find the right house.",
)
"""Sentences about nothing in particular."""


def joined(prefix: str, prompt: str) -> str:
    """Prefix, full stop, prompt; the prompt alone for an empty prefix."""
    if not prefix:
        return prompt
    return f"{prefix}{' ' if prefix[-1] in '.!?' else '. '}{prompt}"
