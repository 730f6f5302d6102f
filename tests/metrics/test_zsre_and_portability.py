from __future__ import annotations

import pytest

from corrigenda.errors import EditError
from corrigenda.metrics.portability import portability
from corrigenda.metrics.zsre import accuracy, token_accuracy


def test_half_of_new_york_is_half_right():
    new, york = 5, 6
    assert token_accuracy([new, 9], [new, york]) == 0.5
    assert accuracy([0.5, 1.0]) == 0.75


def test_an_empty_target_has_no_accuracy():
    with pytest.raises(EditError):
        token_accuracy([], [])


def test_portability_is_the_mean_of_what_is_present():
    full = portability({"subject_replacement": 1, "reversed_relation": 0, "one_hop": 1})
    assert full is not None
    assert 100 * full.value == pytest.approx(66.67, abs=0.005)
    assert full.n_axes == 3
    part = portability({"subject_replacement": 1, "reversed_relation": None, "one_hop": 1})
    assert part is not None
    assert (part.value, part.n_axes) == (1.0, 2)
    assert portability({"one_hop": None}) is None
