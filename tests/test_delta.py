"""The algebra of deltas: changes form a vector space, whatever form they are kept in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.delta import Change, Delta, Dense, LowRank, Outcome, Prefix, Provenance
from corrigenda.errors import DeltaError, UnstableEditError
from tests.deltas import IN, OUT, low_rank, randn, says

PLACES = ("a.weight", "b.weight", "c.weight")


@st.composite
def changes(draw: st.DrawFn) -> LowRank | Dense:
    seed = draw(st.integers(0, 10**6))
    if draw(st.booleans()):
        return low_rank(seed, draw(st.integers(0, 4)))
    return Dense(randn(OUT, IN, seed=seed))


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    names = draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=3))
    return Delta({n: draw(changes()) for n in names})


def dense(delta: Delta) -> dict[str, torch.Tensor]:
    """Every place written out in full, float64."""
    whole = {n: torch.zeros(OUT, IN, dtype=torch.float64) for n in PLACES}
    return whole | {n: c.matrix().double() for n, c in delta.weights.items()}


def same(a: Delta, b: Delta, atol: float = 1e-4) -> bool:
    x, y = dense(a), dense(b)
    return all(torch.allclose(x[n], y[n], atol=atol) for n in PLACES)


@settings(deadline=None, max_examples=60)
@given(a=deltas(), b=deltas(), c=deltas())
def test_addition_is_associative_commutative_and_has_a_zero(a, b, c):
    assert same((a + b) + c, a + (b + c))
    assert same(a + b, b + a)
    assert same(a + Delta(), a) and same(Delta() + a, a)
    total = dense(a + b)
    assert all(torch.allclose(total[n], dense(a)[n] + dense(b)[n], atol=1e-4) for n in PLACES)


@settings(deadline=None, max_examples=60)
@given(a=deltas(), b=deltas(), x=st.floats(-4, 4, width=32), y=st.floats(-4, 4, width=32))
def test_scaling_distributes(a, b, x, y):
    assert same(x * (a + b), x * a + x * b, 1e-3)
    assert same((x * y) * a, x * (y * a), 1e-3)
    assert same(a * x + a * y, a * (x + y), 1e-3)
    assert same(a - a, 0 * a) and same(-a, a * -1)


@settings(deadline=None, max_examples=60)
@given(change=changes())
def test_norm_and_shape_agree_with_the_dense_matrix(change):
    matrix = change.matrix()
    assert change.shape == tuple(matrix.shape) == (OUT, IN)
    assert change.norm() == pytest.approx(float(matrix.double().norm()), rel=1e-5, abs=1e-6)


def test_sums_stay_factored_until_dense_is_smaller():
    one = low_rank(0, 1)
    assert isinstance(one.plus(low_rank(2, 1)), LowRank)
    assert one.plus(low_rank(2, 1)).rank == 2
    # 3 (6 + 5) numbers are more than 6 x 5.
    assert isinstance(low_rank(0, 2).plus(low_rank(2, 1)), Dense)
    assert isinstance(one.plus(Dense(randn(OUT, IN, seed=3))), Dense)


def test_changes_refuse_shapes_that_do_not_fit():
    with pytest.raises(DeltaError, match=r"u \(o, r\)"):
        LowRank(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(DeltaError, match="different models"):
        low_rank(0).plus(low_rank(0, shape=(OUT, IN + 1)))
    with pytest.raises(DeltaError, match="different models"):
        Dense(torch.ones(4)).plus(Dense(torch.ones(5)))
    with pytest.raises(DeltaError, match="different models"):
        Dense(torch.ones(1, 5)).plus(Dense(torch.ones(6, 5)))  # would broadcast


def test_adding_refuses_other_bases_and_other_storage():
    a = Delta({"a.weight": low_rank(0)}, base={"a.weight": "1" * 64})
    b = Delta({"a.weight": low_rank(1)}, base={"a.weight": "2" * 64})
    with pytest.raises(DeltaError, match=r"different weights of a.weight"):
        a + b
    flipped = Delta({"a.weight": low_rank(1)}, frozenset({"a.weight"}))
    with pytest.raises(DeltaError, match=r"disagree on how a.weight is stored"):
        a + flipped


def test_factors_are_kept_as_float32_on_the_cpu_without_gradients():
    u = torch.ones(3, 1, dtype=torch.bfloat16, requires_grad=True)
    change = LowRank(u, torch.ones(1, 2, dtype=torch.float64))
    assert change.u.dtype == change.v.dtype == torch.float32
    assert not change.u.requires_grad


def test_stored_orientation_follows_the_parameter():
    change = low_rank(0)
    plain, flipped = Delta({"a.weight": change}), Delta({"a.weight": change}, {"a.weight"})
    assert torch.equal(plain.stored("a.weight"), change.matrix())
    assert torch.equal(flipped.stored("a.weight"), change.matrix().T)


def test_a_delta_does_not_follow_the_mapping_it_was_made_from():
    mapping: dict[str, Change] = {"a.weight": low_rank(0)}
    delta = Delta(mapping)
    identity = delta.id
    mapping.clear()
    assert delta.changes and delta.id == identity


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["u", "v", "d"])
def test_non_finite_changes_are_found(bad, form):
    tensor = torch.ones(1, 1) * bad
    fine = torch.ones(1, 1)
    change = (
        Dense(tensor) if form == "d" else LowRank(*{"u": (tensor, fine), "v": (fine, tensor)}[form])
    )
    with pytest.raises(UnstableEditError, match=r"a\.weight is not finite"):
        Delta({"a.weight": change}).check_finite()


def test_prefixes_wrap_prompts_and_add_up():
    one, two = Prefix(("Rome has a tower. ",)), Prefix(("Oslo has a fjord. ",))
    both = one.plus(two)
    assert both.wrap("Where?") == "Rome has a tower. Oslo has a fjord. Where?"
    near = Prefix(both.passages, limit=1)
    assert near.wrap("Where is a fjord.") == "Oslo has a fjord. Where is a fjord."
    assert Prefix((), "Q: {}\nA:").wrap("{} {}") == "Q: {} {}\nA:"
    with pytest.raises(DeltaError, match="once"):
        Prefix((), "no place")
    with pytest.raises(DeltaError, match="query forms"):
        one.plus(Prefix((), "Q: {}"))


def test_prefixes_have_no_scale_and_their_own_key():
    delta = Delta({"context": Prefix(("x ",))})
    assert delta.prefix is not None and delta.weights == {} and delta.norms() == {}
    with pytest.raises(DeltaError, match="cannot be scaled"):
        delta * 2
    with pytest.raises(DeltaError, match="cannot be the change"):
        Delta({"a.weight": Prefix(("x",))})
    with pytest.raises(DeltaError, match="cannot be the change"):
        Delta({"context": low_rank(0)})


def test_provenance_of_a_sum_names_both():
    a = Delta({"a.weight": low_rank(0)}, provenance=says("Rome", editor="rome"))
    b = Delta({"a.weight": low_rank(1)}, provenance=says("Oslo", took=False, editor="memit"))
    both = a + b
    assert both.provenance.editor == "rome+memit"
    assert (both + b).provenance.editor == "rome+memit"
    assert (Delta() + a).provenance.editor == "rome"
    assert [e["target"] for e in both.provenance.edits] == ["Rome", "Oslo"]
    assert [(e["target"], o.answer) for e, o in both.failed] == [("Oslo", " Paris")]


def test_outcomes_never_move_to_another_edit():
    silent = Provenance(edits=({"prompt": "{} is", "subject": "x", "target": "y"},))
    a = Delta({"a.weight": low_rank(0)}, provenance=silent)
    b = Delta({"a.weight": low_rank(1)}, provenance=says("Oslo", took=False))
    assert (a + b).failed == []
    assert (b + a).failed[0][1] == Outcome(took=False, answer=" Paris")


def test_past_keys_are_stacked_and_never_wider_than_long():
    a = Delta(state={"s/keys": randn(4, 3, seed=0), "s/mean": torch.zeros(2)})
    b = Delta(state={"s/keys": randn(4, 3, seed=1), "s/mean": torch.ones(2)})
    joined = (a + b).state
    wanted = sum(d.state["s/keys"] @ d.state["s/keys"].T for d in (a, b))
    assert joined["s/keys"].shape == (4, 4)
    assert torch.allclose(joined["s/keys"] @ joined["s/keys"].T, wanted, atol=1e-4)
    assert torch.equal(joined["s/mean"], torch.ones(2))


def test_identity_depends_on_changes_storage_and_base_only():
    change = low_rank(0)
    delta = Delta({"a.weight": change}, base={"a.weight": "0" * 64})
    assert len(delta.id) == 64
    again = Delta(
        {"a.weight": LowRank(change.u.clone(), change.v.clone())},
        base={"a.weight": "0" * 64},
        state={"k": torch.ones(1)},
        provenance=says("Rome"),
    )
    assert again.id == delta.id
    others = [
        Delta({"a.weight": change}),
        Delta({"b.weight": change}, base={"a.weight": "0" * 64}),
        Delta({"a.weight": change}, {"a.weight"}, {"a.weight": "0" * 64}),
        Delta({"a.weight": Dense(change.matrix())}, base={"a.weight": "0" * 64}),
        delta * 2,
        Delta({"context": Prefix(("a", "b"))}),
        Delta({"context": Prefix(("ab",))}),
        Delta(),
    ]
    assert len({d.id for d in [delta, *others]}) == len(others) + 1


def test_identity_does_not_depend_on_the_order_of_sites():
    a, b = low_rank(0), low_rank(1)
    assert Delta({"a.weight": a, "b.weight": b}).id == Delta({"b.weight": b, "a.weight": a}).id


def test_truth_and_text():
    assert not Delta() and Delta({"a.weight": low_rank(0)})
    assert "LowRank at a.weight" in repr(Delta({"a.weight": low_rank(0)}))
    assert Delta().__add__(3) is NotImplemented  # type: ignore[arg-type]
