"""Taking a change out again: exact with the base at hand, up to the weights' own without."""

from __future__ import annotations

import pytest
import torch

from corrigenda.audit import changed, judged, without_change, without_leading
from corrigenda.edit import Rewrite
from corrigenda.errors import InputError

from ..models.tiny import model_of
from .test_changed import planted, state


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_planted_rank_one_change_is_taken_back(family: str) -> None:
    model = model_of(family)
    before, delta = state(model), planted(model, 1)
    with delta.applied(model):
        after = state(model)
    change = changed(model, after)
    edited = model_of(family)
    edited.module.load_state_dict(after)
    with without_change(edited, change).applied(edited):
        for name, tensor in edited.module.state_dict().items():
            torch.testing.assert_close(tensor, before[name], atol=2e-5, rtol=1e-5)


def test_without_the_base_the_leading_direction_goes() -> None:
    model = model_of("gpt2")
    (name,) = (planted(model, 1) * 100.0).weights
    site = model.site("down", 1)
    with (planted(model, 1) * 100.0).applied(model):
        before = torch.linalg.svdvals(model.weight(site).double())
        with without_leading(model, [name]).applied(model):
            after = torch.linalg.svdvals(model.weight(site).double())
    torch.testing.assert_close(after[: len(before) - 1], before[1:], atol=1e-3, rtol=1e-3)
    assert after[-1] < 1e-2


def test_what_is_judged() -> None:
    """A reversal that does nothing undoes nothing and moves nothing."""
    model = model_of("gpt2")
    said = model.generate(["The tower is in"])[0].split()
    edit = Rewrite("{} is in", "The tower", said[0], "Nowhere")
    nothing = planted(model, 1) * 0.0
    found = judged(model, nothing, [edit], ["Big Ben is in"])
    assert (found.undone, found.restored, found.others, found.moved) == (0, 0, 1, 0)
    assert found.to_dict()["moved_interval"][0] == 0.0


def test_no_such_map() -> None:
    model = model_of("gpt2")
    with pytest.raises(InputError, match="no linear map"):
        without_leading(model, ["nowhere.weight"])
