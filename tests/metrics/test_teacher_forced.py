from __future__ import annotations

import math

import pytest
import torch

from corrigenda.errors import EditError
from corrigenda.metrics.teacher_forced import (
    from_logits,
    from_tokens,
    geometric_mean,
    mean_logprob,
)

TOKENS = [math.log(0.5), math.log(0.2)]


def test_mean_log_probability_and_its_geometric_mean():
    assert mean_logprob(TOKENS) == pytest.approx(-1.151293, abs=1e-6)
    assert geometric_mean(TOKENS) == pytest.approx(0.316228, abs=1e-6)
    score = from_tokens(TOKENS, [True, True])
    assert math.exp(score.total) == pytest.approx(0.1)
    assert score.probability == pytest.approx(0.316228, abs=1e-6)


def test_strict_and_ratio():
    gold, argmax = [7, 9, 4], [7, 9, 5]
    score = from_tokens([-1.0] * 3, [g == a for g, a in zip(gold, argmax, strict=True)])
    assert score.strict == 0.0
    assert score.ratio == pytest.approx(0.6667, abs=1e-4)


def test_logits_give_the_same_as_tokens():
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    target = logits.argmax(-1).tolist()
    score = from_logits(logits, target)
    assert (score.strict, score.ratio, score.ties) == (1.0, 1.0, 0)
    expected = logits.log_softmax(-1).max(-1).values.mean()
    assert score.mean == pytest.approx(float(expected), abs=1e-6)


def test_a_tie_goes_to_the_lowest_id_and_is_counted():
    logits = torch.tensor([[1.0, 5.0, 5.0, 0.0]])
    assert from_logits(logits, [1]).strict == 1.0
    assert from_logits(logits, [2]).strict == 0.0
    assert from_logits(logits, [2]).ties == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_failures_and_are_never_dropped(bad):
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    for score in (from_logits(logits, [0, 0]), from_tokens([-1.0, bad], [True, True])):
        assert score.nonfinite
        assert (score.strict, score.ratio, score.probability) == (0.0, 0.0, 0.0)


def test_an_empty_target_is_an_error_and_not_a_nan():
    with pytest.raises(EditError, match="no tokens"):
        from_tokens([], [])
    with pytest.raises(EditError, match="no tokens"):
        from_logits(torch.zeros(0, 4), [])
