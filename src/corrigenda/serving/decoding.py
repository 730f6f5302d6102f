"""From logits to text: which token is next, what it adds to the text, and where the text ends.

A row draws from a generator of its own seed, one number per token, so what it says does not depend
on which rows share its batch (but for the rounding of logits, which may differ between batches).
Tokens become text as they come: a character that is spread over several tokens is held back until
it is whole, and so is what may be the beginning of a stop string.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Detokenizer", "Sampling", "Stops", "TokenLogprob", "choose", "logprobs_of"]

BROKEN = "\ufffd"
"""What decoders put for bytes that are no character, or not yet."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn.

    max_tokens   None: as many as the context has room for, at most the server's limit.
    temperature  0 takes the most probable token.
    top_p        sample among the most probable tokens that together reach this share.
    stop         texts that end the answer and do not belong to it.
    logprobs     report the chosen token and so many alternatives; None: not at all.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability, and the most probable ones in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def choose(
    logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[random.Random]
) -> list[int]:
    """The next token of each row. logits: (b, V) fp32."""
    logits = logits.nan_to_num(nan=torch.finfo(logits.dtype).min)
    tokens = logits.argmax(-1).tolist()
    sampled = [j for j, s in enumerate(samplings) if s.temperature > 0]
    if not sampled:
        return tokens
    heat = torch.tensor([samplings[j].temperature for j in sampled])[:, None]
    most = torch.tensor([samplings[j].top_p for j in sampled], dtype=torch.float64)[:, None]
    drawn = torch.tensor([draws[j].random() for j in sampled], dtype=torch.float64)[:, None]
    scaled = logits[sampled].cpu().double() / heat.clamp_min(1e-4)
    shares, ids = torch.sort(scaled.softmax(-1), dim=-1, descending=True, stable=True)
    # A token stays as long as those before it have not reached the share yet; the first always.
    kept = shares * ((shares.cumsum(-1) - shares) < most)
    kept[:, 0] = shares[:, 0]
    upto = kept.cumsum(-1)
    places = torch.searchsorted(upto, drawn * upto[:, -1:], right=True)
    last = (kept > 0).sum(-1, keepdim=True) - 1
    for j, token in zip(sampled, ids.gather(1, places.minimum(last))[:, 0].tolist(), strict=True):
        tokens[j] = token
    return tokens


def logprobs_of(row: Tensor, token: int, alternatives: int, tokenizer: Any) -> TokenLogprob:
    """The chosen token and its alternatives. row: (V,) fp32 logits."""
    logprobs = row.log_softmax(-1)
    values, ids = logprobs.topk(min(alternatives, len(logprobs)))
    texts = tokenizer.batch_decode([[token], *([one] for one in ids.tolist())])
    floor = [max(value, -9999.0) for value in values.tolist()]  # OpenAI's number for "never"
    chosen = max(float(logprobs[token]), -9999.0)
    return TokenLogprob(texts[0], chosen, tuple(zip(texts[1:], floor, strict=True)))


class Detokenizer:
    """Text as tokens come. The parts and what `rest` returns are together what decoding all tokens
    at once gives."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._from, self._read = 0, 0  # decoded anew from here; given out already up to here

    def add(self, token: int) -> str:
        """What a further token adds, which may be nothing yet."""
        self._ids.append(token)
        known, now = self._decoded(self._read), self._decoded(len(self._ids))
        if now.endswith(BROKEN) or len(now) <= len(known):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return now[len(known) :]

    def rest(self) -> str:
        """What was held back, when no token comes any more."""
        known, now = self._decoded(self._read), self._decoded(len(self._ids))
        self._from = self._read = len(self._ids)
        return now[len(known) :]

    def _decoded(self, end: int) -> str:
        return self._tokenizer.decode(
            self._ids[self._from : end],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )


class Stops:
    """Cuts a text at the first of some strings, however it is split into parts."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met = False

    def add(self, text: str) -> str:
        """What may be given out now: nothing that could belong to a stop string."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.met = True
            out, self._held = self._held[: min(found)], ""
            return out
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def rest(self) -> str:
        """What was held back and turned out to be no stop string."""
        out, self._held = self._held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
