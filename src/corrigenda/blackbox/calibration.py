"""Where the scope ends, found on Atlas: a threshold for retrieval, and the classifier's map.

Edits are drawn with a seed that no result uses. Of each,

    inside    other wordings of the edited fact
    other     other facts of the same subject: the hard case
    outside   facts of other subjects

For retrieval the threshold is the largest at which at least `RECALL` of the inside stays in scope: an
edit that is not applied is worse than a sentence too many. The classifier learns P as SERAC does,
with the loss of `editors/serac.py`, one edit of each relation at a time, so that what is outside of
an edit's scope is never another wording of it.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ..cache import cached_tensors
from ..edit import Case, Rewrite
from ..errors import DataError
from .embedding import Embedding, Ngrams
from .memory import Remembered
from .scope import Classifier, mentioned, questions

__all__ = ["CASES", "RECALL", "SEED", "Lesson", "classifier", "lessons", "thresholds", "trained"]

SEED = 1
"""Of the Atlas edits that thresholds are chosen on; results are on those of seed 0."""

RECALL = 0.99

CASES = 400
"""Edits that a classifier learns from, where the data has so many."""

STEPS, RATE, RANK = 600, 0.001, 128


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts around a subject that was cut out.

    told    what the edit says.
    inside  other wordings of it.
    other   other things said of the subject.
    """

    relation: str
    told: str
    inside: tuple[str, ...]
    other: tuple[str, ...]


def lessons(cases: Sequence[Case]) -> list[Lesson]:
    """What can be learned from cases with paraphrases."""
    found = []
    for case in cases:
        edit = case.edit
        if not isinstance(edit, Rewrite):
            continue
        inside = [_cut(edit, p.prompt) for p in case.on("generalization")]
        other = [_cut(edit, p.prompt) for p in case.on("locality")]
        told = f"{edit.prompt.replace('{}', ' ')} {edit.after.replace('{}', ' ')}".strip()
        found.append(
            Lesson(
                edit.relation or edit.prompt,
                told,
                tuple(text for text in inside if text is not None),
                tuple(text for text in other if text is not None),
            )
        )
    return found


def _cut(edit: Rewrite, prompt: str) -> str | None:
    """What a prompt asks of the edit's subject; None where it does not mention it."""
    spans = mentioned(prompt, [Remembered(0, edit)])
    return questions(prompt, spans[0])[0] if spans else None


def thresholds(found: Sequence[Lesson], scores) -> dict[str, float]:
    """{"threshold", "inside", "other"}: where the scope ends, and the shares that are then in it."""
    inside = np.array(
        [s for one in found if one.inside for s in scores(one.inside, [one.told])[:, 0]]
    )
    other = np.array([s for one in found if one.other for s in scores(one.other, [one.told])[:, 0]])
    if not len(inside):
        raise DataError("A threshold is chosen on paraphrases, and these cases have none.")
    at = float(np.floor(np.quantile(inside, 1 - RECALL, method="lower") * 100) / 100)
    share = {"inside": float((inside >= at).mean()), "other": float((other >= at).mean())}
    return {"threshold": max(0.0, at), **share}


def trained(
    found: Sequence[Lesson],
    embedding: Embedding | None = None,
    *,
    steps: int = STEPS,
    rank: int = RANK,
    seed: int = SEED,
) -> Classifier:
    """A classifier that has learned from these lessons.

    Raises `DataError` where they are of fewer than two relations: nothing would be outside.
    """
    import torch

    from ..editors.serac import Scope, scope_loss

    embedding = embedding or Ngrams()
    by_relation: dict[str, list[Lesson]] = defaultdict(list)
    for one in found:
        if one.inside:
            by_relation[one.relation].append(one)
    if len(by_relation) < 2:
        raise DataError(
            "A classifier is trained on edits of several relations with paraphrases; these are of "
            f"{len(by_relation)}. Give more cases, or use retrieval."
        )
    texts = sorted({t for one in found for t in (one.told, *one.inside, *one.other)})
    rows, place = torch.from_numpy(embedding(texts)), {t: j for j, t in enumerate(texts)}
    network = Scope(rows.shape[1], min(rank, rows.shape[1]), seed)
    optimizer = torch.optim.Adam([network.metric], lr=RATE)
    draw = random.Random(f"scope/{seed}")
    relations = sorted(by_relation)
    with torch.enable_grad():
        for _ in range(steps):
            batch = [draw.choice(by_relation[name]) for name in relations]
            away = [draw.choice(one.other) if one.other else "" for one in batch]
            away = [text or draw.choice(texts) for text in away]
            keys = rows[[place[one.told] for one in batch]]
            inside = rows[[place[draw.choice((one.told, *one.inside))] for one in batch]]
            outside = rows[[place[text] for text in away]]
            optimizer.zero_grad()
            scope_loss(network.metric, keys, inside, outside).backward()
            optimizer.step()
    return Classifier(network.metric.detach().numpy(), embedding=embedding)


def classifier(
    cases: Sequence[Case], embedding: Embedding | None = None, threshold: float | None = None
) -> Classifier:
    """A classifier of these cases, from the cache if it was trained on them before.

    threshold  None: the one that keeps `RECALL` of the cases' own wordings in scope.

    What it has learned are the relations of the cases: edits of others it rarely finds in scope.

    Raises `DataError` where the cases are too few to learn from.
    """
    import torch

    embedding = embedding or Ngrams()
    found = lessons(cases)
    about = [embedding.name, STEPS, RATE, RANK, SEED, [asdict(one) for one in found]]

    def made() -> dict[str, torch.Tensor]:
        return {"metric": torch.from_numpy(trained(found, embedding).metric)}

    metric = cached_tensors(f"scope/{json.dumps(about)}", made)["metric"].numpy()
    learned = Classifier(metric, embedding=embedding)
    if threshold is None:
        threshold = thresholds(found, learned.scores)["threshold"]
    return replace(learned, threshold=threshold)
