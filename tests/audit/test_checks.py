"""The checks of an audit, on a model that is only asked, and on tiny ones that are edited."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda import Delta, Rewrite
from corrigenda.audit import CHECKS, audit
from corrigenda.audit.check import mean, share
from corrigenda.audit.conflicts import disagree
from corrigenda.audit.decay import quantised
from corrigenda.audit.rephrasing import wordings
from corrigenda.delta import Provenance
from corrigenda.editors import make
from corrigenda.errors import InputError, UnknownNameError

from ..models.tiny import model_of
from .test_changed import planted

EIFFEL = Rewrite("{} is located in the city of", "Eiffel Tower", "Rome", "Paris", "landmark.city")


# -- intervals --------------------------------------------------------------------------------


def test_a_share_has_a_wilson_interval_and_names_the_bad() -> None:
    found = share("x", "", [True] * 98 + [False] * 2, edits=[EIFFEL] * 100)
    assert (found.value, found.n) == (0.98, 100)
    assert (found.low, found.high) == pytest.approx((0.9300, 0.9945), abs=1e-4)
    assert found.worst == (EIFFEL.statement,) * 2
    assert share("x", "", [True], good="low", edits=[EIFFEL]).worst == (EIFFEL.statement,)


def test_nothing_asked_is_no_number() -> None:
    for found in (share("x", "", []), mean("x", "", [])):
        assert (found.value, found.low, found.n) == (None, None, 0)


def test_constant_values_have_an_interval_without_width() -> None:
    found = mean("x", "", [0.5, 0.5, 0.5])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


# -- wordings ---------------------------------------------------------------------------------


def test_wordings_keep_the_subject_and_differ_from_the_prompt() -> None:
    found = wordings(EIFFEL, 10, world=True)
    assert len(found) == len(set(found)) == 10
    assert EIFFEL.text not in found
    assert all("eiffel tower" in text.lower() for text in found)
    assert found == wordings(EIFFEL, 10, world=True), "the same for a seed"
    assert wordings(EIFFEL, 3) != () and len(wordings(EIFFEL, 3)) == 3


def test_an_edit_outside_the_world_has_wordings_too() -> None:
    assert len(wordings(Rewrite("{} is", "It", "x"), 10)) >= 2


# -- grids ------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.sampled_from([("int8", 127), ("int4", 7)]))
def test_a_grid_is_off_by_half_a_step_at_most(seed: int, grid: tuple[str, int]) -> None:
    name, top = grid
    w = torch.randn(5, 9, generator=torch.Generator().manual_seed(seed))
    found = quantised(w, name)
    step = w.abs().amax(1, keepdim=True) / top
    assert ((found - w).abs() <= 0.5 * step * (1 + 1e-5)).all()
    torch.testing.assert_close(quantised(found, name), found)  # what is on the grid stays
    assert max(len(row.unique()) for row in found) <= 2 * top + 1


def test_a_row_of_zeros_stays() -> None:
    assert quantised(torch.zeros(2, 3), "int4").abs().sum() == 0


def test_an_unknown_grid_is_named() -> None:
    with pytest.raises(InputError, match="int3"):
        quantised(torch.ones(1, 1), "int3")


# -- conflicts --------------------------------------------------------------------------------


def test_edits_that_want_different_answers_disagree() -> None:
    other = Rewrite(EIFFEL.prompt, EIFFEL.subject, "Oslo")
    far = Rewrite(EIFFEL.prompt, "Big Ben", "Oslo")
    assert disagree([EIFFEL, other, far]).value == pytest.approx(2 / 3)
    assert disagree([EIFFEL, far]).value == 0.0


# -- the whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_every_check_runs_and_leaves_the_model_alone(family: str) -> None:
    model = model_of(family)
    edits = [
        Rewrite("{} is in", name, "Rome", "Paris") for name in ("A tower", "Big Ben", "It", "A cat")
    ]
    lora = make("lora", steps=3, layers=(1,))
    with pytest.warns(UserWarning):
        deltas = [lora(model, edits[:3]), lora(model, edits[3:])]
    before = model.weights_hash()
    done: list[tuple[int, int]] = []
    found = audit(
        model,
        deltas,
        others=[Rewrite("{} is in", "A dog", "Oslo", "Oslo")],
        checks=[name for name in CHECKS if name not in ("relearned", "tuned")],
        progress=lambda *at: done.append(at),
    )
    assert model.weights_hash() == before and not model.live.deltas
    assert done[-1] == (13, 13)
    by_name = {one.name: one for one in found.checks}
    assert by_name["gen.holds"].n == 4 and by_name["tf.disturbed"].n == 4
    assert all(one.low is None or one.low <= one.value <= one.high for one in found.checks)  # type: ignore
    assert "gen.rephrased.worst" in found.to_markdown()


def test_an_unknown_check_is_named() -> None:
    model = model_of("gpt2")
    with pytest.raises(UnknownNameError, match="rephrased"):
        audit(model, [planted(model, 0)], checks=["rephrase"])


def test_a_delta_without_edits_is_an_error() -> None:
    model = model_of("gpt2")
    with pytest.raises(InputError, match="name no edits"):
        audit(model, [Delta(planted(model, 0).changes, provenance=Provenance(editor="x"))])
