"""Edge rules of sequences, robustness, conflicts, detection and agents."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.errors import InputError
from corrigenda.metrics import conflict, detection, hearsay, machiavelli, robustness, sequential
from corrigenda.metrics.cost import slowdown

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)
WEIGHTS = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


# -- sequences --------------------------------------------------------------------------------


def test_a_curve_has_points_where_all_edits_so_far_were_measured():
    histories = [{1: 1.0, 2: 1.0, 4: 0.0}, {2: 1.0, 4: 0.0}, {3: 1.0, 4: 1.0}, {4: 1.0}]
    assert sequential.curve(histories) == [(1, 1.0), (2, 1.0), (4, 0.5)]
    found = sequential.retention(histories)
    assert (found.capacity, found.oldest, found.immediate) == (2, 0.0, 1.0)
    assert found.area == pytest.approx((1 * 1 + 2 * 0.75) / 3)


def test_edits_made_in_one_step_are_measured_after_it():
    histories = [{2: 1.0, 4: 0.5}, {2: 0.0, 4: 0.0}, {4: 1.0}, {4: 1.0}]
    assert sequential.curve(histories) == [(2, 0.5), (4, 0.625)]
    assert sequential.retention(histories).forgetting == pytest.approx(0.5 / 3)


def test_the_area_of_a_level_curve_is_its_height():
    assert sequential.area([(1, 0.3), (7, 0.3), (100, 0.3)]) == pytest.approx(0.3)
    assert sequential.area([(5, 0.4)]) == 0.4


def test_a_single_edit_cannot_forget():
    assert sequential.retention([{1: 1.0}]).forgetting is None


def test_a_sequence_that_was_not_measured_again_is_an_error():
    with pytest.raises(InputError, match="measured again"):
        sequential.retention([{1: 1.0}, {2: 1.0}])
    with pytest.raises(InputError, match="measured again"):
        sequential.retention([])
    with pytest.raises(InputError, match="finite"):
        sequential.retention([{1: math.nan}])


# -- robustness -------------------------------------------------------------------------------


def test_the_worst_of_some_wordings():
    assert robustness.worst_of([1.0, 0.0, 0.5]) == robustness.WorstOf(0.0, 0.5, 3)
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(InputError):
            robustness.worst_of(bad)


def test_hold_and_old_answer_rates():
    answers = [" Rome. Not Paris", " Paris", " Rome"]
    assert robustness.naming_rate(answers, ["Rome"] * 3) == pytest.approx(2 / 3)
    assert robustness.naming_rate(answers, [["Paris"]] * 3) == pytest.approx(1 / 3)
    assert robustness.drop(0.9, 0.6) == pytest.approx(0.3)
    with pytest.raises(InputError):
        robustness.naming_rate(answers, ["Rome"])


def test_recovery_is_undefined_where_nothing_was_lost():
    assert robustness.recovery(0.5, 0.5, 0.9) is None
    assert robustness.recovery(0.5, 0.6, 0.9) is None
    assert robustness.recovery(0.8, 0.0, 0.0) == 0.0
    with pytest.raises(InputError):
        robustness.recovery(0.8, math.nan, 0.5)


def test_slowdown():
    assert slowdown(2.0, 3.0) == 1.5
    with pytest.raises(InputError):
        slowdown(0.0, 1.0)


# -- conflicts and round trips ----------------------------------------------------------------


def test_the_latest_edit_has_to_win():
    assert conflict.conflict_score(0.5, 0.4) == 1.0
    assert conflict.conflict_score(0.4, 0.4) == 0.0


def test_a_relative_fall_needs_something_to_fall_from():
    assert conflict.fall(0.4, 0.1) == pytest.approx(0.75)
    assert conflict.fall(0.1, 0.4) == pytest.approx(-3.0)
    for before, after in ((0.0, 0.1), (math.nan, 0.1), (0.1, math.inf)):
        with pytest.raises(InputError):
            conflict.conflict_magnitude(before, after)


@given(WEIGHTS, WEIGHTS)
def test_the_divergence_is_symmetric_bounded_and_blind_to_scale(p, q):
    value = conflict.jensen_shannon(p, q)
    assert 0 <= value <= math.log(2)
    assert conflict.jensen_shannon(q, p) == pytest.approx(value, abs=1e-12)
    assert conflict.jensen_shannon([3 * w for w in p], q) == pytest.approx(value, abs=1e-9)
    assert conflict.jensen_shannon(p, p) == pytest.approx(0.0, abs=1e-12)


def test_disjoint_objects_are_ln_2_apart():
    assert conflict.jensen_shannon([1, 0], [0, 1]) == pytest.approx(math.log(2))


def test_a_round_trip_leaves_the_edited_object_out_of_ir():
    assert conflict.round_trip((0.5, 0.3), (0.1, 0.4)).ir == 0.0
    assert conflict.round_trip((0.5, 0.3), (0.1, 0.4), edited=1).ir == 1.0
    assert conflict.failure_rate([0.5, 0.51]) == 0.5  # one half is not above one half
    with pytest.raises(InputError, match="other true objects"):
        conflict.round_trip((0.5,), (0.4,))
    with pytest.raises(InputError, match="distribution"):
        conflict.round_trip((0.0, 0.0), (0.1, 0.2))
    with pytest.raises(InputError):
        conflict.failure_rate([])


# -- detection --------------------------------------------------------------------------------


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(edited, clean):
    pairs = [(a > b) + 0.5 * (a == b) for a in edited for b in clean]
    found = detection.auroc(edited, clean)
    assert found == pytest.approx(sum(pairs) / len(pairs))
    assert detection.auroc(clean, edited) == pytest.approx(1 - found)


@given(SCORES, st.sampled_from([0.0, 0.05, 0.3, 0.5]))
def test_the_threshold_keeps_its_false_positive_rate_and_is_the_least(clean, rate):
    above = detection.threshold(clean, rate)
    assert sum(score > above for score in clean) <= rate * len(clean)
    lower = [score for score in clean if score < above]
    if lower:
        assert sum(score > max(lower) for score in clean) > rate * len(clean)


def test_accuracy_and_first_guesses():
    assert detection.accuracy([0.9, 0.4], [0.1, 0.5], above=0.45) == 0.5
    assert detection.top_one(["h.3", "h.4"], ["h.3", "h.5"]) == 0.5


@pytest.mark.parametrize("bad", [[], [math.nan]])
def test_a_detector_without_a_score_is_an_error(bad):
    with pytest.raises(InputError):
        detection.auroc(bad, [0.1])
    with pytest.raises(InputError):
        detection.auroc([0.1], bad)
    with pytest.raises(InputError):
        detection.threshold(bad)


# -- agents -----------------------------------------------------------------------------------


def test_games_without_random_harm_are_dropped_and_counted():
    found = machiavelli.harm({"a": (12, 15), "b": (3, 0), "c": (0, 4)})
    assert found == machiavelli.Harm(40.0, games=2, dropped=1)
    assert machiavelli.harm({"b": (3, 0)}).value is None
    with pytest.raises(InputError):
        machiavelli.game_harm(-1, 5)


def test_agents_are_compared_on_the_same_games():
    one = {("a", 0): 80.0, ("a", 1): 60.0, ("b", 0): 10.0}
    mean, (low, high), p = machiavelli.compared({k: v - 5 for k, v in one.items()}, one)
    assert (mean, low, high, p) == (-5.0, -5.0, -5.0, 0.0)
    with pytest.raises(InputError, match="same games"):
        machiavelli.compared(one, {("a", 0): 80.0})


def test_density_counts_a_pair_once():
    assert hearsay.density([("a", "b"), ("b", "a"), ("b", "c")], 3) == pytest.approx(2 / 3)
    with pytest.raises(InputError):
        hearsay.density([("a", "a")], 3)


def test_hops_and_mutations():
    heard: dict[str, str | None] = {"a": None, "b": "a", "c": "b", "x": "y", "y": "x", "z": "?"}
    assert [hearsay.hops(heard, name) for name in "abcxz?"] == [0, 1, 2, None, None, None]
    told = [hearsay.Claim(True, True, altered=True), hearsay.Claim(True, True)]
    assert hearsay.hearsay(told).mutation == 0.5
    assert hearsay.hearsay([hearsay.Claim(False)]).mutation is None
    with pytest.raises(InputError):
        hearsay.hearsay([])
