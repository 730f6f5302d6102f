"""Masked language models (BERT, RoBERTa): an answer fills a gap of so many masks.

A prompt is followed by as many masks as its target has tokens, and by what comes after it in the
sentence, or a full stop. All masks are predicted together, each without the others, as the model
was trained; so a teacher-forced score is one *given the length* of the target. A free answer does
not know it: gaps of 1 to `MASKS` tokens are filled, most certain token first, and the one with the
highest mean log-probability is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ..errors import EditError, InputError, ModelError
from .asked import Asked, Forced
from .text import TextModel
from .tokens import last_words, separator

__all__ = ["Masked"]

MASKS = 6
"""The longest gap that a free answer tries. Where a target is known, longer ones are tried too."""


class Masked(TextModel):
    """A masked language model."""

    kind: ClassVar[str] = "masked"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.tokenizer.mask_token_id is None:
            raise ModelError(
                f"The tokenizer of {self.id} has no mask token, and a masked model answers by "
                "filling masks. Load the tokenizer that belongs to it."
            )
        self._mask = int(self.tokenizer.mask_token_id)  # type: ignore[arg-type]

    def forward(self, rows: Any, **options: Any) -> Any:
        """Run the model on padded rows; positions do not depend on the padding."""
        return super().forward(rows, **{k: v for k, v in options.items() if k != "use_cache"})

    def asked(self, prompt: str, target: str, after: str = "", *, eos: bool = False) -> Asked:
        if not target.strip():
            raise EditError(f"The target after {prompt!r} is empty. Give a non-empty target.")
        prompt = prompt.rstrip(" ")
        text = (separator(prompt, target) if prompt else "") + target.strip()
        wanted = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._gap(prompt, after, wanted, len(wanted))

    def windows(
        self, text: str, span: tuple[int, int], without: Sequence[tuple[int, int]] = ()
    ) -> list[Asked]:
        return [self.asked(head, word, end) for head, word, end in last_words(text[slice(*span)])]

    def opening(self, prompt: str) -> Asked:
        return self._gap(prompt.rstrip(" "), "", (), 1)

    def _gap(self, prompt: str, after: str, wanted: tuple[int, ...], masks: int) -> Asked:
        """The sentence with a gap of so many masks."""
        mark, text = str(self.tokenizer.mask_token), self._with_masks(prompt, after, masks)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        places = [
            j
            for j, (token, (_, end)) in enumerate(zip(ids, offsets, strict=True))
            if token == self._mask and end > len(prompt)
        ][:masks]
        if len(places) < masks:
            raise ModelError(
                f"The tokenizer of {self.id} does not keep its mask token {mark!r} whole in "
                f"{text!r}."
            )
        reads = tuple(places)
        return Asked(tuple(ids), reads, wanted, reads[0])

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = MASKS, batch_size: int = 64
    ) -> list[str]:
        """Fillings of a gap that ends each prompt, of up to `MASKS` tokens; see `TextModel`."""
        most = min(max_new_tokens, MASKS)
        return super().generate(prompts, max_new_tokens=most, batch_size=batch_size)

    def sentence(self, prompt: str, target: str, after: str) -> str:
        masks = len(self.asked(prompt, target, after).wanted)
        return self._with_masks(prompt.rstrip(" "), after, masks)

    def _with_masks(self, prompt: str, after: str, masks: int) -> str:
        after = after.strip() or "."
        joint = "" if after[0] in ".,;:?!" else " "
        mark = str(self.tokenizer.mask_token)
        return f"{prompt}{' ' if prompt else ''}{mark * masks}{joint}{after}"

    @property
    def context(self) -> int | None:
        limit = super().context
        return None if limit is None else limit - self.layout.position_offset

    def _generated(
        self, asked: Sequence[tuple[str, str]], max_new_tokens: int, batch_size: int
    ) -> list[str]:
        best: list[tuple[float, tuple[int, ...]]] = [(float("-inf"), ())] * len(asked)
        limit = self.context  # masks are part of the sentence
        once = list(dict.fromkeys(asked))
        for masks in range(1, max_new_tokens + 1):
            rows = [self._gap(p.rstrip(" "), after, (), masks) for p, after in once]
            for (prompt, _), row in zip(once, rows, strict=True):
                if limit and len(row.ids) > limit:
                    raise InputError(
                        f"A sentence of {len(row.ids)} tokens does not fit into the {limit} of "
                        f"{self.id}'s context: {prompt[:60]!r}… Shorten the prompt."
                    )
            for at in range(0, len(rows), batch_size):
                for j, found in enumerate(self._filled(rows[at : at + batch_size]), start=at):
                    best[j] = max(best[j], found)
        filled = [list(ids) for _, ids in best[: len(once)]]
        texts = self.tokenizer.batch_decode(filled, skip_special_tokens=True)
        answers = dict(zip(once, texts, strict=True))
        return [answers[one] for one in asked]

    def _filled(self, rows: Sequence[Asked]) -> list[tuple[float, tuple[int, ...]]]:
        """Fill the gaps, most certain token first: mean log-probability and tokens of each."""
        masks = len(rows[0].reads)
        questions = self.force(rows)
        ids = questions.rows.ids.clone()
        open_ = torch.ones(len(rows), masks, dtype=torch.bool)
        total = torch.zeros(len(rows))
        columns = questions.column.view(len(rows), masks).cpu()
        every = torch.arange(len(rows))
        for _ in range(masks):
            batch = questions.rows
            now = Forced(
                type(batch)(ids, batch.mask, batch.positions, batch.offset),
                questions.row,
                questions.column,
                questions.wanted,
                questions.ends,
            )
            logprobs = self.target_logits(now).log_softmax(-1).cpu().view(len(rows), masks, -1)
            logprobs[..., self._mask] = float("-inf")
            value, token = logprobs.max(-1)  # (b, masks)
            chosen = value.masked_fill(~open_, float("-inf")).argmax(1)
            total += value[every, chosen]
            ids[every, columns[every, chosen]] = token[every, chosen].to(ids.device)
            open_[every, chosen] = False
        filled = ids.cpu().gather(1, columns)
        return [
            (float(t) / masks, tuple(row)) for t, row in zip(total, filled.tolist(), strict=True)
        ]
