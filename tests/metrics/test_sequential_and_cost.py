from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.metrics.cost import edits_per_second, measured
from corrigenda.metrics.sequential import (
    capacity,
    forgetting,
    immediate,
    oldest,
    retained,
    strata,
    stratified,
)

HISTORIES = [{1: 1, 2: 1, 3: 0}, {2: 1, 3: 1}, {3: 1}]


def test_retained_immediate_and_forgetting():
    assert sum(map(retained, HISTORIES)) / 3 == pytest.approx(0.667, abs=1e-3)
    assert sum(map(immediate, HISTORIES)) / 3 == 1.0
    assert sum(map(forgetting, HISTORIES[:-1])) / 2 == 0.5


def test_capacity_is_the_largest_number_of_edits_still_held():
    assert capacity([(1, 1.0), (10, 0.9), (100, 0.6), (1000, 0.2)]) == 100
    assert capacity([(1, 0.1)]) == 0


def test_the_oldest_decile_has_at_least_one_edit():
    assert [oldest(n) for n in (0, 1, 10, 100)] == [0, 1, 1, 10]


@given(n=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_strata_are_all_edits_once_and_their_mean_is_the_mean(n, seed):
    parts = strata(n)
    assert [j for part in parts for j in part] == list(range(n))
    assert len(parts[0]) >= 1 and (n < 2 or len(parts[0]) == len(parts[2]))
    scores = {j: random.Random(seed + j).random() for j in range(n)}
    assert stratified(scores, n) == pytest.approx(sum(scores.values()) / n)


def test_a_sample_stands_for_its_stratum():
    # Of 20 edits the 2 oldest are lost and the 2 newest hold; 2 of the 16 between were asked.
    scores = {0: 0.0, 1: 0.0, 5: 1.0, 9: 0.0, 18: 1.0, 19: 1.0}
    assert stratified(scores, 20) == pytest.approx((0 + 16 * 0.5 + 2) / 20)
    with pytest.raises(ValueError, match="2 to 17"):
        stratified({0: 1.0, 1: 1.0, 18: 1.0, 19: 1.0}, 20)


def test_edits_per_second():
    assert edits_per_second(20_000, 300) == pytest.approx(66.7, abs=0.05)


def test_cost_is_read_even_if_the_block_raises():
    with pytest.raises(ValueError, match="inside"), measured() as cost:
        raise ValueError("inside")
    assert cost.seconds > 0
    assert cost.resident is None or cost.resident > 1_000_000
