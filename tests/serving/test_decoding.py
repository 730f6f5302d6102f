"""From logits to tokens to text."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.serving.decoding import Detokenizer, Sampling, Stops, choose, logprobs_of
from tests.models.tiny import model_of


def rows(n: int, seed: int = 0, vocabulary: int = 50) -> torch.Tensor:
    return 3 * torch.randn(n, vocabulary, generator=torch.Generator().manual_seed(seed))


def drawn(logits: torch.Tensor, samplings: list[Sampling]) -> list[int]:
    return choose(logits, samplings, [random.Random(s.seed) for s in samplings])


def test_temperature_zero_takes_the_most_probable() -> None:
    logits = rows(5)
    assert drawn(logits, [Sampling(temperature=0)] * 5) == logits.argmax(-1).tolist()


def test_a_tiny_share_takes_the_most_probable() -> None:
    logits = rows(5)
    for top_p in (0.0, 1e-9):
        found = drawn(logits, [Sampling(top_p=top_p, seed=j) for j in range(5)])
        assert found == logits.argmax(-1).tolist()


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_top_p_draws_among_the_most_probable(seed: int, top_p: float) -> None:
    logits = rows(1, seed)
    (token,) = drawn(logits, [Sampling(top_p=top_p, seed=seed)])
    shares = logits[0].double().softmax(-1)
    above = shares[shares > shares[token]].sum()
    assert above < top_p + 1e-9


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 5))
def test_a_seeded_draw_does_not_depend_on_the_rows_beside_it(
    seed: int, others: int, at: int
) -> None:
    mine, sampling = rows(1, seed), Sampling(temperature=0.8, top_p=0.9, seed=seed)
    beside = rows(others, seed + 1)
    at = min(at, others)
    mixed = torch.cat([beside[:at], mine, beside[at:]])
    samplings = [Sampling(seed=j, temperature=j % 3) for j in range(others)]
    samplings.insert(at, sampling)
    assert drawn(mixed, samplings)[at] == drawn(mine, [sampling])[0]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    found = [drawn(logits, [Sampling(seed=j)])[0] for j in range(2000)]
    for token, share in enumerate((0.7, 0.2, 0.1)):
        assert abs(found.count(token) / 2000 - share) < 0.04


def test_logits_that_are_no_numbers_are_never_chosen() -> None:
    logits = torch.tensor([[float("nan"), 1.0, float("-inf"), 0.0]])
    for seed in range(20):
        assert drawn(logits, [Sampling(seed=seed, temperature=2)])[0] in (1, 3)
    for nothing in (float("nan"), float("-inf")):  # an edit that has broken the model
        row = torch.full((1, 4), nothing)
        assert drawn(row, [Sampling(temperature=2)])[0] in range(4)


def test_logprobs_name_the_chosen_token_and_the_most_probable() -> None:
    model = model_of("gpt2")
    row = rows(1, vocabulary=len(model.tokenizer))[0]
    best = row.argsort(descending=True).tolist()
    told = logprobs_of(row, best[3], 2, model.tokenizer)
    assert told.logprob == pytest.approx(float(row.log_softmax(-1)[best[3]]))
    assert [text for text, _ in told.top] == model.tokenizer.batch_decode([[b] for b in best[:2]])
    assert told.top[0][1] > told.top[1][1] > told.logprob


@pytest.mark.parametrize(
    "text", ["The Louvre is in Paris.", "naïve 東京 🙂🙂 end", "  two  spaces"]
)
def test_text_as_tokens_come_is_the_text_at_once(text: str, atlas_model: Any) -> None:
    for tokenizer in (atlas_model.tokenizer, model_of("llama").tokenizer):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        detokenizer = Detokenizer(tokenizer)
        parts = [detokenizer.add(token) for token in ids]
        whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert "".join(parts) + detokenizer.rest() == whole
        assert all("\ufffd" not in part for part in parts)


@given(st.lists(st.integers(0, 2000), max_size=30))
def test_any_tokens_become_the_same_text_as_at_once(ids: list[int]) -> None:
    tokenizer = model_of("gpt2").tokenizer
    ids = [i % len(tokenizer) for i in ids]
    detokenizer = Detokenizer(tokenizer)
    parts = [detokenizer.add(token) for token in ids]
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(parts) + detokenizer.rest() == whole


WORDS = st.text("ab.\n", max_size=20)


@given(WORDS, st.lists(st.text("ab.\n", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stop_string_is_found_however_the_text_is_split(text, stops, data) -> None:
    cutter, out, left = Stops(stops), "", text
    while left and not cutter.met:
        size = data.draw(st.integers(1, len(left)))
        out += cutter.add(left[:size])
        left = left[size:]
    if any(stop in text for stop in stops):
        assert cutter.met
        # What was read is cut at the first stop string in it; a later, longer read may hold an
        # earlier one, but never in text that was given out already.
        read = text[: len(text) - len(left)]
        assert out == text[: min(read.find(stop) for stop in stops if stop in read)]
    else:
        assert not cutter.met
        assert out + cutter.rest() == text
