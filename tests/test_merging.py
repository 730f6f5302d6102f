"""Merging deltas: the arithmetic of task vectors (methods.md §5.5)."""

from __future__ import annotations

import pytest
import torch

from corrigenda.delta import Delta, Dense, LowRank, Prefix
from corrigenda.errors import DeltaError
from corrigenda.merging import analogy, merge


def delta(seed: int, base: str = "x") -> Delta:
    generator = torch.Generator().manual_seed(seed)
    return Delta(
        {
            "a.weight": Dense(torch.randn(3, 4, generator=generator)),
            "b.weight": LowRank(
                torch.randn(5, 1, generator=generator), torch.randn(1, 6, generator=generator)
            ),
        },
        frozenset({"a.weight"}),
        {"a.weight": base},
    )


def same(a: Delta, b: Delta) -> bool:
    return a.changes.keys() == b.changes.keys() and all(
        torch.allclose(a.weights[n].matrix(), b.weights[n].matrix(), atol=1e-6) for n in a.changes
    )


def test_a_sum_weighs_each_delta():
    a, b = delta(1), delta(2)
    assert same(merge([a, b]), a + b)
    assert same(merge([a, b], scale=0.5), 0.5 * a + 0.5 * b)
    assert same(merge([a, b], scale=(2.0, -1.0)), 2 * a - b)


def test_a_vector_and_its_negative_cancel():
    a = delta(1)
    assert not any(c.matrix().any() for c in merge([a, -a]).weights.values())


def test_ties_of_one_dense_delta_is_that_delta():
    a = delta(1)
    merged = merge([a], "ties", density=1.0)
    assert same(merged, a)
    assert merged.base == a.base and merged.transposed == a.transposed
    assert merged.provenance.arguments["merge"] == "ties"


def test_ties_drops_small_entries():
    merged = merge([delta(1), delta(2)], "ties", density=0.2)
    entries = torch.cat([c.matrix().flatten() for c in merged.weights.values()])
    assert 0 < int((entries != 0).sum()) <= 2 * round(0.2 * 42)


def test_dare_without_drop_is_the_sum_and_a_seed_decides_what_goes():
    a, b = delta(1), delta(2)
    assert same(merge([a, b], "dare", drop=0.0), a + b)
    assert same(merge([a, b], "dare", seed=3), merge([a, b], "dare", seed=3))
    assert not same(merge([a, b], "dare", seed=3), merge([a, b], "dare", seed=4))


def test_an_analogy_ends_where_it_should():
    a, b, c = delta(1), delta(2), delta(3)
    assert same(analogy(a, a, c), c)
    assert same(analogy(a, b, a), b)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(DeltaError, match="different weights"):
        merge([delta(1), delta(2, base="y")], "ties")
    with pytest.raises(DeltaError, match="as many scales"):
        merge([delta(1), delta(2)], scale=(1.0,))
    with pytest.raises(DeltaError, match="no way of merging"):
        merge([delta(1)], "mean")  # type: ignore[arg-type]
    with pytest.raises(DeltaError, match="cannot be scaled"):
        merge([Delta({"context": Prefix(("New.",))})], "ties")
    assert not merge([])
