"""A prompt and its target as tokens, for any kind of language model.

Three kinds of model answer a prompt in three ways: a decoder goes on writing, an encoder-decoder
writes apart from it, and a masked model fills gaps. `Asked` is one question in the tokens of a
model, `Forced` a batch of them. Made by `TextModel.asked`; read by every method that needs the
loss of a target or the logits where an answer stands.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .tokens import Batch

__all__ = ["Asked", "Forced"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What goes in, the positions that are read, and the tokens wanted there.

    ids             tokens of the stack that reads the prompt.
    reads           positions whose logits are read: of `ids`, or of `decoder` if there is one.
    wanted          the token that each of them should predict. The shift is made here, once: the
                    logits at `reads[j]` are those of `wanted[j]`.
    end             position in `ids` of the prompt's last token, of the first mask for masked
                    models; None: the last position.
    decoder         tokens that the decoder is given, its start token first; () without a decoder.
    boundary_merge  a token straddles prompt and target; it counts as target.
    """

    ids: tuple[int, ...]
    reads: tuple[int, ...]
    wanted: tuple[int, ...]
    end: int | None = None
    decoder: tuple[int, ...] = ()
    boundary_merge: bool = False


@dataclass(frozen=True, slots=True)
class Forced:
    """Questions padded to a batch. n: all positions that are read, b: questions.

    row, column   (n,) where the logits are read: in `rows`, or in `decoder` if there is one.
    wanted        (n,) token ids.
    ends          (b,) columns of the prompts' last tokens in `rows`.
    """

    rows: Batch
    row: Tensor
    column: Tensor
    wanted: Tensor
    ends: Tensor
    decoder: Batch | None = None

    def __len__(self) -> int:
        return len(self.ends)
