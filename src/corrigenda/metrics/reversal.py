"""The reversed relation: asked about the new object, does the model say the subject?

Edit "X was born in Rome"; ask "Who was born in Rome?". Only for relations that can be read
backwards. Expect about 0 from locate-then-edit methods: they write at the subject, so what they
write is found from there only (Meng et al. 2022, 2202.05262; Ma et al. 2023, 2310.10322).
"""

from __future__ import annotations

from collections.abc import Sequence

from .counterfact import success
from .text import answer_of, contains

__all__ = ["prefers_subject", "says_subject"]


def says_subject(continuation: str, names: str | Sequence[str]) -> float:
    """`gen.reversal`: 1.0 iff the answer to the reversed prompt names the subject."""
    return contains(answer_of(continuation), names)


def prefers_subject(subject: float, filler: float) -> float:
    """`tf.reversal`: 1.0 iff P(subject) > P(old filler) after the reversed prompt; 0 if equal."""
    return success(subject, filler)
