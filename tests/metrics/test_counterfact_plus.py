"""CounterFact+, worked by hand: one edit, two neighbors, plain and behind the edited sentence.

The vocabulary is Paris, Rome and the rest; probabilities are of the next token.

                                      before             after
    The Louvre is in                  .6  .1  .3         .5  .2  .3      kept
    Notre-Dame is in                  .5  .2  .3         .2  .5  .3      lost
    ... Rome. The Louvre is in        .5  .3  .2         .2  .6  .2      lost
    ... Rome. Notre-Dame is in        .5  .3  .2         .4  .4  .2      equal: lost
"""

from __future__ import annotations

import math

import pytest
import torch

from corrigenda.edit import Probe, Rewrite
from corrigenda.metrics.aggregate import aggregate
from corrigenda.metrics.counterfact import plus_prompt
from corrigenda.metrics.kl import kl_edited_reference, kl_reference_edited, nats_of_published
from corrigenda.metrics.observation import PLUS, Observation, record_scores
from corrigenda.metrics.teacher_forced import from_tokens

EDIT = Rewrite("{} is in", "The Eiffel Tower", "Rome", "Paris")
PLAIN = {
    "The Louvre is in": ((0.6, 0.1, 0.3), (0.5, 0.2, 0.3)),
    "Notre-Dame is in": ((0.5, 0.2, 0.3), (0.2, 0.5, 0.3)),
}
BEHIND = {
    "The Louvre is in": ((0.5, 0.3, 0.2), (0.2, 0.6, 0.2)),
    "Notre-Dame is in": ((0.5, 0.3, 0.2), (0.4, 0.4, 0.2)),
}


def seen(row) -> Observation:
    best = max(row)
    scores = [from_tokens([math.log(p)], [p == best]) for p in row[:2]]
    return Observation(" Paris" if row[0] == best else " Rome", *scores)


def divergences(before, after) -> tuple[float, float]:
    p, q = (torch.tensor(row).log() for row in (before, after))
    return float(kl_reference_edited(p, q)), float(kl_edited_reference(p, q))


def scores():
    items = []
    for kind, rows in (("neighborhood", PLAIN), (PLUS, BEHIND)):
        for prompt, (before, after) in rows.items():
            asked = plus_prompt(EDIT.statement, prompt) if kind == PLUS else prompt
            probe = Probe(asked, ("Paris",), "locality", kind, foil="Rome")
            items.append((probe, seen(before), seen(after), divergences(before, after)))
    return aggregate([record_scores(items)])


def test_prompts_begin_with_the_edited_sentence():
    wanted = "The Eiffel Tower is in Rome. The Louvre is in"
    assert plus_prompt(EDIT.statement, "The Louvre is in") == wanted


def test_neighborhood_scores_with_and_without_the_sentence():
    found = {name: score.value for name, score in scores().items()}
    assert found["tf.NS"] == 0.5  # .5 > .2, .2 < .5
    assert found["tf.NM"] == pytest.approx((0.3 - 0.3) / 2, abs=1e-9)
    assert found["tf.NS+"] == 0.0  # .2 < .6, and .4 = .4 fails
    assert found["tf.NM+"] == pytest.approx((-0.4 + 0.0) / 2)
    assert found["gen.locality"] == 0.5
    assert found["gen.locality+"] == 0.5  # the tie goes to the lower id, which is Paris


def test_divergence_in_nats_in_both_directions():
    found = {name: score.value for name, score in scores().items()}
    there = [
        0.5 * math.log(0.5 / 0.2) + 0.3 * math.log(0.3 / 0.6),
        0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4),
    ]
    back = [
        0.2 * math.log(0.2 / 0.5) + 0.6 * math.log(0.6 / 0.3),
        0.4 * math.log(0.4 / 0.5) + 0.4 * math.log(0.4 / 0.3),
    ]
    assert found["tf.KL+.reference_edited"] == pytest.approx(sum(there) / 2, abs=1e-6)
    assert found["tf.KL+.edited_reference"] == pytest.approx(sum(back) / 2, abs=1e-6)


def test_published_divergences_were_divided_by_the_vocabulary():
    p, q = (torch.tensor(row).log() for row in BEHIND["The Louvre is in"])
    published = torch.nn.functional.kl_div(p, q, reduction="batchmean", log_target=True)
    ours = float(kl_edited_reference(p, q))
    assert nats_of_published(float(published), 3) == pytest.approx(ours, abs=1e-6)
