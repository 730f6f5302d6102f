"""From text to token positions: once, for editors and metrics alike.

Positions come from character offsets of one joint tokenisation, never from the lengths of
separately tokenised pieces: those differ by merges, by a leading space, by a BOS in the middle.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import EditError

__all__ = ["Batch", "Pieces", "batch", "last_words", "pieces", "separator", "subject_last"]

_SENTENCE = re.compile(r"(\S.*?)\s+([^\s.!?]+)([.!?]+)[\"”’)]*(?=\s|$)", re.S)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A prompt and its target as one token sequence.

    ids             prompt ids followed by target ids, special tokens included where they belong.
    start           index of the first target token in `ids`.
    boundary_merge  a token straddles the boundary; it counts as target.
    """

    ids: tuple[int, ...]
    start: int
    boundary_merge: bool = False

    @property
    def target(self) -> tuple[int, ...]:
        return self.ids[self.start :]


@dataclass(frozen=True, slots=True)
class Batch:
    """Token sequences of different lengths as one tensor.

    ids, mask, positions: (b, t) int64. offset: (b,) number of padding tokens on the left, so that
    token j of row r stands at column `offset[r] + j`.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    offset: Tensor


def separator(prompt: str, target: str) -> str:
    """One space between prompt and target, none after a line break or for scripts without spaces."""
    if not prompt or prompt[-1].isspace():
        return ""
    return "" if _unspaced(target[:1]) else " "


def _unspaced(character: str) -> bool:
    name = unicodedata.name(character, "") if character else ""
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))


def pieces(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> Pieces:
    """Tokenise `prompt + separator + target` and find the target by offsets.

    Trailing spaces of the prompt are dropped first: the space belongs to the target's first token.
    Raises `EditError` for an empty target.
    """
    if not target.strip():
        raise EditError(f"The target after {prompt!r} is empty. Give a non-empty target.")
    prompt = prompt.rstrip(" ")
    text = prompt + separator(prompt, target) + target.strip()
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    start = next(j for j, (_, end) in enumerate(offsets) if end > len(prompt))
    # A trailing special token (an EOS that the tokenizer adds) has the empty span (0, 0).
    end = max(j for j, (_, right) in enumerate(offsets) if right > len(prompt)) + 1
    merge = offsets[start][0] < len(prompt)
    return Pieces(tuple(ids[:end]), start, merge)


def subject_last(tokenizer: PreTrainedTokenizerBase, text: str, span: tuple[int, int]) -> int:
    """Index of the subject's last token in the unpadded ids of `text`.

    span  character offsets [start, end) of the subject in `text`.
    Raises `EditError` when no token covers the subject.
    """
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    inside = [j for j, (a, b) in enumerate(offsets) if a < span[1] and b > span[0] and b > a]
    if not inside:
        raise EditError(f"The subject {text[slice(*span)]!r} has no token of its own in {text!r}.")
    return inside[-1]


def last_words(text: str) -> list[tuple[str, str, str]]:
    """Of each sentence of two words or more: what stands before its last word, that word, and the
    mark that ends it."""
    return [(m[1], m[2], m[3]) for m in _SENTENCE.finditer(text)]


def batch(rows: Sequence[Sequence[int]], pad: int, device: torch.device, side: str) -> Batch:
    """Pad token rows on one side. Padding is known by the mask, never by the id."""
    width = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    offset = torch.zeros(len(rows), dtype=torch.long)
    for r, row in enumerate(rows):
        left = width - len(row) if side == "left" else 0
        ids[r, left : left + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[r, left : left + len(row)] = 1
        offset[r] = left
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return Batch(ids.to(device), mask.to(device), positions.to(device), offset.to(device))
