"""One checkpoint alone: planted outliers are found, and unedited ones are flagged as rarely as said."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corrigenda.audit.suspicion import (
    MEASURES,
    marks,
    measured,
    p_value,
    score,
    suspicion,
    threshold,
)
from corrigenda.errors import InputError

from ..models.tiny import model_of
from .test_changed import planted


def drawn(seed: int, o: int = 12, i: int = 20) -> Tensor:
    return torch.randn(o, i, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**31))
def test_marks_do_not_depend_on_sign_and_scale(seed: int) -> None:
    w = drawn(seed)
    one, other, turned = marks(w), marks(-3.0 * w), marks(w.T)
    assert other == pytest.approx(one, abs=1e-6)
    assert turned["gap"] == pytest.approx(one["gap"], abs=1e-6)
    assert (turned["rows"], turned["columns"]) == pytest.approx((one["columns"], one["rows"]))


def test_marks_by_hand() -> None:
    """Rows (1, 0), (1, 1), (0, 1): cosines 1/√2, 0, 1/√2, mean square 1/3. σ² = 3, 1."""
    found = marks(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    assert found["rows"] == pytest.approx(math.sqrt(1 / 3))
    assert found["gap"] == pytest.approx(math.log(3) / 2)


def test_rows_of_a_rank_one_matrix_are_alike() -> None:
    found = marks(drawn(0)[:, :1] @ drawn(1)[:1])
    assert found["rows"] == pytest.approx(1.0) and found["columns"] == pytest.approx(1.0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bert"])
def test_a_large_planted_change_is_the_most_suspicious(family: str) -> None:
    model = model_of(family)
    clean = score(suspicion(model))
    delta = planted(model, 1) * 3.0
    with delta.applied(model):
        found = suspicion(model)
    assert found[0].tensor in delta.weights
    assert score(found) > clean
    assert set(found[0].excess) == set(MEASURES)


def test_only_what_is_asked_for_is_measured() -> None:
    model = model_of("gpt2")
    name = model.site("down", 1).parameter
    assert set(measured(model, [name])) == {name}


def test_the_false_positive_rate_is_the_calibrated_one() -> None:
    """Of fresh unedited scores no more than the asked share lies above, up to chance."""
    draw = torch.Generator().manual_seed(0)
    wrong = total = 0
    for _ in range(200):
        scores = torch.randn(40, generator=draw).exp().tolist()
        limit = threshold(scores[:39], 0.1)
        wrong, total = wrong + (scores[39] > limit), total + 1
    assert wrong / total < 0.1 + 3 * math.sqrt(0.09 / total)
    assert wrong > 0, "and not by never flagging"


def test_p_values_by_hand() -> None:
    assert p_value(0.5, [0.1, 0.5, 0.9]) == 0.75
    assert p_value(1.0, [0.1, 0.5, 0.9]) == 0.25
    assert p_value(1.0, []) == 1.0
    assert threshold([0.1, 0.5, 0.9], 0.25) == 0.9
    assert threshold([0.1, 0.5, 0.9], 0.2) == math.inf


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        threshold([1.0], rate)
