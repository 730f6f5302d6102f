from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.numerics.lowrank import (
    compress,
    factorize,
    inner,
    numerical_rank,
    settled,
    stack_gram,
)
from tests.deltas import randn

sizes = st.integers(1, 7)
seeds = st.integers(0, 10**6)


@settings(deadline=None, max_examples=60)
@given(i=sizes, n=st.integers(0, 12), m=st.integers(0, 12), seed=seeds)
def test_stack_gram_keeps_the_second_moment_in_at_most_i_columns(i, n, m, seed):
    a, b = randn(i, n, seed=seed), randn(i, m, seed=seed + 1)
    keys = stack_gram(a, b)
    wanted = a.double() @ a.double().T + b.double() @ b.double().T
    assert keys.dtype == torch.float32
    assert keys.shape[0] == i and keys.shape[1] <= (n + m if n + m <= i else i)
    assert torch.allclose(keys.double() @ keys.double().T, wanted, atol=1e-5 * (1 + n + m))


def test_stack_gram_only_concatenates_while_that_is_small():
    a, b = randn(8, 3, seed=0), randn(8, 5, seed=1)
    assert torch.equal(stack_gram(a, b), torch.cat([a, b], 1))
    assert stack_gram(stack_gram(a, b), b).shape == (8, 8)


def test_stack_gram_drops_directions_that_no_key_has():
    a = randn(6, 1, seed=0) @ randn(1, 9, seed=1)  # nine keys on one line
    keys = stack_gram(a.double(), a.double())
    assert keys.shape == (6, 1)
    assert stack_gram(torch.zeros(4, 9), torch.zeros(4, 2)).shape == (4, 0)


@given(i=st.integers(1, 40), counts=st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_a_stream_of_keys_stays_within_an_eighth_more_than_i(i, counts):
    keys, wanted = torch.zeros(i, 0), torch.zeros(i, i, dtype=torch.float64)
    for j, n in enumerate(counts):
        new = randn(i, n, seed=j)
        keys, wanted = stack_gram(keys, new), wanted + new.double() @ new.double().T
        assert keys.shape[1] <= i + i // 8
    assert torch.allclose(keys.double() @ keys.double().T, wanted, atol=1e-4 * sum(counts))


@given(i=st.integers(1, 40), n=st.integers(0, 60), more=st.integers(0, 20))
def test_what_has_settled_stays_for_a_while(i, n, more):
    keys = randn(i, n + more, seed=1)
    old, recent = settled(keys[:, :n], block=8)
    assert torch.equal(torch.cat([old, recent], 1), keys[:, :n])
    assert recent.shape[1] < 8
    if recent.shape[1] + more < 8:
        assert torch.equal(settled(keys, block=8)[0], old)


def test_stack_gram_refuses_keys_of_different_length():
    with pytest.raises(ValueError, match="equal length"):
        stack_gram(torch.ones(3, 2), torch.ones(4, 2))


@settings(deadline=None, max_examples=60)
@given(o=sizes, i=sizes, r=st.integers(0, 12), seed=seeds)
def test_compress_gives_the_same_product_in_orthogonal_factors(o, i, r, seed):
    u, v = randn(o, r, seed=seed), randn(r, i, seed=seed + 1)
    small_u, small_v = compress(u, v)
    rank = small_u.shape[1]
    assert rank == small_v.shape[0] <= min(o, i, max(r, 0))
    assert torch.allclose(small_u @ small_v, u @ v, atol=1e-4)
    for gram in (small_u.T @ small_u, small_v @ small_v.T):
        assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-4)


def test_compress_finds_the_rank_of_repeated_and_cancelling_terms():
    u, v = randn(9, 2, seed=0), randn(2, 7, seed=1)
    thrice = compress(torch.cat([u, u, u], 1), torch.cat([v, v, v], 0))
    assert thrice[0].shape == (9, 2)
    gone = compress(torch.cat([u, -u], 1), torch.cat([v, v], 0))
    # In float64 nothing is left at all, or rounding far below the factors.
    assert torch.allclose(gone[0] @ gone[1], torch.zeros(9, 7), atol=1e-6)
    assert compress(torch.zeros(4, 3), torch.zeros(3, 4))[0].shape == (4, 0)
    with pytest.raises(ValueError, match="Factors"):
        compress(torch.ones(3, 2), torch.ones(3, 2))


def test_compress_truncates_at_the_tolerance():
    u, _ = torch.linalg.qr(randn(6, 3, seed=0))
    v, _ = torch.linalg.qr(randn(5, 3, seed=1))
    product = u * torch.tensor([1.0, 0.1, 1e-4])
    assert compress(product, v.T.contiguous(), tol=1e-6)[0].shape[1] == 3
    assert compress(product, v.T.contiguous(), tol=1e-3)[0].shape[1] == 2


@settings(deadline=None, max_examples=60)
@given(o=sizes, i=sizes, r=st.integers(0, 7), seed=seeds)
def test_numerical_rank_of_a_product(o, i, r, seed):
    matrix = randn(o, r, seed=seed).double() @ randn(r, i, seed=seed + 1).double()
    assert numerical_rank(matrix.float()) == min(o, i, r)


def test_factorize_reproduces_or_declines():
    matrix = randn(8, 2, seed=0) @ randn(2, 6, seed=1)
    u, v = factorize(matrix, limit=2)
    assert u.shape == (8, 2) and v.shape == (2, 6)
    assert float((u @ v - matrix).norm()) <= 2e-6 * float(matrix.norm())
    assert factorize(matrix, limit=1) is None
    assert factorize(randn(8, 6, seed=2), limit=3) is None
    assert factorize(torch.zeros(3, 4))[0].shape == (3, 0)


@settings(deadline=None, max_examples=30)
@given(o=sizes, i=sizes, r=sizes, q=sizes, seed=seeds)
def test_inner_is_the_frobenius_product(o, i, r, q, seed):
    a, b = (randn(o, r, seed=seed), randn(r, i, seed=seed + 1))
    c, d = (randn(o, q, seed=seed + 2), randn(q, i, seed=seed + 3))
    dense = float(((a @ b).double() * (c @ d).double()).sum())
    assert inner(a, b, c, d) == pytest.approx(dense, abs=1e-3)
