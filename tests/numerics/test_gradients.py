"""The teacher-forced loss: shifted once, blind to padding, equal to what transformers computes."""

from __future__ import annotations

import math

import pytest
import torch

from corrigenda.models.text import TextModel
from corrigenda.numerics.gradients import nll_at, predicting, target_nll

from ..models.tiny import tiny


def test_a_token_is_predicted_one_position_earlier():
    rows, columns = predicting(torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=torch.bool))
    assert rows.tolist() == [0, 0, 1, 1]
    assert columns.tolist() == [1, 2, 0, 2]


def test_nothing_predicts_the_first_token():
    with pytest.raises(ValueError, match="first column"):
        predicting(torch.tensor([[True, False]]))


def test_value_by_hand():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]).double()
    ids = torch.tensor([[0, 0, 1]])
    targets = torch.tensor([[False, True, True]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert target_nll(logits, ids, targets).tolist() == pytest.approx([expected])


def test_every_row_weighs_its_own_tokens_equally():
    logits = torch.randn(4, 7)
    wanted, rows = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2, 2, 2])
    each = -logits.log_softmax(-1)[torch.arange(4), wanted]
    found = nll_at(logits, wanted, rows, 3)
    assert torch.allclose(found, torch.stack([each[0], torch.tensor(0.0), each[1:].mean()]))


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "llama", "gemma2", "falcon-rw"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_the_models_own_loss(family, side):
    model = TextModel(*tiny(family))
    rows, starts = [[5, 9, 30, 77, 12], [8, 44, 21], [7, 7, 7, 90]], [3, 1, 2]
    padded = model.batch(rows, side)
    targets = torch.zeros_like(padded.mask, dtype=torch.bool)
    for r, (row, start) in enumerate(zip(rows, starts, strict=True)):
        targets[r, padded.offset[r] + start : padded.offset[r] + len(row)] = True
    with torch.no_grad():
        ours = target_nll(model.forward(padded).logits, padded.ids, targets)
        for r, (row, start) in enumerate(zip(rows, starts, strict=True)):
            labels = torch.tensor([[-100] * start + row[start:]])
            theirs = model.module(input_ids=torch.tensor([row]), labels=labels).loss
            torch.testing.assert_close(ours[r], theirs, rtol=1e-5, atol=1e-5)
