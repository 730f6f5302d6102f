from __future__ import annotations

import math

import pytest

from corrigenda.errors import InputError
from corrigenda.metrics.counterfact import aggregated_score, harmonic, magnitude, success
from corrigenda.metrics.zsre import accuracy


def test_efficacy_compares_probabilities():
    new, true = 0.316228, 0.25
    assert success(new, true) == 1.0
    assert magnitude(new, true) == pytest.approx(0.066228)


def test_equal_probabilities_fail_for_efficacy_and_for_specificity():
    assert success(0.3, 0.3) == 0.0


def test_paraphrases_are_averaged_within_a_record():
    pairs = [(0.4, 0.2), (0.1, 0.2)]
    assert sum(success(*pair) for pair in pairs) / 2 == 0.5


def test_neighborhood_prefers_the_true_object():
    pairs = [(0.3, 0.2), (0.1, 0.4)]  # (true, new)
    assert sum(success(*pair) for pair in pairs) / 2 == 0.5
    assert sum(magnitude(*pair) for pair in pairs) / 2 == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [((100.0, 96.4, 75.4), 89.19), ((98.9, 88.6, 73.7), 85.80), ((1.0, 0.0, 1.0), 0.0)],
)
def test_score_is_the_harmonic_mean(parts, expected):
    assert harmonic(parts) == pytest.approx(expected, abs=0.005)


def test_score_is_taken_over_aggregated_columns():
    records = [(1, 1, 1), (1, 0.5, 1), (1, 1, 0)]
    assert aggregated_score(records) == pytest.approx(0.8108, abs=1e-4)
    per_record = sum(harmonic(record) for record in records) / 3
    assert per_record == pytest.approx(0.5833, abs=1e-4)


def test_no_records_are_no_score():
    with pytest.raises(InputError):
        aggregated_score([])
    with pytest.raises(InputError):
        accuracy([])


def test_what_is_not_finite_fails():
    assert success(math.nan, 0.1) == success(0.1, math.nan) == 0.0
    assert magnitude(math.nan, 0.1) == 0.0
