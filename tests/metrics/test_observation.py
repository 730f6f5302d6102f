from __future__ import annotations

import math

import pytest

from corrigenda.edit import Probe
from corrigenda.metrics.observation import Observation, record_scores, scores_of
from corrigenda.metrics.teacher_forced import from_tokens


def seen(text: str, target: float | None = None, foil: float | None = None) -> Observation:
    """Scores of one token with these probabilities."""
    made = [None if p is None else from_tokens([math.log(p)], [p >= 0.5]) for p in (target, foil)]
    return Observation(text, *made)


def test_efficacy_names_every_way_of_matching():
    probe = Probe("X is in", ("Rome",), "efficacy", "rewrite", foil="Paris")
    scores = scores_of(probe, seen(" Paris"), seen(" the city of Rome. Paris", 0.6, 0.3))
    assert scores["gen.efficacy"] == 1.0
    assert scores["gen.efficacy.begins"] == scores["gen.efficacy.em"] == 0.0
    assert scores["tf.efficacy"] == scores["tf.ES"] == scores["tf.EA"] == 1.0
    assert scores["tf.EM"] == pytest.approx(0.3)
    assert scores["gen.efficacy:rewrite"] == 1.0


def test_held_out_wordings_are_reported_apart():
    trained = Probe("Where is X?", ("Rome",), "generalization", "paraphrase", "Paris")
    held = Probe("X stands in", ("Rome",), "generalization", "paraphrase", "Paris", held_out=True)
    record = record_scores(
        [
            (trained, seen(""), seen("Rome", 0.6, 0.1), None),
            (held, seen(""), seen("Paris", 0.2, 0.4), None),
        ]
    )
    assert record["gen.generalization"] == [1.0]
    assert record["gen.generalization_held_out"] == [0.0]
    assert record["tf.PS"] == [1.0]
    assert record["tf.PS_held_out"] == [0.0]
    assert record["gen.generalization:paraphrase"] == [1.0]


def test_locality_is_preservation_whatever_is_true():
    probe = Probe("The Louvre is in", ("Paris",), "locality", "neighborhood", foil="Rome")
    wrong_but_same = scores_of(probe, seen(" Lyon. It"), seen(" lyon\nx", 0.3, 0.2), (0.1, 0.2))
    assert wrong_but_same["gen.locality"] == 1.0
    assert wrong_but_same["tf.NS"] == 1.0
    assert wrong_but_same["tf.KL.reference_edited"] == 0.1
    assert wrong_but_same["tf.KL.edited_reference:neighborhood"] == 0.2
    assert scores_of(probe, seen("Paris"), seen("Rome"))["gen.locality"] == 0.0


def test_plus_prompts_stay_out_of_the_plain_scores():
    probe = Probe("X is in Rome. Y is in", ("Paris",), "locality", "neighborhood+", foil="Rome")
    scores = scores_of(probe, seen("Paris"), seen("Rome", 0.2, 0.7), (1.0, 2.0))
    assert scores["tf.NS+"] == scores["gen.locality+"] == 0.0
    assert scores["tf.KL+.reference_edited"] == 1.0
    assert not {"tf.NS", "gen.locality", "tf.KL.reference_edited"} & scores.keys()


def test_portability_takes_any_alias():
    probe = Probe("X's country is", ("Italy", "Italia"), "portability", "one_hop")
    assert scores_of(probe, seen(""), seen("Italia"))["gen.portability"] == 1.0


def test_a_non_finite_score_fails_and_survives_json():
    broken = Observation("", from_tokens([math.nan], [True]), from_tokens([-1.0], [False]))
    again = Observation.from_dict(broken.to_dict())
    probe = Probe("X is in", ("Rome",), "efficacy", "rewrite", foil="Paris")
    for observation in (broken, again):
        scores = scores_of(probe, seen(""), observation)
        assert scores["tf.ES"] == scores["tf.EM"] == scores["tf.efficacy"] == 0.0
