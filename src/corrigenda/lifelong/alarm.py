"""When a model counts as collapsed.

Two signs, either of which is enough:

    perplexity  on the fixed text of `health` is more than so many times the unedited model's, or
                is not finite
    retained    of a fixed sample of the edits so far, fewer than this share is still answered

The first sees a model that has lost its language, the second one that talks on and has forgotten
what it was told. Both are looked at every so many edits, not after every single one. The defaults
are those of a wreck, not of damage: ten times the perplexity is 2.3 nats more per token. Damage that
comes before is in the curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["Alarm"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """The thresholds.

    perplexity  largest ratio of the perplexity to the unedited model's.
    retained    smallest share of sampled edits that are still answered.
    after       edits before which the second sign is not looked at: few edits say little.

    Raises `InputError` for a ratio of at most 1 or a share outside of [0, 1].
    """

    perplexity: float = 10.0
    retained: float = 0.2
    after: int = 50

    def __post_init__(self) -> None:
        if not self.perplexity > 1 or not 0 <= self.retained <= 1:
            raise InputError(
                "An alarm takes a ratio of perplexities above 1 and a share between 0 and 1; got "
                f"{self.perplexity} and {self.retained}."
            )

    def reason(self, ratio: float, retained: float, edits: int) -> str:
        """Why a model counts as collapsed after so many edits, in words; empty if it does not.

        ratio     of the perplexity to the unedited model's; infinite or NaN where it has none.
        retained  share of the sampled edits that are still answered.
        """
        if not math.isfinite(ratio):
            return f"after {edits} edits the perplexity is not finite"
        if ratio > self.perplexity:
            return (
                f"after {edits} edits the perplexity is {ratio:.2f} times the unedited model's "
                f"(limit {self.perplexity:g})"
            )
        if edits >= self.after and retained < self.retained:
            return (
                f"after {edits} edits {retained:.0%} of the sampled edits are still answered "
                f"(limit {self.retained:.0%})"
            )
        return ""
