"""Masked language models (BERT, RoBERTa): an answer fills a gap of so many masks.

A prompt is followed by as many masks as its target has tokens, and by what comes after it in the
sentence, or a full stop. All masks are predicted together, each without the others, as the model
was trained; so a teacher-forced score is one *given the length* of the target. A free answer does
not know it: gaps of 1 to `MASKS` tokens are filled, most certain token first, and the one with the
highest mean log-probability is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..errors import EditError, InputError, ModelError
from .asked import Asked
from .text import TextModel, Until
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
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = MASKS,
        batch_size: int = 64,
        until: Until = None,
    ) -> list[str]:
        """Fillings of a gap that ends each prompt, of up to `MASKS` tokens; see `TextModel`. They
        are filled whole, so there is nothing to end sooner."""
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
        self, asked: Sequence[tuple[str, str]], max_new_tokens: int, batch_size: int, until: Until
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
                floor = [score for score, _ in best[at : at + batch_size]]
                found = self._filled(rows[at : at + batch_size], floor[: len(rows) - at])
                for j, one in enumerate(found, start=at):
                    best[j] = max(best[j], one or best[j])
        filled = [list(ids) for _, ids in best[: len(once)]]
        texts = self.tokenizer.batch_decode(filled, skip_special_tokens=True)
        answers = dict(zip(once, texts, strict=True))
        return [answers[one] for one in asked]

    def _filled(
        self, rows: Sequence[Asked], floor: Sequence[float]
    ) -> list[tuple[float, tuple[int, ...]] | None]:
        """Fill the gaps, most certain token first: mean log-probability and tokens of each.

        Log-probabilities are not positive, so a mean only falls from token to token: a row leaves
        (None) once it cannot reach its floor any more.
        """
        masks, open_ = len(rows[0].reads), {j: list(row.reads) for j, row in enumerate(rows)}
        ids = [list(row.ids) for row in rows]
        total = [0.0] * len(rows)
        for _ in range(masks):
            at_work = list(open_)
            if not at_work:
                break
            now = [replace(rows[j], ids=tuple(ids[j])) for j in at_work]
            logprobs = self.target_logits(self.force(now)).log_softmax(-1)
            logprobs[:, self._mask] = float("-inf")
            value, token = (t.view(len(now), masks).tolist() for t in logprobs.cpu().max(-1))
            for j, values, tokens in zip(at_work, value, token, strict=True):
                places = rows[j].reads
                surest = max(
                    (k for k in range(masks) if places[k] in open_[j]), key=values.__getitem__
                )
                ids[j][places[surest]] = tokens[surest]
                open_[j].remove(places[surest])
                total[j] += values[surest]
                if total[j] / masks < floor[j]:
                    del open_[j]
        return [
            (total[j] / masks, tuple(ids[j][at] for at in row.reads)) if j in open_ else None
            for j, row in enumerate(rows)
        ]
