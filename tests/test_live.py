"""Undo restores: in any order, after any exception, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corrigenda.delta import Delta, Dense, LowRank, Prefix
from corrigenda.errors import DeltaError, UnstableEditError, WrongBaseError
from corrigenda.live import tensor_hash
from tests.deltas import IN, OUT, bits, delta_for, gpt2, low_rank, randn, rank_one, toy

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Undo(RuleBasedStateMachine):
    """Random pushes and pops against a fresh model that sees only what should be active."""

    @initialize(dtype=st.sampled_from(DTYPES))
    def start(self, dtype):
        self.dtype = dtype
        self.model, self.before = toy(0, dtype), bits(toy(0, dtype).module)
        self.active: dict[int, Delta] = {}

    @rule(
        seed=st.integers(0, 10**6),
        names=st.sets(
            st.sampled_from(
                ["h.0.weight", "h.1.weight", "h.1.bias", "head.weight", "embed.weight"]
            ),
            min_size=1,
        ),
        dense=st.booleans(),
    )
    def push(self, seed, names, dense):
        changes = {}
        for name in sorted(names):
            shape = tuple(self.model.live.parameter(name).shape)
            if dense or len(shape) == 1:
                changes[name] = Dense(randn(*shape, seed=seed))
            else:
                changes[name] = low_rank(seed, 2, shape)
        delta = delta_for(self.model, changes)
        self.active[self.model.live.push(delta)] = delta

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def pop(self, data):
        handle = data.draw(st.sampled_from(sorted(self.active)))
        assert self.model.live.pop(handle) is self.active.pop(handle)
        with pytest.raises(DeltaError, match="removed already"):
            self.model.live.pop(handle)

    @rule()
    def suspend(self):
        now = bits(self.model.module)
        with self.model.live.suspended():
            assert bits(self.model.module) == self.before
            assert not self.model.live.deltas and not self.model.live.touched
        assert bits(self.model.module) == now

    @rule()
    def clear(self):
        self.model.live.clear()
        self.active.clear()

    @invariant()
    def as_if_the_others_had_never_been(self):
        if not hasattr(self, "model"):
            return
        fresh = toy(0, self.dtype)
        for delta in self.active.values():
            fresh.live.push(delta)
        assert bits(self.model.module) == bits(fresh.module)
        assert self.model.live.deltas == tuple(self.active.values())
        if not self.active:
            assert bits(self.model.module) == self.before
            assert not self.model.live.touched


Undo.TestCase.settings = settings(deadline=None, max_examples=25, stateful_step_count=12)
TestUndo = Undo.TestCase


def test_the_sum_of_those_below_is_kept_while_the_last_comes_and_goes():
    """To the same bits as if all were added anew, and for as long as the parameter is touched."""
    model, name = toy(), "h.0.weight"
    deltas = [rank_one(model, seed) for seed in range(4)]
    asked = []

    class Counted(Delta):
        def stored(self, name, shape=()):
            asked.append(self)
            return super().stored(name, shape)

    base = Counted(deltas[0].changes, deltas[0].transposed, deltas[0].base)
    handle = model.live.push(base)
    for delta in deltas[1:]:
        with delta.applied(model):
            now = model.live.parameter(name).data.clone()
        fresh = toy().live.value(name, [deltas[0], delta])
        assert torch.equal(now, fresh)
    touched = len(base.changes)
    assert len(asked) <= 3 * touched  # when it is pushed, and when the first comes on top of it
    model.live.pop(handle)
    assert not model.live._sums


@pytest.mark.parametrize("dtype", DTYPES)
def test_subtracting_would_not_restore(dtype):
    """Why originals are kept: W + D - D is not W."""
    model = toy(0, dtype)
    weight = model.live.parameter("h.0.weight").data
    d = randn(OUT, IN, seed=9).to(dtype) * 3
    assert not torch.equal(weight + d - d, weight)
    before = bits(model.module)
    with delta_for(model, {"h.0.weight": Dense(d)}).applied(model):
        assert bits(model.module) != before
    assert bits(model.module) == before


def test_the_sum_is_rounded_once():
    model = toy(0, torch.bfloat16)
    name, original = "h.0.weight", model.live.parameter("h.0.weight").data.clone()
    # Each change alone is below half a unit in the last place of most entries.
    parts = [delta_for(model, {name: Dense(original.float().abs() / 600)}) for _ in range(6)]
    for part in parts:
        model.live.push(part)
    total = sum(p.stored(name) for p in parts)
    assert torch.equal(model.live.parameter(name).data, (original.float() + total).bfloat16())
    assert not torch.equal(model.live.parameter(name).data, original)


def test_double_precision_is_not_lost():
    model = toy(0, torch.float64)
    original = model.live.parameter("h.0.weight").data.clone()
    model.live.push(delta_for(model, {"h.0.weight": Dense(torch.zeros(OUT, IN))}))
    assert torch.equal(model.live.parameter("h.0.weight").data, original)


def test_an_exception_inside_applied_restores():
    model = toy()
    before = bits(model.module)
    delta, other = rank_one(model, 1), rank_one(model, 2)
    with pytest.raises(KeyboardInterrupt), delta.applied(model) as same:
        assert same is model
        with pytest.raises(ZeroDivisionError), other.applied(model):
            1 / 0  # noqa: B018
        assert model.live.deltas == (delta,)
        raise KeyboardInterrupt
    assert bits(model.module) == before


def test_clearing_inside_applied_is_no_error():
    model = toy()
    before = bits(model.module)
    with rank_one(model, 1).applied(model):
        model.live.clear()
    assert bits(model.module) == before


def test_suspended_drops_what_is_left_inside_and_survives_exceptions():
    model = toy()
    model.live.push(rank_one(model, 1))
    now = bits(model.module)
    with pytest.raises(ZeroDivisionError), model.live.suspended():
        model.live.push(rank_one(model, 2, "h.1.weight"))
        model.live.push(rank_one(model, 3))
        1 / 0  # noqa: B018
    assert bits(model.module) == now
    assert model.live.touched == {"h.0.weight"}


def refused(model, delta, error, match):
    """The push raises and changes nothing."""
    before, deltas, touched = bits(model.module), model.live.deltas, model.live.touched
    with pytest.raises(error, match=match):
        model.live.push(delta)
    with pytest.raises(error, match=match), delta.applied(model):
        pass
    assert (bits(model.module), model.live.deltas, model.live.touched) == (before, deltas, touched)


@pytest.mark.parametrize("busy", [False, True])
def test_refusals_leave_everything_unchanged(busy):
    model = toy()
    if busy:
        model.live.push(rank_one(model, 5))
    fine = low_rank(0)
    refused(
        model,
        Delta({"h.0.weight": fine, "h.1.weight": Dense(torch.full((IN, OUT), torch.nan))}),
        UnstableEditError,
        "not finite",
    )
    refused(model, Delta({"h.0.weight": fine, "h.9.weight": fine}), WrongBaseError, "no parameter")
    refused(model, Delta({"h.0.weight": fine, "h.0": fine}), WrongBaseError, "no parameter h.0:")
    refused(model, Delta({"h.1.weight": fine}), WrongBaseError, r"has shape \(5, 6\)")
    refused(model, Delta({"h.0.weight": fine}, {"h.0.weight"}), WrongBaseError, "has shape")
    refused(
        model,
        Delta({"h.0.weight": fine}, base={"h.0.weight": "0" * 64}),
        WrongBaseError,
        "not the tensor that this delta was made for",
    )


def test_the_base_is_checked_against_the_originals_not_the_edited_weights():
    model, other = toy(0), toy(1)
    first, second = rank_one(model, 1), rank_one(model, 2)
    model.live.push(first)
    model.live.push(second)
    assert second.base["h.0.weight"] == first.base["h.0.weight"]
    refused(other, first, WrongBaseError, "not the tensor")


def test_overflow_of_the_sum_is_refused():
    model = toy(0, torch.float16)
    big = Dense(torch.full((OUT, IN), 6e4))
    first = delta_for(model, {"h.1.weight": low_rank(0, shape=(IN, OUT)), "h.0.weight": big})
    model.live.push(first)
    now = bits(model.module)
    refused(model, delta_for(model, {"h.0.weight": big}), UnstableEditError, "overflows")
    assert bits(model.module) == now
    product = LowRank(torch.full((OUT, 1), 1e30), torch.full((1, IN), 1e30))
    refused(toy(), Delta({"h.0.weight": product}), UnstableEditError, "overflows")


def test_tied_weights_are_one_parameter():
    model = toy()
    before = bits(model.module)
    assert model.live.first_name("head.weight") == "embed.weight"
    assert model.live.names("embed.weight") == ("embed.weight", "head.weight")
    d = randn(7, IN, seed=3)
    one = model.live.push(delta_for(model, {"head.weight": Dense(d)}))
    two = model.live.push(delta_for(model, {"embed.weight": Dense(d)}))
    weight = toy().module.embed.weight.data
    assert model.module.head.weight is model.module.embed.weight
    assert torch.equal(model.module.embed.weight.data, weight + (d + d))
    assert torch.equal(model.live.pristine("head.weight"), weight)
    assert model.live.pristine_hash("head.weight") == tensor_hash(weight)
    model.live.pop(one)
    assert torch.equal(model.module.head.weight.data, weight + d)
    model.live.pop(two)
    assert bits(model.module) == before


def test_writing_the_tied_head_of_gpt2_writes_its_embedding():
    model = gpt2()
    before = bits(model.module)
    with delta_for(model, {"lm_head.weight": low_rank(0, shape=(50, 16))}).applied(model):
        edited = bits(model.module)
        assert (
            edited["lm_head.weight"]
            == edited["transformer.wte.weight"]
            != (before["lm_head.weight"])
        )
        assert model.live.touched == {"transformer.wte.weight"}
    assert bits(model.module) == before


def test_conv1d_takes_the_transposed_change():
    model = gpt2()
    name = "transformer.h.1.mlp.c_proj.weight"
    delta = delta_for(model, {name: low_rank(0, shape=(16, 64))})
    assert delta.transposed == {name}
    original = model.live.parameter(name).data.clone()
    with delta.applied(model):
        change = model.live.parameter(name).data - original
        assert torch.allclose(change, delta.weights[name].matrix().T, atol=1e-6)


def test_value_tells_without_touching():
    model = toy()
    before = bits(model.module)
    deltas = [rank_one(model, 1), rank_one(model, 2)]
    told = model.live.value("h.0.weight", deltas)
    assert bits(model.module) == before
    for delta in deltas:
        model.live.push(delta)
    assert torch.equal(model.live.parameter("h.0.weight").data, told)
    assert torch.equal(model.live.value("h.0.weight", []), toy().module.h[0].weight.data)


def test_prefixes_wrap_with_the_oldest_outermost():
    model = toy()
    before = bits(model.module)
    handle = model.live.push(Delta({"context": Prefix(("Old. ",))}))
    assert model.live.has_context
    model.live.push(Delta({"context": Prefix(("New. ",))}))
    assert model.live.wrap("Q?") == "Old. New. Q?"
    model.live.pop(handle)
    assert model.live.wrap("Q?") == "New. Q?"
    assert bits(model.module) == before
    model.live.clear()
    assert model.live.wrap("Q?") == "Q?" and not model.live.has_context


def test_tensor_hash_tells_dtype_shape_and_bits():
    ones = torch.ones(2, 3)
    assert tensor_hash(ones) == tensor_hash(torch.ones(3, 2).T)
    different = [ones, ones.T, ones.half(), ones.bfloat16(), ones * 2, torch.zeros(2, 0), ones[0]]
    different += [torch.tensor(1.0), torch.tensor([0.0]), torch.tensor([-0.0])]
    assert len({tensor_hash(t) for t in different}) == len(different)


def test_become_is_push_of_each_and_nothing_when_refused() -> None:
    from tests.deltas import rank_one, toy

    model, other = toy(), toy()
    deltas = [rank_one(model, j) for j in range(4)]
    model.live.push(deltas[3])
    model.live.become(deltas[:3])
    for delta in deltas[:3]:
        other.live.push(delta)
    assert model.live.deltas == tuple(deltas[:3])
    for (name, a), (_, b) in zip(
        model.module.named_parameters(), other.module.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    kept = {n: p.clone() for n, p in model.module.named_parameters()}
    foreign = rank_one(toy(seed=5), 1)
    with pytest.raises(WrongBaseError):
        model.live.become([deltas[3], foreign])
    assert model.live.deltas == tuple(deltas[:3])
    assert all(torch.equal(p, kept[n]) for n, p in model.module.named_parameters())
    model.live.become([])
    assert not model.live.touched and model.live.deltas == ()
    assert all(
        torch.equal(p, q)
        for p, q in zip(model.module.parameters(), toy().module.parameters(), strict=True)
    )
