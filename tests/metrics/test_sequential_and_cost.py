from __future__ import annotations

import pytest

from corrigenda.metrics.cost import edits_per_second, measured
from corrigenda.metrics.sequential import capacity, forgetting, immediate, oldest, retained

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


def test_edits_per_second():
    assert edits_per_second(20_000, 300) == pytest.approx(66.7, abs=0.05)


def test_cost_is_read_even_if_the_block_raises():
    with pytest.raises(ValueError, match="inside"), measured() as cost:
        raise ValueError("inside")
    assert cost.seconds > 0
    assert cost.resident is None or cost.resident > 1_000_000
