from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.errors import InputError
from corrigenda.metrics.statistics import (
    bootstrap,
    holm,
    kappa,
    mcnemar,
    over_runs,
    paired_bootstrap,
    paired_ratio,
    resampling_weights,
    sign_flip,
    wilson,
)


def test_wilson_intervals():
    assert wilson(98, 100) == pytest.approx((0.9300, 0.9945), abs=5e-5)
    assert wilson(100, 100) == pytest.approx((0.9630, 1.0), abs=5e-5)
    assert wilson(0, 100)[0] == 0.0
    with pytest.raises(InputError):
        wilson(0, 0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_estimate(pair):
    low, high = wilson(*pair)
    assert 0 <= low <= pair[0] / pair[1] <= high <= 1


def test_mcnemar_is_exact():
    assert mcnemar(8, 2) == pytest.approx(0.1094, abs=5e-5)
    assert mcnemar(2, 8) == mcnemar(8, 2)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0


def test_constant_data_have_an_interval_of_width_zero():
    for method in ("percentile", "bca"):
        assert bootstrap([0.3] * 20, method=method) == (0.3, 0.3)  # type: ignore[arg-type]


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    spread = 1.96 * values.std() / 20
    for method in ("percentile", "bca"):
        low, high = bootstrap(values, method=method)  # type: ignore[arg-type]
        assert low == pytest.approx(values.mean() - spread, abs=0.03)
        assert high == pytest.approx(values.mean() + spread, abs=0.03)


def test_bca_moves_towards_the_long_tail():
    values = np.random.default_rng(2).exponential(1, 60)
    plain, corrected = bootstrap(values), bootstrap(values, method="bca")
    assert corrected[0] > plain[0]
    assert corrected[1] > plain[1]


def test_a_nonlinear_statistic_is_recomputed_in_each_draw():
    records = np.random.default_rng(3).uniform(0.2, 1, (80, 2))

    def ratio(rows):
        return rows[:, 0].mean() / rows[:, 1].mean()

    low, high = bootstrap(records, ratio, draws=2000)
    assert low < ratio(records) < high
    assert bootstrap(records, ratio, draws=200, seed=4) == bootstrap(
        records, ratio, draws=200, seed=4
    )


def test_draws_are_seeded_and_complete():
    first = np.concatenate(list(resampling_weights(7, 50, seed=5)))
    again = np.concatenate(list(resampling_weights(7, 50, seed=5)))
    assert first.shape == (50, 7)
    assert (first == again).all()
    assert (first.sum(1) == 7).all()
    assert (first != np.concatenate(list(resampling_weights(7, 50, seed=6)))).any()


def test_a_paired_difference_is_found_where_separate_intervals_overlap():
    hard = np.random.default_rng(7).uniform(0, 1, 60)
    mean, (low, high), p = paired_bootstrap(hard + 0.05, hard)
    assert mean == pytest.approx(0.05)
    assert low == pytest.approx(0.05)
    assert high == pytest.approx(0.05)
    assert p == 0.0
    assert paired_bootstrap(hard, hard)[2] == 1.0
    with pytest.raises(InputError, match="same records"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_holm_adjusts_step_down_in_the_given_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_kappa_is_agreement_beyond_chance():
    assert kappa([1, 0, 1, 0], [1, 0, 1, 0]) == 1.0
    assert kappa([1, 1, 0, 0], [1, 0, 1, 0]) == 0.0
    assert kappa(["A", "B"], ["B", "A"]) == -1.0
    assert kappa([1, 1], [1, 1]) is None
    with pytest.raises(InputError, match="same items"):
        kappa([1], [1, 0])


def test_sign_flips_by_hand():
    # Three differences of one sign: 2 of the 8 sign patterns are as extreme.
    assert sign_flip([2.0, 3.0, 4.0], [1.0, 1.0, 1.0]) == 0.25
    assert sign_flip([1.0, 0.0], [0.0, 1.0]) == 1.0
    with pytest.raises(InputError, match="finite"):
        sign_flip([np.nan], [1.0])


def test_random_sign_flips_agree_with_all_of_them():
    first, second = np.random.default_rng(8).normal(0.4, 1, (2, 12)) * [[1], [0.5]]
    whole = sign_flip(first, second)
    assert sign_flip(first, second, draws=4000) == pytest.approx(whole, abs=0.03)


def test_few_runs_are_given_as_mean_and_range():
    assert over_runs([0.8, 0.6, 0.7]) == pytest.approx((0.7, 0.6, 0.8))
    with pytest.raises(InputError):
        over_runs([0.8, np.nan])


def test_a_ratio_of_sums_is_weighed_by_size():
    found = paired_ratio([2.0, 0.0], [1.0, 9.0])
    assert found.value == pytest.approx(0.2)
    assert 0 == found.low < found.value < found.high == 2.0
    for differences, weights in (([1.0], [0.0]), ([np.inf], [1.0]), ([], [])):
        with pytest.raises(InputError):
            paired_ratio(differences, weights)
