"""Encoder-decoders (T5, BART): the prompt is read by the encoder, the answer written apart from it.

Layers count through: the encoder's first, then the decoder's. Facts about the subject are looked up
in the encoder, so editors that need the subject work there. The labels are shifted here, once: the
decoder is given its start token and then all target tokens but the last, and the logits after each
predict the next. What follows the object (`after`) is told to models that know sentinels:
"The city of <extra_id_0> is where the Louvre stands" is answered "<extra_id_0> Paris <extra_id_1>".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import EditError, ModelError
from .asked import Asked
from .layouts import Layout
from .text import TextModel
from .tokens import Batch, last_words

__all__ = ["EncoderDecoder"]

SENTINELS = ("<extra_id_0>", "<extra_id_1>")


class EncoderDecoder(TextModel):
    """An encoder-decoder language model."""

    kind: ClassVar[str] = "encoder-decoder"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._takes_positions = False
        start = self._module.config.decoder_start_token_id
        if not isinstance(start, int):
            raise ModelError(
                f"The configuration of {self.id} names no decoder_start_token_id, so its decoder "
                "cannot begin. Set it as in the model's card and load again."
            )
        self._start = start

    @property
    def encoder(self) -> Layout:
        """The layout row of the encoder."""
        assert self.layout.encoder is not None
        return self.layout.encoder

    @property
    def blocks(self) -> Sequence[nn.Module]:
        parts = (self.encoder, self.layout)
        return [b for part in parts for b in self._module.get_submodule(part.blocks)]  # type: ignore

    @property
    def prompt_layers(self) -> range:
        return range(len(self._module.get_submodule(self.encoder.blocks)))  # type: ignore[arg-type]

    @property
    def stacks(self) -> dict[str, bool]:
        return {self.encoder.decoder: True, self.layout.decoder: False}

    def row(self, layer: int) -> tuple[Layout, int]:
        read = len(self.prompt_layers)
        return (self.encoder, layer) if layer < read else (self.layout, layer - read)

    def batch(self, rows: Sequence[Sequence[int]], side: str = "left") -> Batch:
        """Padded on the right always: an encoder may number its positions by column."""
        return super().batch(rows, "right")

    def forward(self, rows: Batch, decoder: Batch | None = None, **options: Any) -> Any:
        """Run both stacks; without `decoder` the decoder sees its start token alone."""
        if decoder is None:
            decoder = self.batch([[self._start]] * len(rows.ids))
        options.setdefault("use_cache", False)
        return self._module(
            input_ids=rows.ids, attention_mask=rows.mask, decoder_input_ids=decoder.ids, **options
        )

    def asked(self, prompt: str, target: str, after: str = "", *, eos: bool = False) -> Asked:
        if not target.strip():
            raise EditError(f"The target after {prompt!r} is empty. Give a non-empty target.")
        ids = tuple(self._shown(prompt, after))
        wanted = self._bare(self._space(after) + target.strip())
        if after.strip():
            first, second = (self._bare(mark) for mark in SENTINELS)
            wanted = first + wanted + second
        ending: Any = self.tokenizer.eos_token_id if eos else None
        if ending is not None:
            wanted = (*wanted, ending)
        decoder = (self._start, *wanted[:-1])
        return Asked(ids, tuple(range(len(wanted))), wanted, len(ids) - 1, decoder)

    def opening(self, prompt: str) -> Asked:
        ids = tuple(self.ids(prompt))
        return Asked(ids, (0,), (), len(ids) - 1, (self._start,))

    def windows(
        self, text: str, span: tuple[int, int], without: Sequence[tuple[int, int]] = ()
    ) -> list[Asked]:
        return [self.asked(head, word) for head, word, _ in last_words(text[slice(*span)])]

    def _space(self, after: str) -> str:
        return " " if self.layout.answer_space else ""

    def _bare(self, text: str) -> tuple[int, ...]:
        """Token ids without the special tokens around a text."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _shown(self, prompt: str, after: str) -> Sequence[int]:
        """The prompt; with what follows the answer, a sentinel stands for it."""
        if not after.strip():
            return self.ids(prompt)
        vocabulary = self.tokenizer.get_vocab()
        if any(mark not in vocabulary for mark in SENTINELS):
            raise EditError(
                f"{self.id} has no sentinel tokens ({SENTINELS[0]}) to ask for an object in the "
                "middle of a sentence. Word the edit so that its object comes last, or edit T5 or "
                "a masked model."
            )
        return self.ids(self.sentence(prompt, "", after))

    def sentence(self, prompt: str, target: str, after: str) -> str:
        if not after.strip():
            return prompt
        text = f"{prompt.rstrip(' ')} {SENTINELS[0]}".lstrip()
        joint = "" if after[0] in " .,;:?!" else " "
        return f"{text}{joint}{after}"

    def _context_left(self, max_new_tokens: int) -> int | None:
        """The answer takes no room from the prompt."""
        return self.context

    def _new(self, out: Tensor, padded: Batch) -> Tensor:
        return out[:, 1:] if out.shape[1] else out

    @torch.no_grad()
    def logits_at(self, rows: Batch, row: Tensor, column: Tensor) -> Tensor:
        raise ModelError(f"The encoder of {self.id} has no logits at its tokens; use `opening`.")
