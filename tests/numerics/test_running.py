"""Running mean and variance: merging is as seeing everything at once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.numerics.running import Running


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 5), st.integers(0, 1000))
def test_merged_parts_are_the_whole(n, m, d, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = 3 + 2 * torch.randn(n + m, d, generator=generator, dtype=torch.float64)
    merged = Running.of(rows[:n]).merged(Running.of(rows[n:]))
    assert merged.count == n + m
    if n + m:
        torch.testing.assert_close(merged.mean, rows.mean(0))
    if n + m > 1:
        torch.testing.assert_close(merged.variance, rows.var(0))


def test_one_row_has_no_variance_and_is_not_nan():
    row = torch.tensor([[1.0, -2.0]])
    one = Running.of(row)
    assert torch.equal(one.variance, torch.zeros(2).double())
    assert torch.equal(one.normalized(row), torch.zeros(1, 2).double())


def test_normalized_rows_have_mean_0_and_variance_1():
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 5 + 7
    normal = Running.of(rows).normalized(rows)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(normal.var(0), torch.ones(3).double(), atol=1e-6, rtol=0)
