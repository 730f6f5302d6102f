from __future__ import annotations

import math

import pytest

from corrigenda.metrics.aggregate import aggregate


def test_prompts_are_averaged_in_records_and_records_among_themselves():
    scores = aggregate([{"x": [1, 0, 0, 0]}, {"x": [1]}])
    assert scores["x"].value == pytest.approx(0.625)
    assert (scores["x"].n_records, scores["x"].n_prompts) == (2, 5)
    assert scores["x"].method == "bootstrap"


def test_one_binary_prompt_per_record_gets_wilson():
    score = aggregate([{"x": [1.0]}] * 98 + [{"x": [0.0]}] * 2)["x"]
    assert score.method == "wilson"
    assert (score.low, score.high) == pytest.approx((0.9300, 0.9945), abs=5e-5)


def test_records_without_a_score_do_not_count_as_zero():
    score = aggregate([{"x": [1.0], "y": [0.5]}, {"y": [0.7]}])["x"]
    assert (score.value, score.n_records) == (1.0, 1)


def test_score_s_joins_aggregated_columns():
    rows = [(1, 1, 1), (1, 0.5, 1), (1, 1, 0)]
    records = [{"tf.ES": [a], "tf.PS": [b], "tf.NS": [c]} for a, b, c in rows]
    score = aggregate(records)["tf.S"]
    assert score.value == pytest.approx(0.8108, abs=1e-4)
    assert score.low is not None and score.high is not None
    assert score.low <= score.value <= score.high
    assert (score.n_records, score.n_prompts) == (3, 9)


def test_portability_over_its_axes():
    records = [{"gen.portability:alias": [1.0], "gen.portability:one_hop": [0.0, 0.0, 1.0]}] * 2
    assert aggregate(records)["gen.portability.axes"].value == pytest.approx((1 + 1 / 3) / 2)


def test_constant_and_single_records():
    assert aggregate([{"x": [0.5]}] * 3)["x"].low == 0.5
    assert aggregate([{"x": [0.5]}] * 3)["x"].high == 0.5
    alone = aggregate([{"x": [0.5, 1.0]}])["x"]
    assert (alone.low, alone.high, alone.method) == (None, None, "none")


def test_what_is_not_finite_is_not_dropped():
    score = aggregate([{"kl": [0.1]}, {"kl": [math.inf]}, {"kl": [math.nan]}])["kl"]
    assert score.value == math.inf
    assert score.n_records == 3


def test_the_seed_decides_the_interval():
    records = [{"x": [j / 7, 0.1]} for j in range(7)]
    assert aggregate(records, seed=1) == aggregate(records, seed=1)
    assert aggregate(records, seed=1)["x"].low != aggregate(records, seed=2)["x"].low
    assert aggregate([]) == {}
