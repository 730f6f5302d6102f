"""`Upper`: the same loss from a block on, with what lies below computed once."""

from __future__ import annotations

import pytest
import torch

from corrigenda.acting import Affine, place
from corrigenda.delta import Delta
from corrigenda.models.hooks import captured
from corrigenda.models.upper import Upper

from .tiny import CAUSAL, model_of

ASKED = (
    ("The Eiffel Tower is located in", "Rome"),
    ("The mother tongue of Marie Curie is", "German"),
)


@pytest.mark.parametrize("family", [*CAUSAL, "t5", "bert"])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_loss_is_that_of_whole_passes(family: str, layer: int) -> None:
    model = model_of(family)
    rows = [model.asked(*one) for one in ASKED]
    run = Upper(model, layer, rows)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(run.nll(), model.nll(rows))


@pytest.mark.parametrize("family", [*CAUSAL, "t5", "bert"])
def test_the_loss_of_some_questions(family: str) -> None:
    model = model_of(family)
    rows = [model.asked(*one) for one in (*ASKED, ("Big Ben is in", "the city of London"))]
    run = Upper(model, 1, rows)
    with torch.no_grad():
        for chosen in ([0, 1, 2], [2, 0], [1]):
            found = run.some(chosen).nll()
            torch.testing.assert_close(found, model.nll([rows[j] for j in chosen]))


def test_the_blocks_below_are_not_run_again() -> None:
    model = model_of("gpt2")
    rows = [model.asked(*one) for one in ASKED]
    run = Upper(model, 1, rows)
    with torch.no_grad(), captured({"below": (model.mlp(0), "output")}) as seen:
        run.nll()
    assert not seen
    with torch.no_grad(), captured({"below": (model.mlp(0), "output")}) as seen:
        model.nll(rows)
    assert "below" in seen  # all is as it was


@pytest.mark.parametrize("layer", [0, 1])
def test_live_changes_below_and_above_are_seen(layer: int) -> None:
    model = model_of("gpt2")
    rows = [model.asked(*one) for one in ASKED]
    before = model.nll(rows)
    d = model.width
    bias = torch.randn(d, generator=torch.Generator().manual_seed(0))
    change = Affine(torch.zeros(d, 1), torch.zeros(1, d), bias)
    with Delta({place(model.path_of(model.mlp(layer))): change}).applied(model), torch.no_grad():
        found = Upper(model, 1, rows).nll()
        torch.testing.assert_close(found, model.nll(rows))
    assert not torch.allclose(found, before)
