"""Is the model still well? Its perplexity on a fixed text: a check of seconds after every batch.

    nll = -(1/n) Σ_j ln p(t_j | t_<j)        nats per token
    ppl = exp(nll)

over the tokens of all documents, each but its document's first: of N tokens N - 1 are predicted, so
n counts those and not N. A model that collapses under its edits shows here long before benchmarks
are worth running. What it cannot show is what the model knows; that is for probes.

The text, unless another is given: for Atlas, documents of its own language written with a seed that
training never saw, without the objects of their sentences, which are what edits are meant to
change; for other models, the pages in `health.txt`, written for this. Models that do not read from
left to right have no perplexity of a text: they are asked for the last word of each sentence given
the words before it, and those of Atlas for the objects of random facts, which is all they were
trained to say. The same model and text give the same figure, so two checks are compared document
by document.

    before = health(model)
    with delta.applied(model):
        print(worse(before, health(model)))
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError, InputError
from .metrics.statistics import Interval, paired_ratio

if TYPE_CHECKING:
    from .models.text import TextModel

__all__ = ["Health", "health", "worse"]

ATLAS_SEED = 7_777_777  # training uses seed 0
ATLAS_DOCUMENTS, ATLAS_FACTS = 96, 400

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Perplexity on a fixed text.

    nll        nats per token; infinite when a probability was 0 or not a number.
    ppl        exp(nll).
    tokens     predicted tokens.
    documents  (nats, tokens) of each document, for comparisons.
    text       what was read: "atlas", "atlas facts", "health.txt", the file's name, or "given".
    """

    nll: float
    ppl: float
    tokens: int
    documents: tuple[tuple[float, int], ...]
    text: str


def health(
    model: TextModel, text: str | Path | Sequence[str] | None = None, *, batch_size: int = 16
) -> Health:
    """Perplexity of the model, with whatever is live on it, on a fixed text.

    text  documents; or one text, or a file in UTF-8, whose documents stand apart by blank lines.
          None takes the built-in one that fits the model.

    Raises `DataError` for a file that cannot be read, and `InputError` for a text without words.
    """
    if text is None and model.is_atlas and model.kind != "causal":
        name, scores = "atlas facts", model.score(_facts(), batch_size=batch_size)
    else:
        name, documents, spans = _documents(model, text)
        scores = model.read(documents, without=spans, batch_size=batch_size)
    parts = tuple((_nats(-float(s.logprobs.double().sum())), len(s.ids)) for s in scores)
    tokens = sum(n for _, n in parts)
    nll = math.fsum(nats for nats, _ in parts) / tokens
    return Health(nll, _exp(nll), tokens, parts, name)


def worse(before: Health, after: Health, *, draws: int = 10_000, seed: int = 0) -> Interval:
    """By how many nats per token `after` is worse than `before`, with a 95 % paired bootstrap
    interval over documents. The edits did harm if it lies above 0. exp of it is the ratio of
    perplexities. All three numbers are infinite where `after` is.

    Raises `InputError` for checks that read different documents, and where `before` is infinite.
    """
    sizes = [[n for _, n in one.documents] for one in (before, after)]
    if before.text != after.text or sizes[0] != sizes[1]:
        raise InputError(
            f"A comparison needs the same text: one check read {len(sizes[0])} documents of "
            f"{before.text}, the other {len(sizes[1])} of {after.text}. Give both the same."
        )
    if not math.isfinite(before.nll):
        raise InputError("The model was broken before: its perplexity is infinite.")
    if not math.isfinite(after.nll):
        return Interval(math.inf, math.inf, math.inf)
    nats = np.array([[nats for nats, _ in one.documents] for one in (before, after)])
    return paired_ratio(nats[1] - nats[0], np.array(sizes[0]), draws=draws, seed=seed)


def _documents(
    model: TextModel, text: str | Path | Sequence[str] | None
) -> tuple[str, list[str], list[Spans]]:
    """What the text is called, its documents, and the spans of each that are not scored."""
    if text is None and model.is_atlas:
        from .atlas import documents
        from .atlas.worlds import world_of

        world = world_of(model.id)
        found = list(islice(documents(world, ATLAS_SEED), ATLAS_DOCUMENTS))
        return world.name, [d.text for d in found], [tuple(d.answers + d.muted) for d in found]
    name = "given"
    if text is None:
        text = Path(__file__).with_name("health.txt")
    if isinstance(text, Path):
        name = text.name
        try:
            text = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"The text {text} cannot be read ({error}). Give a file in UTF-8 with documents "
                "that stand apart by blank lines."
            ) from None
    parts = text.split("\n\n") if isinstance(text, str) else text
    kept = [part.strip() for part in parts if part.strip()]
    if not kept:
        raise InputError("The text for the health check has no words in it.")
    return name, kept, [()] * len(kept)


def _facts() -> list[tuple[str, str]]:
    """Prompts and objects of random facts, each a document of its own."""
    from .atlas import world
    from .atlas.templates import trained

    rng, here = random.Random(ATLAS_SEED), world()
    found = []
    for subject, relation in rng.sample(list(here.pairs()), ATLAS_FACTS):
        wording = rng.choice([t for t in trained(subject, relation) if t.promptable])
        found.append((wording.prompt(subject), here.objects(subject, relation)[0]))
    return found


def _nats(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
