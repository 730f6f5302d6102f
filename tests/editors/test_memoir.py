"""MEMOIR: masks, what an edit may write, which stored mask a prompt is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from corrigenda.acting import Columns, Memory, Overlaps
from corrigenda.delta import Delta
from corrigenda.editors.memoir import MEMOIR

from ..models.tiny import some_text
from .finetuning import EDITS, as_linear, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

TOWER, CURIE, PHONE = EDITS
AWAY = "Madrid is the capital of"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(f"{some_text(12, seed)}." for seed in range(100)), encoding="utf-8")
    return str(path)


def memoir(text: str, **more: Any) -> MEMOIR:
    few = {"steps": 25, "prompts": 20, "prefixes": (), "layers": (1,), "share": 0.25}
    return MEMOIR(**{**few, "statistics": text, **more})


def parts(delta: Delta) -> tuple[Overlaps, torch.Tensor]:
    (memory,) = delta.acting.values()
    assert isinstance(memory, Memory) and isinstance(memory.scope, Overlaps)
    assert isinstance(memory.then, Columns)
    return memory.scope, memory.then.d


def test_an_edit_is_learned_and_what_is_out_of_scope_is_the_same_bits(text: str) -> None:
    model = text_model(sharp=True)
    before, plain = bits(model), model.next_logprobs([AWAY])
    unedited = model.score([(TOWER.text, TOWER.target)])[0].mean
    delta = memoir(text, least=0.95)(model, [TOWER])
    assert untouched(model, before)
    with delta.applied(model):
        assert model.score([(TOWER.text, TOWER.target)])[0].mean > unedited + 1
        assert torch.equal(model.next_logprobs([AWAY]), plain)


def test_an_edit_writes_to_the_columns_of_its_mask_only(text: str) -> None:
    scope, d = parts(memoir(text)(text_model(sharp=True), [TOWER]))
    (mask,) = scope.masks
    assert int(mask.sum()) == scope.k == round(0.25 * d.shape[1])
    assert bool((d[:, mask == 0] == 0).all()) and bool((d[:, mask == 1] != 0).any())


def test_later_edits_leave_the_columns_that_they_do_not_share(text: str) -> None:
    model = text_model(sharp=True)
    first = memoir(text)(model, [TOWER])
    second = memoir(text)(model, [CURIE], onto=first)
    scope, d = parts(second)
    assert bool((d[:, scope.masks[0] == 0] == 0).all())
    whole, total = parts(first + second)
    alone = (whole.masks[0] == 1) & (whole.masks[1] == 0)
    torch.testing.assert_close(total[:, alone], parts(first)[1][:, alone])
    assert len(whole.masks) == 2


def test_the_edited_prompt_shares_all_features_with_its_mask(text: str) -> None:
    model = text_model(sharp=True)
    with (
        memoir(text, least=1.0)(model, EDITS).applied(model),
    ):
        for number, edit in enumerate(EDITS):
            model.next_logprobs([edit.text])
            (passed,) = model.live._passes.values()
            (route,) = passed.routes.values()
            assert route.tolist() == [number]


def test_the_permutation_is_one_and_seeded(text: str) -> None:
    model = text_model()
    one, _ = parts(memoir(text, steps=1)(model, [TOWER]))
    other, _ = parts(memoir(text, steps=1, seed=1)(model, [TOWER]))
    assert sorted(one.order.tolist()) == list(range(len(one.order)))
    assert not torch.equal(one.order, other.order)
    assert not one.like(other), "masks made in two ways are not compared"


def test_a_later_call_makes_masks_as_the_first_did(text: str) -> None:
    model = text_model()
    first = memoir(text, steps=1)(model, [TOWER])
    second = memoir(text, steps=1, seed=7, share=0.5)(model, [CURIE], onto=first)
    assert parts(first)[0].like(parts(second)[0])


def test_gradients_are_clipped(text: str) -> None:
    _, d = parts(memoir(text, steps=1, lr=1.0, clip=0.01)(text_model(sharp=True), [TOWER]))
    assert 0 < float(d.norm()) <= 0.01 + 1e-6


def test_both_storages_give_the_same_change(text: str) -> None:
    model = text_model()
    _, a = parts(memoir(text, steps=3)(model, [TOWER]))
    _, b = parts(memoir(text, steps=3)(as_linear(model), [TOWER]))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
