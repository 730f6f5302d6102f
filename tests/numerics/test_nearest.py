from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.numerics.nearest import nearest
from tests.deltas import randn


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@settings(max_examples=25)
@given(n=st.integers(0, 9), m=st.integers(1, 9), k=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_is_the_definition_in_any_blocks(metric, n, m, k, seed):
    queries, keys = randn(n, 4, seed=seed).double(), randn(m, 4, seed=seed + 1).double()
    found = nearest(queries, keys, k, metric, block=3)
    assert found.score.shape == found.index.shape == (n, min(k, m))
    for row in range(n):
        q = queries[row]
        score = {
            "cosine": [float(q @ key / (q.norm() * key.norm())) for key in keys],
            "dot": [float(q @ key) for key in keys],
            "l2": [-float((q - key).norm()) for key in keys],
        }[metric]
        wanted = sorted(range(m), key=lambda j: -score[j])[:k]
        assert found.index[row].tolist() == wanted
        assert found.score[row].tolist() == pytest.approx([score[j] for j in wanted])


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_equal_scores_go_to_the_earlier_key(metric):
    keys = torch.tensor([[0.0, 1.0]]).repeat(50, 1)  # no products to round
    assert nearest(keys[:3], keys, 5, metric).index.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_distances_to_itself_are_zero_far_from_the_origin():
    keys = 1e4 + randn(100, 8, seed=0)
    found = nearest(keys, keys, 1, "l2")
    assert found.index[:, 0].tolist() == list(range(100))
    assert not bool(found.score.any())


def test_half_precision_is_compared_in_single():
    queries, keys = randn(5, 16, seed=0).bfloat16(), randn(9, 16, seed=1).bfloat16()
    found = nearest(queries, keys, 3)
    assert found.score.dtype == torch.float32
    assert torch.equal(found.score, nearest(queries.float(), keys.float(), 3).score)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="of the same d"):
        nearest(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="k = 0"):
        nearest(torch.ones(2, 3), torch.ones(2, 3), 0)
    with pytest.raises(ValueError, match="no metric 'hamming'"):
        nearest(torch.ones(2, 3), torch.ones(2, 3), 1, "hamming")  # type: ignore[arg-type]
