"""WISE: what routes, what a shard may change, how shards continue and merge."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from corrigenda.acting import Margins, Memory, Pass, Sides
from corrigenda.delta import Delta
from corrigenda.editors.wise import WISE
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel
from corrigenda.numerics.combine import ties

from ..models.tiny import some_text
from .finetuning import EDITS, as_linear, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

TOWER, CURIE, PHONE = EDITS
AWAY = "Madrid is the capital of"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(f"{some_text(12, seed)}." for seed in range(300)), encoding="utf-8")
    return str(path)


def wise(text: str, **more: Any) -> WISE:
    few = {"steps": 25, "prompts": 8, "prefixes": (), "layers": (1,)}
    margins = {"lr": 0.5, "alpha": 0.5, "beta": 3.0, "gamma": 2.0, "act_ratio": 0.9}
    return WISE(**{**few, **margins, "statistics": text, **more})


def memory(delta: Delta) -> Memory:
    (found,) = delta.acting.values()
    assert isinstance(found, Memory)
    return found


def sides(delta: Delta) -> Tensor:
    then = memory(delta).then
    assert isinstance(then, Sides)
    return then.d


def score(model: TextModel, edit: Any) -> float:
    return model.score([(edit.text, edit.target)])[0].mean


def test_an_edit_is_learned_and_what_is_out_of_scope_is_the_same_bits(text: str) -> None:
    model = text_model(sharp=True)
    before, plain = bits(model), model.next_logprobs([AWAY])
    delta = wise(text, act_ratio=0.999)(model, [TOWER])
    assert untouched(model, before)
    unedited = score(model, TOWER)
    with delta.applied(model):
        assert score(model, TOWER) > unedited + 1
        assert torch.equal(model.next_logprobs([AWAY]), plain)
    assert untouched(model, before)


def test_only_the_shards_own_weights_change_and_within_the_box(text: str) -> None:
    model = text_model(sharp=True)
    editor = wise(text, box=0.05, mask_ratio=0.3)
    d = sides(editor(model, [TOWER]))[0]
    mask = editor.mask(tuple(d.shape), 0)
    assert 0.25 < float(mask.mean()) < 0.35
    assert d.abs().max() <= 0.05 + 1e-6
    assert bool((d[mask == 0] == 0).all()) and bool((d[mask == 1] != 0).any())
    assert not torch.equal(mask, editor.mask(tuple(d.shape), 1))


def test_the_threshold_is_the_least_of_the_edits(text: str) -> None:
    delta = wise(text)(text_model(sharp=True), EDITS)
    own = delta.provenance.diagnostics["shards"][0]["own"]
    scope = memory(delta).scope
    assert isinstance(scope, Margins)
    assert float(scope.least[0]) == pytest.approx(min(own), abs=1e-3)


def test_margins_part_edits_from_others(text: str) -> None:
    model = text_model(sharp=True)

    def gap(**margins: float) -> float:
        (seen,) = (
            wise(text, steps=60, **margins)(model, [TOWER])
            .provenance.diagnostics["shards"]
            .values()
        )
        return min(seen["own"]) - seen["others"]

    assert gap() > gap(alpha=1e6, beta=0.0, gamma=-1e6)


def test_a_second_call_adds_to_the_shard(text: str) -> None:
    model = text_model(sharp=True)
    editor = wise(text)
    first = editor(model, [TOWER])
    second = editor(model, [CURIE], onto=first)
    both = first + second
    assert sides(both).shape[0] == 1
    torch.testing.assert_close(sides(both), sides(first) + sides(second))
    assert float(both.state["wise/edits"]) == 2
    with first.applied(model), second.applied(model):
        live = model.next_logprobs([TOWER.text, CURIE.text])
    with both.applied(model):
        assert torch.equal(model.next_logprobs([TOWER.text, CURIE.text]), live)


def test_a_full_shard_is_followed_by_a_new_one(text: str) -> None:
    model = text_model(sharp=True)
    editor = wise(text, shard_size=2, steps=3)
    first = editor(model, [TOWER, CURIE, PHONE])
    assert sides(first).shape[0] == 2
    second = editor(model, [TOWER], onto=first)
    assert bool((sides(second)[0] == 0).all()) and bool((sides(second)[1] != 0).any())
    third = editor(model, [CURIE], onto=first + second)
    assert sides(first + second + third).shape[0] == 3


def test_full_groups_are_merged_by_ties_and_an_undone_delta_leaves_no_trace() -> None:
    d = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    used = Sides(d, every=2, density=0.5).used
    assert used.shape[0] == 3
    for g in range(2):
        pair = [{"d": shard} for shard in d[2 * g : 2 * g + 2]]
        torch.testing.assert_close(used[g], ties(pair, 0.5)["d"])
    assert torch.equal(used[2], d[4])
    assert torch.equal(Sides(d[:2], every=2, density=0.5).used, d[:2]), "no further shard begun"
    one = d[:1]
    torch.testing.assert_close(ties([{"d": one}], 1.0)["d"], one)


def test_what_was_merged_is_carried_on_until_one_of_its_shards_changes() -> None:
    d = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    whole = Sides(d[:4], every=2, density=0.5)
    merged = whole.used[0]
    later, earlier = torch.zeros(5, 3, 4), torch.zeros(5, 3, 4)
    later[4], earlier[0] = d[4], 2 * d[1]
    both = whole.plus(Sides(later, every=2, density=0.5))
    assert torch.equal(both.used, Sides(d, every=2, density=0.5).used)
    assert both._merged[0] is whole._merged[0] and torch.equal(both.used[0], merged)
    changed = both.plus(Sides(earlier, every=2, density=0.5))
    assert torch.equal(changed.used, Sides(d + earlier, every=2, density=0.5).used)
    assert not torch.equal(changed.used[0], merged)


def test_rows_are_routed_one_by_one_and_padding_counts_for_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 3, generator=generator)
    d = torch.stack([torch.eye(3), 2 * torch.eye(3)])
    moved = x.norm(dim=-1)
    now = Pass(mask=torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    own = torch.stack([2 * moved[0, 1:].mean(), 2 * moved[1].mean()])  # under the second matrix
    both = Margins("m@input", torch.tensor([1e9, float(own.min())]), 0.99)
    assert both.route(x, now, Sides(d)).tolist() == [1, 1]
    stricter = Margins("m@input", torch.tensor([1e9, float(own.max())]), 0.99)
    routed = stricter.route(x, now, Sides(d))
    assert routed.tolist() == [1 if own[j] == own.max() else -1 for j in range(2)]


def test_both_storages_give_the_same_change(text: str) -> None:
    model = text_model()
    a = sides(wise(text, steps=5)(model, [TOWER]))
    b = sides(wise(text, steps=5)(as_linear(model), [TOWER]))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_it_answers_alike_alone_and_in_a_batch(text: str) -> None:
    model = text_model(sharp=True)
    prompts = [TOWER.text, AWAY, CURIE.text]
    with wise(text)(model, [TOWER]).applied(model):
        together = model.generate(prompts, max_new_tokens=6)
        assert together == [model.generate([p], max_new_tokens=6)[0] for p in prompts]


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_other_kinds_of_model_are_edited_where_they_read_the_prompt(family: str, text: str) -> None:
    from ..contract import model_of

    model = model_of(family)
    unedited = score(model, TOWER)
    editor = wise(text, layers=None).resolved(model)
    assert editor.site(model).layer in model.prompt_layers
    with editor(model, [TOWER]).applied(model):
        assert score(model, TOWER) > unedited


def test_bad_settings_are_refused(text: str) -> None:
    model = text_model()
    with pytest.raises(InputError, match="one layer"):
        wise(text, layers=(0, 1))(model, [TOWER])
    with pytest.raises(InputError, match="shard_size"):
        wise(text, shard_size=0)(model, [TOWER])
