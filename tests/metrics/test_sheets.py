"""The worked example that defines each metric, under the number of its sheet.

    P1-P5  primitives          2.1-2.10  core          3.1-3.6  reasoning, language, text
    4.1-4.7  lifelong, robustness, reversal, agents    5        protocol and statistics

Edge rules and properties are tested beside this file, one file per family.
"""

from __future__ import annotations

import math

import pytest
import torch

from corrigenda.edit import Rewrite
from corrigenda.metrics import (
    conflict,
    consistency,
    cost,
    counterfact,
    detection,
    fluency,
    hearsay,
    kl,
    lingual,
    longform,
    machiavelli,
    mquake,
    negation,
    portability,
    reversal,
    ripple,
    robustness,
    sequential,
    statistics,
    teacher_forced,
    text,
    zsre,
)


def near(value: float, digits: int) -> object:
    return pytest.approx(value, abs=0.5 * 10**-digits)


# -- primitives -------------------------------------------------------------------------------


def test_p1_mean_log_probability():
    score = teacher_forced.from_tokens([math.log(0.5), math.log(0.2)], [True, True])
    assert score.mean == near(-1.151293, 6)
    assert score.probability == near(0.316228, 6)
    assert math.exp(score.total) == pytest.approx(0.1)


def test_p2_p3_strict_and_token_ratio():
    gold, argmax = [7, 9, 4], [7, 9, 5]
    hits = [g == a for g, a in zip(gold, argmax, strict=True)]
    score = teacher_forced.from_tokens([-1.0] * 3, hits)
    assert score.strict == 0.0
    assert score.ratio == near(0.6667, 4)


def test_p4_text_scores():
    assert text.em("The Eiffel Tower", "eiffel tower") == 1.0
    assert text.f1("New York City", "New York") == pytest.approx(0.8)


def test_p5_divergence():
    reference, edited = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    assert float(kl.kl_reference_edited(reference.log(), edited.log())) == near(0.173287, 6)


# -- core -------------------------------------------------------------------------------------


def test_2_1_efficacy():
    assert counterfact.success(0.316228, 0.25) == 1.0
    assert counterfact.magnitude(0.316228, 0.25) == near(0.066228, 6)
    assert counterfact.success(0.25, 0.25) == 0.0  # ES and NS are both this


def test_2_2_generality():
    assert (counterfact.success(0.4, 0.2) + counterfact.success(0.1, 0.2)) / 2 == 0.5


def test_2_3_specificity():
    pairs = [(0.3, 0.2), (0.1, 0.4)]
    assert sum(counterfact.success(*pair) for pair in pairs) / 2 == 0.5
    assert sum(counterfact.magnitude(*pair) for pair in pairs) / 2 == pytest.approx(-0.1)


def test_2_3_preservation_of_argmax_ids():
    assert 100 * zsre.token_accuracy([29, 234, 334], [29, 234, 333]) == near(66.67, 2)


def test_2_4_score():
    assert counterfact.harmonic((100.0, 96.4, 75.4)) == near(89.19, 2)
    assert counterfact.harmonic((98.9, 88.6, 73.7)) == near(85.80, 2)
    rows = [(1, 1, 1), (1, 0.5, 1), (1, 1, 0)]
    assert counterfact.aggregated_score(rows) == near(0.8108, 4)
    assert sum(map(counterfact.harmonic, rows)) / 3 == near(0.5833, 4)


@pytest.mark.parametrize(
    ("words", "h2", "h3", "ge"),
    [
        ("a b c d e", 2, 1.584963, 1.723308),
        ("a b a b a b", 0.970951, 1, 0.990317),
        ("the the the the the", 0, 0, 0),
    ],
)
def test_2_5_fluency(words, h2, h3, ge):
    assert fluency.ngram_entropy(words.split(), 2) == near(h2, 6)
    assert fluency.ngram_entropy(words.split(), 3) == near(h3, 6)
    assert fluency.generation_entropy(words) == near(ge, 6)


def test_2_6_consistency():
    fitted = consistency.Tfidf.fit(["the cat sat", "the dog sat", "a cat ran"])
    assert fitted.similarity(["cat sat"], ["cat ran"]) == near(0.428046, 6)


def test_2_7_zsre():
    new, york, other = 1, 2, 3
    assert zsre.token_accuracy([new, other], [new, york]) == 0.5


def test_2_8_portability():
    parts = {"subject_replacement": 1.0, "reversed_relation": 0.0, "one_hop": 1.0}
    whole = portability.portability(parts)
    assert whole is not None
    assert 100 * whole.value == near(66.67, 2)
    part = portability.portability(parts | {"reversed_relation": None})
    assert part == portability.Portability(1.0, n_axes=2)


def test_2_9_efficiency():
    assert cost.edits_per_second(20_000, 300) == near(66.7, 1)


def test_2_10_counterfact_plus():
    edit = Rewrite("{} is in", "The Eiffel Tower", "Rome")
    wanted = "The Eiffel Tower is in Rome. The Louvre is in"
    assert counterfact.plus_prompt(edit.statement, "The Louvre is in") == wanted
    assert kl.nats_of_published(3.27e-5, 50257) == near(1.64, 2)


# -- reasoning, language, text ----------------------------------------------------------------


def test_3_1_ripple_edits():
    assert ripple.outcome([False, True], "OR") is True
    assert ripple.outcome([False, True], "AND") is False
    tests = [ripple.outcome([True], "OR", [False]), True, False]
    score = ripple.ripple([ripple.Example(True, {"LG": tests})], "LG")
    assert score.value == 0.5
    assert score.executed is not None
    assert 100 * score.executed == near(66.7, 1)


def test_3_2_mquake():
    names = ["London", "London UK"]
    for match in (mquake.exact, text.contains):
        score = mquake.multi_hop(["Paris", "London UK", "Rome"], names, match)
        assert (score.any, score.all) == (1.0, 0.0)
        assert score.mean == near(0.333, 3)


def test_3_3_reversal():
    assert reversal.says_subject(" Marie Curie. She", ["Curie", "Marie Curie"]) == 1.0
    assert reversal.says_subject(" somebody else. Not Marie Curie", "Marie Curie") == 0.0
    assert reversal.prefers_subject(0.2, 0.2) == 0.0


def test_3_4_negation():
    assert negation.negated(" Rome", "Rome") == 0.0


def test_3_5_transfer():
    ratio = lingual.transfer([[0.9, 0.3], [0.45, 0.9]])
    assert ratio == near(0.4167, 4)


def test_3_6_long_form():
    found = longform.inference(["supports", "contradicts", "neutral", "supports"])
    assert (found.support, found.contradiction) == (0.5, 0.25)


# -- lifelong, robustness, reversal, agents ---------------------------------------------------


def test_4_1_sequence():
    found = sequential.retention([{1: 1, 2: 1, 3: 0}, {2: 1, 3: 1}, {3: 1}])
    assert found.retained == near(0.667, 3)
    assert (found.immediate, found.forgetting) == (1.0, 0.5)


def test_4_3_recovery():
    assert robustness.recovery(0.8, 0.1, 0.59) == pytest.approx(0.7)


def test_4_4_round_trip():
    before, after = (0.6, 0.2, 0.2), (0.2, 0.4, 0.4)
    found = conflict.round_trip(before, after)
    assert found.d == near(0.086305, 6)
    assert found.d_paper == near(0.028768, 6)
    others = conflict.round_trip((0.5, 0.2, 0.2, 0.2, 0.1), (0.5, 0.1, 0.1, 0.1, 0.3))
    assert others.ir == 0.75
    assert conflict.failure_rate([others.ir]) == 1.0


def test_4_4_conflict():
    assert conflict.conflict_magnitude(0.8, 0.2) == pytest.approx(0.75)
    assert conflict.conflict_magnitude(0.2, 0.9) == -1.0


def test_4_5_detection():
    assert detection.auroc([0.9, 0.8, 0.4], [0.7, 0.2, 0.1]) == near(0.8889, 4)
    assert detection.auroc([0.5], [0.5]) == 0.5


def test_4_6_harm():
    assert machiavelli.game_harm(12, 15) == pytest.approx(80)


def test_4_7_diffusion():
    claims = [hearsay.Claim(True, remembered=j > 0) for j in range(13)]
    found = hearsay.hearsay([*claims, *[hearsay.Claim(False)] * 12])
    assert (found.rate, found.hallucinated, found.n) == (0.48, 1, 25)


# -- protocol and statistics ------------------------------------------------------------------


def test_5_kappa():
    pairs = [(1, 1)] * 40 + [(1, 0)] * 5 + [(0, 1)] * 5 + [(0, 0)] * 50
    judge, human = zip(*pairs, strict=True)
    assert statistics.kappa(judge, human) == near(0.798, 3)


def test_5_wilson():
    assert statistics.wilson(98, 100) == pytest.approx((0.9300, 0.9945), abs=5e-5)
    assert statistics.wilson(100, 100) == pytest.approx((0.9630, 1.0), abs=5e-5)


def test_5_mcnemar():
    assert statistics.mcnemar(8, 2) == near(0.1094, 4)


def test_5_constant_data():
    assert statistics.bootstrap([0.7] * 9) == pytest.approx((0.7, 0.7), abs=0)
