"""Wrappers of any weight editor: RECT, PRUNE, SPHERE, SimIE. methods.md §4.6, §4.7, §4.11, §4.12."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.delta import Delta, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editors import MEMIT, PRUNE, RECT, ROME, SPHERE, SimIE, make
from corrigenda.editors.prune import excess, restrain
from corrigenda.editors.rect import largest
from corrigenda.editors.simie import lifelong, sentence_inputs
from corrigenda.errors import InputError, UnknownNameError
from corrigenda.models.text import TextModel
from corrigenda.numerics.solve import Factor, ridge

from ..models.tiny import some_text, tiny

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
OTHER = Rewrite("The capital of {} is", "France", "Berlin")

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

seeds = st.integers(0, 10_000)


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> TextModel:
    return TextModel(*tiny(request.param), request.param)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(900, seed=3), encoding="utf-8")
    return {
        "layers": (1,), "steps": 4, "clamp": 0.5, "prefixes": (), "statistics": str(path),
        "tokens": 400, "weight": 1.0, "max_norm": 1e6,
    }  # fmt: skip


def matrix(delta: Delta) -> torch.Tensor:
    (change,) = delta.weights.values()
    return change.matrix()


# -- what all of them share ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rect", "prune", "sphere", "simie"])
def test_arguments_are_json_and_make_the_same_editor(
    name: str, model: TextModel, settings: dict[str, Any]
) -> None:
    editor = make(name, of="memit", settings=settings)
    delta = editor(model, [EDIT])
    arguments = json.loads(json.dumps(delta.provenance.arguments))
    assert arguments["of"] == "memit" and arguments["settings"]["layers"] == [1]
    assert make(name, **arguments)(model, [EDIT]).id == delta.id
    given = make(name, of=MEMIT(**settings))
    assert given(model, [EDIT]).id == delta.id


def test_what_the_inner_editor_is_the_wrapper_is() -> None:
    assert RECT(of="ft-m").needs == () and RECT(of="ft-m").family == "fine-tuning"
    assert not PRUNE(of="rome").batches and PRUNE(of="memit").batches
    assert RECT(settings={"seed": 7, "max_norm": 2.0}).max_norm == 2.0
    assert SimIE(of=RECT(of="memit", settings={"seed": 7})).seed == 7


def test_inner_editors_that_cannot_be_wrapped() -> None:
    with pytest.raises(UnknownNameError, match="memit"):
        RECT(of="memti")
    with pytest.raises(InputError, match="changes of weights"):
        PRUNE(of="ike")


def test_wrappers_wrap_wrappers(model: TextModel, settings: dict[str, Any]) -> None:
    inner = RECT(settings=settings, keep=0.25)
    outer = PRUNE(of=inner)(model, [EDIT])
    assert outer.id == inner(model, [EDIT]).id, "nothing is above the limit"
    assert outer.provenance.arguments["settings"]["of"] == "memit"


# -- RECT ---------------------------------------------------------------------------------------


@given(seeds, st.floats(0, 1), st.booleans())
def test_exactly_the_share_is_chosen_and_it_is_the_largest(
    seed: int, share: float, ties: bool
) -> None:
    scores = torch.rand(7, 11, generator=torch.Generator().manual_seed(seed))
    scores = scores.mul(3).round() if ties else scores
    chosen = largest(scores, share)
    assert int(chosen.sum()) == round(share * 77)
    if 0 < int(chosen.sum()) < 77:
        assert float(scores[chosen].min()) >= float(scores[~chosen].max())


def test_rect_keeps_the_largest_relative_entries(
    model: TextModel, settings: dict[str, Any]
) -> None:
    whole, kept = MEMIT(**settings)(model, [EDIT]), RECT(settings=settings)(model, [EDIT])
    delta, left = matrix(whole), matrix(kept)
    assert int((left != 0).sum()) == round(0.4 * delta.numel())
    assert torch.equal(left[left != 0], delta[left != 0])
    ratio = delta.abs() / model.weight(model.site("down", 1)).abs()
    assert float(ratio[left != 0].min()) >= float(ratio[left == 0].max()) * (1 - 1e-4)
    assert RECT(settings=settings, keep=1.0)(model, [EDIT]).id == whole.id
    with pytest.raises(InputError, match="between 0 and 1"):
        RECT(keep=40)


# -- PRUNE --------------------------------------------------------------------------------------


@given(st.floats(0.01, 50), st.floats(1.1, 10))
def test_restrained_values_are_monotone_continuous_and_no_larger(limit: float, base: float) -> None:
    values = torch.linspace(0, 10 * limit, 2001, dtype=torch.float64)
    found = restrain(values, limit, base)
    assert bool((found.diff() >= -1e-12).all()) and bool((found <= values).all())
    assert torch.equal(found[values <= limit], values[values <= limit])
    at = torch.tensor([limit * (1 + 1e-9)], dtype=torch.float64)
    assert float(restrain(at, limit, base)) == pytest.approx(limit, rel=1e-6)


def test_it_is_the_papers_logarithm_above_a_limit_of_one() -> None:
    found = restrain(torch.tensor([20.0], dtype=torch.float64), 5.0)
    assert float(found) == pytest.approx(math.log(20) - math.log(5) + 5)


@given(seeds, st.booleans())
def test_what_is_taken_off_leaves_the_restrained_values(seed: int, low_rank: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    total = LowRank(torch.randn(6, 3, generator=g), torch.randn(3, 9, generator=g))
    values = torch.linalg.svdvals(total.matrix().double())
    limit = float(values[1])
    change = total if low_rank else total.plus(LowRank(torch.zeros(6, 9), torch.zeros(9, 9)))
    u, v = excess(change, limit * 1.001, math.e)
    left = torch.linalg.svdvals(total.matrix().double() - u @ v)
    assert u.shape[1] == 1
    torch.testing.assert_close(left, restrain(values, limit * 1.001), atol=1e-5, rtol=1e-5)


def test_prune_restrains_the_sum_of_all_edits(model: TextModel, settings: dict[str, Any]) -> None:
    name = model.site("down", 1).parameter
    free = MEMIT(**{**settings, "clamp": 40.0, "lr": 20.0, "weight_decay": 0.0, "weight": 1e-6})
    first = free(model, [EDIT])
    plain = free(model, [OTHER], onto=first)
    pruned = PRUNE(of=free)(model, [OTHER], onto=first)
    limit = float(torch.linalg.matrix_norm(model.live.pristine(name).double(), 2))
    raw = torch.linalg.svdvals(matrix(first + plain).double())
    assert float(raw[0]) > limit, "there is something to restrain"
    found = torch.linalg.svdvals(matrix(first + pruned).double())
    torch.testing.assert_close(found, restrain(raw, limit), atol=1e-4, rtol=1e-3)
    mild = MEMIT(**{**settings, "clamp": 0.01})
    assert PRUNE(of=mild)(model, [EDIT]).id == mild(model, [EDIT]).id


# -- SPHERE -------------------------------------------------------------------------------------


def test_sphere_takes_out_the_principal_directions(
    model: TextModel, settings: dict[str, Any]
) -> None:
    whole = MEMIT(**settings)(model, [EDIT])
    rows = model.weight(model.site("down", 1)).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    values, vectors = values.flip(0), vectors.flip(1)
    count = int((values.cumsum(0) < 0.5 * values.sum()).sum()) + 1
    principal = vectors[:, :count]

    def part(alpha: float) -> torch.Tensor:
        editor = SPHERE(of="memit", settings=settings, alpha=alpha)
        return matrix(editor(model, [EDIT])).double() @ principal

    all_of_it = matrix(whole).double() @ principal
    assert SPHERE(of="memit", settings=settings, alpha=0.0)(model, [EDIT]).id == whole.id
    assert float(part(1.0).norm()) < 1e-5 * float(all_of_it.norm())
    torch.testing.assert_close(part(0.5), 0.5 * all_of_it, atol=1e-6, rtol=1e-3)


def test_sphere_is_for_alphaedit_and_passes_its_past_keys_on(
    model: TextModel, settings: dict[str, Any]
) -> None:
    own = {k: v for k, v in settings.items() if k != "weight"} | {"energy": 0.8, "ridge": 1.0}
    editor = SPHERE(settings=own)
    first = editor(model, [EDIT])
    assert first.provenance.arguments["of"] == "alphaedit"
    assert first.state.keys() == make("alphaedit", **own)(model, [EDIT]).state.keys()
    second = editor(model, [OTHER], onto=first)
    with first.applied(model):
        unaware = editor(model, [OTHER])
    assert second.id != unaware.id


# -- SimIE --------------------------------------------------------------------------------------


@given(seeds, st.floats(0.01, 100), st.integers(1, 6))
def test_exact_inner_edits_in_sequence_are_ridge_over_all(
    seed: int, weight: float, split: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    start = torch.randn(5, 9, generator=g, dtype=torch.float64)
    keys = torch.randn(9, 7, generator=g, dtype=torch.float64)
    wanted = torch.randn(5, 7, generator=g, dtype=torch.float64)
    total, past = torch.zeros_like(start), None
    for part in (slice(0, split), slice(split, 7)):
        k = keys[:, part]
        inner = (wanted[:, part] - (start + total) @ k) @ torch.linalg.pinv(k)
        total = total + lifelong(inner, k, weight, past).matrix
        past = k
    eye = Factor.of(torch.eye(9, dtype=torch.float64))
    expected = ridge(keys, wanted - start @ keys, eye, weight).matrix
    torch.testing.assert_close(total, expected, atol=1e-7, rtol=1e-7)


@given(seeds)
def test_one_edit_without_ridge_is_the_inner_editors_on_its_keys(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    change, keys = torch.randn(5, 9, generator=g), torch.randn(9, 4, generator=g)
    found = lifelong(change, keys, 1e-9, None).matrix
    torch.testing.assert_close(
        found @ keys.double(), (change @ keys).double(), atol=1e-4, rtol=1e-4
    )


def test_simie_on_a_model(model: TextModel, settings: dict[str, Any]) -> None:
    name = model.site("down", 1).parameter
    inner = ROME(**{k: v for k, v in settings.items() if k != "weight"})
    editor = SimIE(of=inner, weight=0.5)
    first = editor(model, [EDIT])
    change = matrix(inner(model, [EDIT])).double()
    with model.frozen():
        keys = sentence_inputs(model, [EDIT], [name])[name].double()
    assert keys.shape[1] == len(model.ids(EDIT.statement))
    gram = keys @ keys.T
    ridge_matrix = 0.5 * torch.eye(len(gram), dtype=torch.float64) + gram
    expected = change @ gram @ torch.linalg.inv(ridge_matrix)
    torch.testing.assert_close(matrix(first).double(), expected, atol=1e-5, rtol=1e-3)

    past = first.state[f"{name}/sentences/keys"]
    second = editor(model, [OTHER], onto=first)
    with first.applied(model):
        unaware = editor(model, [OTHER])
    assert float((matrix(second) @ past).norm()) < float((matrix(unaware) @ past).norm())
