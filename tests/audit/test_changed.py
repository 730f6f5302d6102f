"""Two checkpoints: what was planted is what is found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corrigenda import Delta, Dense, LowRank
from corrigenda.audit import changed
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel

from ..models.tiny import model_of

FAMILIES = ("gpt2", "llama", "t5", "bert", "mixtral")


def state(model: TextModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.module.state_dict().items()}


def planted(model: TextModel, layer: int, rank: int = 1, seed: int = 0) -> Delta:
    """A change of that rank in a down-projection."""
    site = model.site("down", layer)
    o, i = model.weight(site).shape
    draw = torch.Generator().manual_seed(seed)
    u, v = torch.randn(o, rank, generator=draw), torch.randn(rank, i, generator=draw)
    flipped = frozenset([site.parameter]) if site.transposed else frozenset()
    return Delta({site.parameter: LowRank(u, v)}, flipped)


def test_nothing_changed() -> None:
    model = model_of("gpt2")
    found = changed(model, state(model))
    assert found.tensors == () and found.looks_like == "no change"
    assert found.unchanged > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_planted_factors_are_recovered(family: str) -> None:
    model = model_of(family)
    delta = planted(model, 1)
    (name,) = delta.weights
    with delta.applied(model):
        after = state(model)
    found = changed(model, after)
    assert found.names == (name,)
    (one,) = found.tensors
    change = delta.weights[name]
    assert isinstance(change, LowRank)
    assert one.rank == 1 and one.norm == pytest.approx(change.norm(), rel=1e-4)
    assert one.key is None or one.value is not None
    if one.spectrum is not None:
        assert one.key is not None and one.value is not None
        key = torch.cosine_similarity(one.key, change.v[0].double(), dim=0)
        value = torch.cosine_similarity(one.value, change.u[:, 0].double(), dim=0)
        assert abs(float(key)) > 0.9999 and abs(float(value)) > 0.9999
        assert float(key) * float(value) > 0, "the product has no sign to choose"


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_the_rank_is_the_planted_one(seed: int, rank: int) -> None:
    model = model_of("gpt2")
    with planted(model, 0, rank, seed).applied(model):
        after = state(model)
    assert changed(model, after).tensors[0].rank == rank


@pytest.mark.parametrize("family", ("gpt2", "llama", "t5"))
def test_the_difference_as_a_delta_leads_from_one_to_the_other(family: str) -> None:
    model = model_of(family)
    delta = planted(model, 1, 2)
    with delta.applied(model):
        after = state(model)
    before = state(model)
    with changed(model, after).delta(model).applied(model):
        for name, tensor in model.module.state_dict().items():
            torch.testing.assert_close(tensor, after[name], atol=1e-5, rtol=1e-5)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.module.state_dict().items())


def test_a_bias_has_no_rank_and_is_named() -> None:
    model = model_of("gpt2")
    name = f"{model.site('down', 0).module}.bias"
    with Delta({name: Dense(torch.ones(model.width))}).applied(model):
        after = state(model)
    (one,) = changed(model, after).tensors
    assert one.name == name and one.rank is None and one.entries == 1.0
    assert one.largest == pytest.approx(1.0, abs=1e-5)


def test_tied_weights_are_one_tensor() -> None:
    model = model_of("gpt2")
    after = state(model)
    tied = [n for n, t in after.items() if "wte" in n or "lm_head" in n]
    for name in tied:
        after[name] = after[name] + 1.0
    assert len(changed(model, after).tensors) == 1


def test_another_architecture_is_an_error() -> None:
    with pytest.raises(InputError, match="share no tensor"):
        changed(model_of("gpt2"), model_of("bert"))


def test_another_shape_is_an_error() -> None:
    model = model_of("gpt2")
    after = state(model)
    name = model.site("down", 0).parameter
    after[name] = after[name][:-1]
    with pytest.raises(InputError, match="shape"):
        changed(model, after)


def test_missing_and_added_tensors_are_named() -> None:
    model = model_of("gpt2")
    after = state(model)
    name = model.site("down", 0).parameter
    after["new.weight"] = after.pop(name)
    found = changed(model, after)
    assert found.missing == (name,) and found.added == ("new.weight",)
