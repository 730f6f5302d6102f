from __future__ import annotations

import warnings

import pytest
import torch
from concept_erasure import LeaceFitter, OracleFitter
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.numerics.erase import (
    ConceptMoments,
    Eraser,
    difference_of_means,
    fold,
    leace,
    oracle,
    principal_direction,
    random_directions,
)

seeds = st.integers(0, 10**6)
OPTIONS = (
    {},
    {"method": "orth"},
    {"shrink": True},
    {"affine": False},
    {"method": "orth", "affine": False},
)


def one_hot(n: int, k: int, generator: torch.Generator) -> torch.Tensor:
    classes = torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=generator)])
    return torch.nn.functional.one_hot(classes, k).double()


def data(n=200, d=9, k=3, seed=0):
    """Correlated rows x (n, d) far from 0 whose means depend on the classes z (n, k)."""
    generator = torch.Generator().manual_seed(seed)
    z = one_hot(n, k, generator)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    means = torch.randn(k, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return 5 + z @ means + noise @ mixing, z


def cross(x, z):
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def assert_close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=20)
@given(n=st.integers(5, 60), d=st.integers(1, 12), k=st.integers(1, 4), seed=seeds)
def test_what_every_eraser_does(options, n, d, k, seed):
    """No covariance is left, P is a projection, and one-hot classes cost at most k - 1 ranks."""
    x, z = data(n, d, k, seed)
    eraser = leace(ConceptMoments.of(x, z), **options)
    assert float(cross(eraser(x), z).norm()) < 1e-11 * (1 + float(eraser.v.norm()))
    assert eraser.rank <= min(k - 1, d)
    assert_close(eraser.u.T @ eraser.u, torch.eye(eraser.rank, dtype=torch.float64))
    assert_close(eraser.v @ eraser.u, torch.eye(eraser.rank, dtype=torch.float64), 1e-8)
    scaled = 1e-8 * (1 + float(eraser.v.norm()) ** 2)
    assert_close(eraser.matrix @ eraser.matrix, eraser.matrix, scaled)
    if options.get("affine", True):
        assert_close(eraser(x).mean(0), x.mean(0), scaled)


def test_covariance_vanishes_to_rounding():
    """Check of the method: 1e-14 on the data it was fitted to, and no class tells more."""
    x, z = data()
    x = x - x.mean(0)
    erased = leace(ConceptMoments.of(x, z))(x)
    assert float(cross(x, z).abs().max()) > 0.1
    assert float(cross(erased, z).abs().max()) < 1e-14
    means = torch.stack([erased[z[:, c] == 1].mean(0) for c in range(z.shape[1])])
    assert float(means.std(0).max()) < 1e-12


def test_a_linear_classifier_is_left_with_the_majority():
    """Least squares with an intercept predicts the class frequencies for every row; another,
    independent concept can be read as before."""
    generator = torch.Generator().manual_seed(3)
    x, z = data(600, 12, 2, 3)
    other = (torch.rand(600, generator=generator, dtype=torch.float64) < 0.5).double()
    x[:, 5] += 8 * other
    erased = leace(ConceptMoments.of(x, z))(x)

    def right(rows, wanted):
        features = torch.cat([rows, torch.ones(len(rows), 1)], 1)
        fitted = features @ torch.linalg.lstsq(features, wanted, driver="gelsd").solution
        return float((fitted.argmax(1) == wanted.argmax(1)).double().mean())

    both = torch.stack([other, 1 - other], 1)
    assert right(x, z) > 0.75
    assert right(erased, z) == pytest.approx(float(z.mean(0).max()))
    assert right(erased, both) > right(x, both) - 0.03


@given(seed=seeds)
def test_leace_moves_the_data_least(seed):
    """Any other projection along the same subspace costs more, the orthogonal one included; the
    oracle, which knows z, costs less."""
    x, z = data(80, 7, 3, seed)
    moments = ConceptMoments.of(x, z)
    best = leace(moments)

    def cost(eraser):
        return float((eraser(x) - x).square().sum())

    w = 0.1 * random_directions(7, 2, seed=seed).T @ best.matrix  # w u = 0
    others = (leace(moments, method="orth"), leace(moments, shrink=True))
    for other in (*others, Eraser(best.u, best.v + w, best.mean)):
        assert cost(best) <= cost(other) * (1 + 1e-9)
    assert float((oracle(moments)(x, z) - x).square().sum()) <= cost(best) * (1 + 1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=20)
@given(seed=seeds)
def test_no_eraser_raises_the_variance(options, seed):
    x, z = data(30, 8, 3, seed)
    moments = ConceptMoments.of(x, z)
    p, sigma = leace(moments, **options).matrix, moments.covariance()
    assert float((p @ sigma @ p.T).trace()) < float(sigma.trace())
    if not options.get("shrink") and options.get("method") != "orth":
        removed = torch.linalg.eigvalsh(sigma - p @ sigma @ p.T)
        assert float(removed[0]) > -1e-9 * float(removed[-1])  # in every direction


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=seeds)
def test_moments_do_not_depend_on_the_batches(sizes, seed):
    x, z = data(sum(sizes) + 3, 5, 3, seed)
    x = x + 1e4
    whole, parts = ConceptMoments.of(x, z), ConceptMoments.of(x[:3], z[:3])
    at = 3
    for size in sizes:
        parts = parts.plus(x[at : at + size], z[at : at + size])
        at += size
    assert parts.count == whole.count
    for name in ("mean_x", "mean_z", "xx", "xz", "zz"):
        assert_close(getattr(parts, name), getattr(whole, name), 1e-6)


def test_erasing_twice_finds_nothing_more():
    x, z = data()
    erased = leace(ConceptMoments.of(x, z))(x)
    assert leace(ConceptMoments.of(erased, z)).rank == 0
    assert leace(ConceptMoments.of(x, torch.ones(len(x)))).rank == 0


def test_more_dimensions_than_rows():
    """A singular Σ: the pseudo-inverse is enough, since Σ_xz lies in its range."""
    x, z = data(12, 40, 3)
    for options in ({}, {"shrink": True}):
        eraser = leace(ConceptMoments.of(x, z), **options)
        assert eraser.rank == 2
        assert float(cross(eraser(x), z).abs().max()) < 1e-11


def test_one_dimension_per_binary_concept_is_the_class_difference():
    x, z = data(100, 6, 2)
    eraser = leace(ConceptMoments.of(x, z[:, 0]))
    difference = difference_of_means(x[z[:, 0] == 1], x[z[:, 0] == 0])
    assert float((eraser.u[:, 0] @ difference).abs() / difference.norm()) == pytest.approx(1)
    assert float((eraser.matrix @ difference).norm()) < 1e-10


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_is_exact(bias, transposed):
    x, z = data(60, 8, 3)
    eraser = leace(ConceptMoments.of(x, z))
    weight = torch.randn(8, 5, dtype=torch.float64).T if transposed else torch.randn(5, 8).double()
    b = torch.randn(5, dtype=torch.float64) if bias else None
    folded, shift = fold(eraser, weight, b)
    wanted = torch.nn.functional.linear(eraser(x), weight, b)
    assert_close(torch.nn.functional.linear(x, folded, shift), wanted)
    assert int(torch.linalg.matrix_rank(folded - weight, rtol=1e-9)) == eraser.rank
    assert fold(eraser, weight.float())[0].dtype == torch.float32


def test_half_precision_is_erased_in_single():
    x, z = data(60, 8, 3)
    eraser = leace(ConceptMoments.of(x, z))
    for dtype in (torch.bfloat16, torch.float16):
        got = eraser(x.to(dtype))
        assert got.dtype == dtype
        assert torch.equal(got, eraser(x.to(dtype).float()).to(dtype))


def test_the_shrunk_covariance_is_nearer_to_the_truth():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 50, generator=generator, dtype=torch.float64)
    moments, truth = ConceptMoments.of(rows, rows[:, 0]), torch.eye(50, dtype=torch.float64)
    plain, shrunk = moments.covariance(), moments.covariance(shrink=True)
    assert float((shrunk - truth).norm()) < 0.5 * float((plain - truth).norm())
    assert float(shrunk.trace()) == pytest.approx(float(plain.trace()))
    many = ConceptMoments.of(*data(20000, 5, 2))
    assert_close(many.covariance(True), many.covariance(), 0.1)


@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("method", ["leace", "orth"])
@pytest.mark.parametrize("affine", [False, True])
def test_agrees_with_the_reference_package(method, affine, shrink):
    for seed in range(3):
        x, z = data(150, 8, 3, seed)
        options = {"method": method, "affine": affine}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = LeaceFitter.fit(
                x, z, **options, shrinkage=shrink, constrain_cov_trace=False, svd_tol=1e-8
            ).eraser
        ours = leace(ConceptMoments.of(x, z), **options, shrink=shrink)
        assert_close(ours.matrix, theirs.P, 1e-9)
        assert_close(ours(x), theirs(x), 1e-9)


def test_the_oracle_agrees_with_the_reference_package_and_leaves_the_regression_residual():
    x, z = data(150, 8, 3)
    ours = oracle(ConceptMoments.of(x, z))
    assert_close(ours(x, z), OracleFitter.fit(x, z).eraser(x, z), 1e-9)
    features = torch.cat([z - z.mean(0), torch.ones(len(z), 1)], 1)
    fitted = torch.linalg.lstsq(features, x, driver="gelsd").solution
    assert_close(ours(x, z), x - (z - z.mean(0)) @ fitted[:-1], 1e-9)
    assert float(cross(ours(x, z), z).abs().max()) < 1e-12


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="go together"):
        ConceptMoments.of(torch.ones(3, 2), torch.ones(4))
    with pytest.raises(ValueError, match="not finite"):
        ConceptMoments.of(torch.full((3, 2), torch.nan), torch.ones(3))
    with pytest.raises(ValueError, match="in pairs"):
        principal_direction(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="at most 3"):
        random_directions(3, 4)


@given(seed=seeds, flipped=st.booleans())
def test_the_sign_of_the_principal_direction_is_that_of_the_labels(seed, flipped):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.nn.functional.normalize(torch.randn(10, generator=generator), dim=0).double()
    strength = 2 + torch.rand(40, 1, generator=generator).double()
    noise = 0.2 * torch.randn(40, 10, generator=generator).double()
    negative = torch.randn(40, 10, generator=generator).double()
    positive = negative + strength * truth + noise
    pair = (negative, positive) if flipped else (positive, negative)
    found = principal_direction(*pair)
    assert float(found.norm()) == pytest.approx(1)
    assert float(found @ truth) * (-1 if flipped else 1) > 0.95
    means = difference_of_means(*pair)
    assert float(found @ means / means.norm()) > 0.95


def test_random_directions_are_orthonormal_and_seeded():
    a = random_directions(12, 5, seed=1)
    assert_close(a.T @ a, torch.eye(5, dtype=torch.float64))
    assert torch.equal(a, random_directions(12, 5, seed=1))
    assert not torch.equal(a, random_directions(12, 5, seed=2))


def test_an_eraser_of_given_directions_removes_them_and_nothing_else():
    directions = random_directions(12, 3) @ torch.randn(3, 3).double()
    eraser = Eraser.along(directions)
    assert eraser.rank == 3
    assert float((eraser.matrix @ directions).norm()) < 1e-10
    beside = Eraser.along(directions).matrix @ torch.randn(12, 2).double()
    assert_close(eraser(beside.T).T, beside)
