"""What a checkpoint contains: each recorded edit, and nothing that is not recorded."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.delta import Delta, Dense
from corrigenda.errors import WrongBaseError
from corrigenda.ledger import Ledger
from corrigenda.verify import verify
from tests.deltas import IN, OUT, Fake, delta_for, low_rank, randn, rank_one, toy

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def checkpoint(deltas, dtype=torch.float32) -> Fake:
    """A model that comes with these changes in its weights, and knows nothing of where from."""
    edited = toy(0, dtype)
    for delta in deltas:
        edited.live.push(delta)
    plain = toy(3, dtype)
    plain.module.load_state_dict(edited.module.state_dict())
    return plain


@pytest.fixture(params=DTYPES, ids=["fp32", "bf16", "fp16"])
def dtype(request):
    return request.param


@pytest.fixture
def recorded(tmp_path, dtype):
    """A bound ledger of four edits (two tensors, overlapping), of which the second is undone."""
    model = toy(0, dtype)
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    deltas = [
        rank_one(model, 1),
        rank_one(model, 2),
        delta_for(model, {"h.0.weight": low_rank(3), "h.1.weight": low_rank(4, 1, (IN, OUT))}),
        delta_for(model, {"h.1.bias": Dense(randn(IN, seed=5))}),
    ]
    for delta in deltas:
        ledger.record(delta)
    ledger.undo(3)
    return ledger, deltas


def ids(*deltas: Delta) -> tuple[str, ...]:
    return tuple(d.id for d in deltas)


def test_the_present_state_is_recognised(recorded, dtype):
    ledger, (a, b, c, d) = recorded
    found = ledger.verify(checkpoint([a, c, d], dtype))
    assert found.contained == ids(a, c, d) and found.missing == ids(b)
    assert found.clean and found.current and found.exact
    assert not found.unchecked and found.checked == len(toy().live._module.state_dict()) - 1
    assert "nothing else changed, bit for bit" in str(found)


def test_every_earlier_state_is_recognised(recorded, dtype):
    ledger, (a, b, c, d) = recorded
    for present in ([], [a], [a, b], [a, b, c], [a, b, c, d]):
        found = ledger.verify(checkpoint(present, dtype))
        assert found.contained == ids(*present) and found.clean and found.exact
        assert not found.current
        assert found.stale == (ids(b) if b in present else ())
        assert found.absent == ids(*(x for x in (a, c, d) if x not in present))


def test_any_other_combination_needs_the_base(recorded, dtype):
    ledger, (_, b, c, d) = recorded
    base = toy(0, dtype)
    for present in ([b], [c], [b, d], [b, c], [d]):
        found = ledger.verify(checkpoint(present, dtype), base=base)
        assert found.contained == ids(*present), str(found)
        assert found.clean and found.exact and not found.partly
    blind = ledger.verify(checkpoint([b], dtype))
    # No entry ever left h.0.weight so: it is not explained away.
    assert not blind.clean and blind.unexplained[0].tensor == "h.0.weight"
    assert set(blind.undecided) >= {b.id}


def test_a_live_model_brings_its_own_base(recorded, dtype):
    ledger, (_, b, _, d) = recorded
    model = toy(0, dtype)
    model.live.push(b)
    model.live.push(d)
    found = ledger.verify(model)
    assert found.contained == ids(b, d) and found.clean
    # Originals that are not the base are no base.
    odd = checkpoint([b], dtype)
    odd.live.push(Delta({"h.0.weight": low_rank(8)}))
    assert not ledger.verify(odd).clean


@pytest.mark.parametrize("with_base", [False, True])
def test_what_nobody_recorded_is_found(recorded, dtype, with_base):
    ledger, (a, _, c, d) = recorded
    base = toy(0, dtype) if with_base else None
    model = checkpoint([a, c, d], dtype)
    model.module.norm.weight.data[2] += 0.5
    found = ledger.verify(model, base=base)
    assert [f.tensor for f in found.unexplained] == ["norm.weight"]
    assert found.contained == ids(a, c, d) and not found.clean and not found.current
    if with_base:
        assert found.unexplained[0].norm == pytest.approx(0.5, rel=0.02)
        assert 0 < found.unexplained[0].relative < 1
    assert "something else changed" in str(found)
    json.dumps(found.to_dict())


def test_a_change_on_top_of_edits_is_measured(recorded, dtype):
    ledger, (a, _, c, d) = recorded
    model = checkpoint([a, c, d], dtype)
    extra = randn(OUT, IN, seed=77) * 0.5
    model.module.h[0].weight.data += extra.to(dtype)
    found = ledger.verify(model, base=toy(0, dtype))
    assert [f.tensor for f in found.unexplained] == ["h.0.weight"]
    assert found.unexplained[0].norm == pytest.approx(float(extra.norm()), rel=0.05)
    blind = ledger.verify(model)
    assert [f.tensor for f in blind.unexplained] == ["h.0.weight"]
    assert blind.unexplained[0].norm is None
    assert blind.contained == ids(d)  # its own tensor is as recorded
    assert set(blind.undecided) | set(blind.partly) >= set(ids(a))


def test_the_smallest_change_of_one_entry_is_seen(dtype):
    model = toy(0, dtype)
    delta = rank_one(model, 1)
    edited = checkpoint([delta], dtype)
    assert verify(edited, [delta], base=model).exact
    weight = edited.module.h[0].weight.data
    weight[1, 2] = (
        torch.nextafter(weight[1, 2].float(), torch.tensor(torch.inf))
        if (dtype == torch.float32)
        else weight[1, 2] * (1 + torch.finfo(dtype).eps)
    )
    found = verify(edited, [delta], base=model)
    assert not found.exact
    assert found.clean == (dtype == torch.float32)  # there, within the rounding of another sum


def test_half_an_edit_is_partly_there(recorded, dtype):
    ledger, (a, b, c, d) = recorded
    base = toy(0, dtype)
    found = ledger.verify(checkpoint([a, d, c * 0.5], dtype), base=base)
    assert set(found.partly) == {c.id} and found.partly[c.id] == pytest.approx(0.5, abs=0.02)
    assert found.contained == ids(a, d) and found.missing == ids(b)
    assert not found.clean and "contained by 0.5" in str(found)
    twice = ledger.verify(checkpoint([a, a * 1.0, c, d], dtype), base=base)
    assert twice.partly[a.id] == pytest.approx(2, abs=0.05)


def test_one_tensor_of_an_edit_taken_back_is_noticed(recorded, dtype):
    ledger, (a, _, c, d) = recorded
    model = checkpoint([a, c, d], dtype)
    model.module.h[1].weight.data.copy_(toy(0, dtype).module.h[1].weight.data)
    blind = ledger.verify(model)
    assert blind.partly == {c.id: None} and not blind.clean
    seen = ledger.verify(model, base=toy(0, dtype))
    assert not seen.clean and not seen.unexplained and set(seen.partly) == {c.id}
    assert 0 < seen.partly[c.id] < 1 and seen.contained == ids(a, d)


@settings(deadline=None, max_examples=40)
@given(
    present=st.sets(st.integers(0, 4)),
    seed=st.integers(0, 999),
    order=st.permutations(range(5)),
    kind=st.sampled_from(DTYPES),
)
def test_any_subset_in_any_order_is_found(present, seed, order, kind):
    base = toy(0, kind)
    deltas = [
        delta_for(
            base,
            {"h.0.weight": low_rank(seed + j), "h.1.weight": low_rank(seed + 50 + j, 1, (IN, OUT))},
        )
        for j in range(5)
    ]
    model = checkpoint([deltas[j] for j in order if j in present], kind)
    found = verify(model, deltas, base=base)
    assert found.clean and found.contained == tuple(
        d.id for j, d in enumerate(deltas) if j in present
    )


def test_many_edits_are_told_apart():
    base = toy(0)
    deltas = [
        delta_for(base, {"h.0.weight": low_rank(j), "h.1.weight": low_rank(50 + j, 1, (IN, OUT))})
        for j in range(14)
    ]
    model = checkpoint(deltas[::2])
    found = verify(model, deltas, base=base)
    assert found.contained == ids(*deltas[::2]) and found.clean


def test_edits_below_rounding_are_believed():
    base = toy(0, torch.bfloat16)
    tiny = rank_one(base, 1, scale=1e-6)
    found = verify(checkpoint([tiny], torch.bfloat16), [tiny], base=base)
    assert found.contained == ids(tiny) and found.clean


def test_a_checkpoint_rounded_to_another_dtype_is_explained():
    base = toy(0)
    a, b = rank_one(base, 1), rank_one(base, 2)
    model = checkpoint([a])
    model.module.to(torch.bfloat16)
    found = verify(model, [a, b], base=base)
    assert found.contained == ids(a) and found.missing == ids(b) and found.clean


def test_deltas_alone_speak_of_what_they_touch():
    base = toy(0)
    a, b = rank_one(base, 1), rank_one(base, 2, "h.1.weight")
    found = verify(toy(0), [a, b])
    assert found.missing == ids(a, b) and found.clean and not found.current
    assert "norm.weight" in found.unchecked and "not checked: " in str(found)
    blind = verify(checkpoint([a]), [a, b])
    assert blind.undecided == ids(a) and blind.missing == ids(b) and not blind.clean


def test_nothing_recorded_and_nothing_changed(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger")
    assert ledger.verify(toy()).clean and ledger.verify(toy()).unchecked
    ledger.bind(toy())
    assert ledger.verify(toy()).current and not ledger.verify(toy()).unchecked
    other = ledger.verify(toy(1))
    assert len(other.unexplained) == other.checked and "another model" in str(other)


def test_binding_after_recording_still_recognises(tmp_path):
    model = toy()
    ledger = Ledger.open(tmp_path / "ledger")
    a, b = rank_one(model, 1), rank_one(model, 2)
    ledger.record(a)
    ledger.record(b)
    ledger.bind(model)
    assert ledger.verify(checkpoint([a, b])).current
    assert not ledger.verify(checkpoint([a])).clean  # that state was never seen
    # Entries that were made without the model at hand are not recognised by a stale hash.
    unbound = Ledger.open(ledger.directory)
    unbound.undo(a)
    assert not unbound.verify(checkpoint([b])).clean
    assert unbound.verify(checkpoint([b]), base=toy()).current
    assert unbound.verify(checkpoint([a, b])).stale == ids(a)


def test_tied_weights_count_once(tmp_path):
    model = toy()
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    head = delta_for(model, {"head.weight": low_rank(0, 1, (7, IN))})
    ledger.record(head)
    embed = delta_for(model, {"embed.weight": low_rank(1, 1, (7, IN))})
    ledger.record(embed)
    assert ledger.verify(checkpoint([head, embed])).current
    assert ledger.verify(checkpoint([head])).contained == ids(head)
    alone = ledger.verify(checkpoint([embed]), base=toy())
    assert alone.contained == ids(embed) and alone.missing == ids(head) and alone.clean


def test_other_models_are_refused(recorded, dtype):
    ledger, (a, *_) = recorded
    with pytest.raises(WrongBaseError, match="given as base is not the one"):
        ledger.verify(checkpoint([a], dtype), base=toy(1, dtype))
    strange = Fake(torch.nn.Linear(2, 2))
    with pytest.raises(WrongBaseError, match="another architecture"):
        ledger.verify(strange)
    with pytest.raises(WrongBaseError, match="does not fit"):
        verify(toy(), [Delta({"h.1.weight": low_rank(0)})])


def test_added_and_removed_tensors_are_reported(tmp_path):
    model = toy()
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    model.module.register_buffer("extra", torch.ones(1))
    found = ledger.verify(model)
    assert [(f.tensor, f.reason) for f in found.unexplained] == [
        ("extra", "the base has no such tensor")
    ]
    del model.module.extra
    model.module.norm = torch.nn.Identity()
    assert {f.tensor for f in ledger.verify(model).unexplained} == {"norm.weight", "norm.bias"}
    wider = toy()
    wider.module.norm = torch.nn.LayerNorm(IN + 1)
    blamed = ledger.verify(wider, base=toy()).unexplained
    assert {f.tensor for f in blamed} == {"norm.weight", "norm.bias"}
