"""Does a passage support a claim, contradict it, or neither? A model of natural language inference.

The model is the caller's choice and part of the number (`longform.inference`): any sequence
classifier of Transformers whose labels are entailment, contradiction and neutral. There is no
default and no fallback.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .errors import InputError, ModelError, OfflineError
from .metrics.longform import Label

__all__ = ["Inferrer"]

_MEANING: dict[str, Label] = {
    "entail": "supports",
    "contradict": "contradicts",
    "neutral": "neutral",
}


class Inferrer:
    """A classifier of (passage, claim) pairs.

    name  a hub id or a directory.

    Raises `InputError` without a name, `OfflineError` for one that is not at hand, `ModelError` for
    a classifier of something else.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not name.strip():
            raise InputError(
                "Passages are labelled by a model of natural language inference: name one, such as "
                "a classifier trained on MNLI, or give labels by people."
            )
        try:
            self.module = AutoModelForSequenceClassification.from_pretrained(name)
            self.tokenizer = AutoTokenizer.from_pretrained(name)
        except OSError as error:
            raise OfflineError(
                f"The inference model {name!r} is neither a directory nor in the cache, and cannot "
                f"be downloaded ({error}). Download it first, or give the path of its directory."
            ) from None
        self.name, self.device = name, device
        self.labels = _labels(name, self.module.config.id2label)
        self.module.to(device).eval()

    @torch.no_grad()
    def __call__(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 16) -> list[Label]:
        """The label of each (passage, claim). A passage that is too long is cut at its end."""
        found: list[Label] = []
        for at in range(0, len(pairs), batch_size):
            passages, claims = (
                list(side) for side in zip(*pairs[at : at + batch_size], strict=True)
            )
            encoded = self.tokenizer(
                passages, claims, truncation="only_first", padding=True, return_tensors="pt"
            ).to(self.device)
            logits = self.module(**encoded).logits.float()
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(f"{self.name} gives scores that are not finite, so no labels.")
            found.extend(self.labels[j] for j in logits.argmax(-1).tolist())
        return found


def _labels(name: str, named: dict[int, str]) -> dict[int, Label]:
    found: dict[int, Label] = {
        int(j): meaning
        for j, label in named.items()
        for stem, meaning in _MEANING.items()
        if label.lower().startswith(stem)
    }
    if sorted(found.values()) != sorted(_MEANING.values()) or len(named) != len(found):
        raise ModelError(
            f"{name} tells {', '.join(map(str, named.values()))} apart, not entailment, "
            "contradiction and neutral. Take a model trained for natural language inference."
        )
    return found
