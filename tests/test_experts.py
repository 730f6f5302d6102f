"""Experts as one linear map: keys, changes, statistics, and edits that act through them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corrigenda import experts
from corrigenda.delta import Delta, Dense, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors import make
from corrigenda.editors._keyvalue import lookup_rows, mean_keys
from corrigenda.models.forced import read
from corrigenda.models.hooks import captured
from corrigenda.models.linear import image, matrix, shape
from corrigenda.models.moments import second_moments
from corrigenda.models.text import TextModel
from corrigenda.numerics.moments import SecondMoment
from corrigenda.numerics.solve import Factor, equality, null_space, preserving, ridge

from .models.tiny import MOE, model_of, some_text

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")


def traced(model: TextModel, layer: int) -> tuple[Tensor, Tensor]:
    """Key and output of a layer's experts over a prompt."""
    module = model.linear(model.site("down", layer))
    with torch.no_grad(), captured({"k": (module, "input"), "v": (module, "output")}) as seen:
        model.module(input_ids=torch.tensor([model.ids(EDIT.text)]))
    return seen["k"], seen["v"]


@pytest.mark.parametrize("family", MOE)
def test_the_layer_is_one_linear_map_of_routed_keys(family: str) -> None:
    model = model_of(family)
    for layer in range(model.n_layers):
        site = model.site("down", layer)
        module = model.linear(site)
        keys, values = traced(model, layer)
        torch.testing.assert_close(image(module, keys), values, atol=1e-5, rtol=1e-5)
        assert shape(module) == tuple(model.weight(site).shape) == (32, 64)
        parts = keys.view(len(keys), 4, 16).abs().amax(2) > 0
        assert (parts.sum(1) == 2).all(), "two experts per token"


@pytest.mark.parametrize("family", MOE)
def test_a_change_of_the_map_moves_the_output_by_its_product_with_the_key(family: str) -> None:
    model = model_of(family)
    site = model.site("down", 1)
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(32, 2, generator=generator), torch.randn(2, 64, generator=generator)
    before = model.module.get_parameter(site.parameter).detach().clone()
    keys, values = traced(model, 1)
    for change in (LowRank(u, v), Dense(u @ v), Dense(experts.laid_out(u @ v, before.shape))):
        with Delta({site.parameter: change}).applied(model):
            _, moved = traced(model, 1)
            now = model.module.get_parameter(site.parameter).detach().clone()
        torch.testing.assert_close(moved, values + keys @ (u @ v).T, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(experts.matrix(model.linear(site)), matrix(model.linear(site)))
        wanted = torch.stack([before[e] + u @ v[:, 16 * e : 16 * e + 16] for e in range(4)])
        torch.testing.assert_close(now, wanted)
        assert torch.equal(model.module.get_parameter(site.parameter), before)


def test_keys_carry_gradients() -> None:
    model = model_of("mixtral")
    module = model.linear(model.site("down", 1))
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    index = torch.tensor([[0, 1], [1, 2], [3, 0], [2, 3], [1, 3]])
    weight = torch.rand(5, 2, generator=torch.Generator().manual_seed(1))
    through = image(module, experts.keys(module, hidden, index, weight))
    (ours,) = torch.autograd.grad(through.square().sum(), hidden)
    (theirs,) = torch.autograd.grad(module(hidden, index, weight).square().sum(), hidden)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


# -- statistics in blocks ---------------------------------------------------------------------


def _blocks(n: int = 60) -> tuple[Tensor, SecondMoment]:
    keys = torch.randn(n, 12, generator=torch.Generator().manual_seed(0)).double()
    return keys, SecondMoment.zero(12, blocks=3).plus(keys[:20]).plus(keys[20:])


def test_blocks_are_those_of_the_whole_moment() -> None:
    keys, found = _blocks()
    whole = SecondMoment.zero(12).plus(keys).mean
    assert found.mean.shape == (3, 4, 4) and found.count == 60
    for e in range(3):
        part = slice(4 * e, 4 * e + 4)
        torch.testing.assert_close(found.mean[e], whole[part, part])
    chosen = torch.tensor([0, 3, 5, 11])
    dense = torch.block_diag(*found.mean)
    torch.testing.assert_close(found.within(chosen), dense[chosen][:, chosen])


def test_solving_with_blocks_is_solving_with_the_block_diagonal_matrix() -> None:
    keys, found = _blocks()
    dense = torch.block_diag(*found.mean)
    k, r = keys[:3].T, torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    past = keys[5:7].T
    for solve in (equality, ridge):
        blocks, whole = Factor.of(found.mean), Factor.of(dense)
        torch.testing.assert_close(solve(k, r, blocks).matrix, solve(k, r, whole).matrix)
    torch.testing.assert_close(equality(k, r, Factor.of(found.mean)).matrix @ k, r)
    a = preserving(found.mean, 2.0, shift=0.1).solve(k)
    torch.testing.assert_close(a, preserving(dense, 2.0, shift=0.1).solve(k))
    inside = torch.block_diag(*[(p @ p.T) for p in past.reshape(3, 4, 2)])
    b = preserving(found.mean, 2.0, past=past).solve(k)
    torch.testing.assert_close(b, torch.linalg.solve(dense + inside / 2.0, k))
    basis, values = null_space(found.mean, energy=0.5)
    other, others = null_space(dense, energy=0.5)
    torch.testing.assert_close(values, others)
    torch.testing.assert_close(basis @ basis.T, other @ other.T)


# -- edits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(some_text(600), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("family", MOE)
def test_rome_sends_the_routed_key_to_its_value_and_spares_other_experts(
    family: str, corpus: str
) -> None:
    model = model_of(family)
    site = model.site("down", 1)
    statistics = second_moments(model, [site], source=corpus, tokens=400)
    assert statistics.moments[site].mean.shape == (4, 16, 16)
    editor = make(
        "rome", layers=(1,), steps=5, prefixes=(), statistics=corpus, tokens=400, max_norm=1e6
    )
    key = mean_keys(model, [EDIT], ("",), site, equal=True).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        delta = editor(model, [EDIT])
    change = delta.weights[site.parameter]
    assert isinstance(change, LowRank) and change.shape == (32, 64)
    routed = experts.used(key.T, 4)
    assert len(routed) == 2 and experts.used(change.v, 4) == routed
    told = delta.provenance.diagnostics["experts"]
    assert told == {"1": {"edited": routed, "missed": []}}
    before = model.module.get_parameter(site.parameter).detach().clone()
    with delta.applied(model):
        now = model.module.get_parameter(site.parameter).detach().clone()
    changed = [e for e in range(4) if not torch.equal(now[e], before[e])]
    assert changed == routed
    rows = lookup_rows(model, [EDIT], ("",), 1)
    module = model.mlp(1)
    old = read(model, rows, module, "output")
    with delta.applied(model):
        new = read(model, rows, module, "output")
    torch.testing.assert_close(new, old + (change.matrix() @ key).T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ft-m", "lora"])
def test_fine_tuning_changes_experts(name: str, tmp_path: Path) -> None:
    model = model_of("mixtral")
    more = {"roles": ("down",), "rank": 2} if name == "lora" else {}
    editor = make(name, layers=(1, 2), steps=40, lr=2e-2, **more)
    row = model.asked(EDIT.text, EDIT.target)
    before = float(model.nll([row]).detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        delta = editor(model, [EDIT])
    assert set(delta.weights) == {model.site("down", j).parameter for j in (1, 2)}
    loaded = Delta.load(delta.save(tmp_path / "delta"))
    with loaded.applied(model):
        after = float(model.nll([row]).detach())
    # What was trained beside the weights is what the weights do.
    reached = delta.provenance.diagnostics["target_nll"][0]
    assert after < before - 1 and after == pytest.approx(reached, abs=0.1)
