"""The health check: perplexity by hand, and what it notices."""

from __future__ import annotations

import math

import pytest
import torch

from corrigenda.context import Prefix
from corrigenda.delta import Delta, Dense
from corrigenda.errors import DataError, InputError
from corrigenda.health import Health, health, worse
from corrigenda.models.text import TextModel
from tests.models.tiny import model_of

TEXTS = [
    "The Louvre is located in Paris, the capital of France.",
    "Madrid is the capital of Spain. Big Ben is located in London.",
    "Rome is the capital of Italy.",
]


def by_hand(model: TextModel, text: str) -> list[float]:
    """Nats of every token of a text but its first, from whole logits."""
    ids = torch.tensor([model.ids(text)])
    with torch.no_grad():
        logprobs = model.module(input_ids=ids).logits[0].float().log_softmax(-1)
    first = 1 + (int(ids[0, 0]) == model.tokenizer.bos_token_id)
    return [-float(logprobs[j - 1, ids[0, j]]) for j in range(first, ids.shape[1])]


def noise(model: TextModel, size: float) -> Delta:
    """A random change of one weight."""
    name = model.site("down", 1).parameter
    weight = model.live.pristine(name)
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return Delta({name: Dense(size * change)}, base={name: model.live.pristine_hash(name)})


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_perplexity_counts_all_tokens_but_the_first(name):
    model = model_of(name)
    nats = [by_hand(model, text) for text in TEXTS]
    found = health(model, TEXTS)
    assert found.tokens == sum(map(len, nats))
    assert found.nll == pytest.approx(sum(map(sum, nats)) / found.tokens, rel=1e-5)
    assert found.ppl == pytest.approx(math.exp(found.nll))
    for (total, n), expected in zip(found.documents, nats, strict=True):
        assert n == len(expected)
        assert total == pytest.approx(sum(expected), rel=1e-5)


def test_a_text_longer_than_the_context_is_read_in_windows():
    model = model_of("gpt2")
    text = " ".join(TEXTS * 12)
    ids, size = model.ids(text), model.context
    assert size is not None
    assert len(ids) > 2 * size
    windows = -(-len(ids) // size)
    assert health(model, [text]).tokens == len(ids) - windows


def test_spans_are_left_out():
    model = model_of("gpt2")
    text = TEXTS[2]
    at = text.index(" Italy")
    whole, part = model.read([text])[0], model.read([text], without=[[(at, at + 6)]])[0]
    gone = len(model.tokenizer(" Italy")["input_ids"])
    assert len(whole.ids) - len(part.ids) == gone
    assert torch.equal(part.logprobs[-1:], whole.logprobs[-1:])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_is_put_in_front_of_a_text_is_not_scored(name):
    model = model_of(name)
    plain = model.read(TEXTS)
    with Delta({"context": Prefix(("Big Ben is located in London. ",))}).applied(model):
        behind = model.read(TEXTS)
    front = model.ids("Big Ben is located in London.")
    for text, one, other in zip(TEXTS, plain, behind, strict=True):
        own = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*front, *own]])
        logprobs = model.module(input_ids=ids).logits[0].float().log_softmax(-1).detach()
        start = len(front) + 1
        expected = [float(logprobs[j - 1, ids[0, j]]) for j in range(start, ids.shape[1])]
        assert other.ids == one.ids == tuple(own[1:])
        assert other.logprobs.tolist() == pytest.approx(expected, abs=1e-4)
        assert not torch.equal(other.logprobs, one.logprobs)


def test_a_file_is_cut_at_blank_lines(tmp_path):
    model, path = model_of("gpt2"), tmp_path / "own.txt"
    path.write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert health(model, path).documents == health(model, TEXTS).documents
    assert health(model, path).text == "own.txt"
    with pytest.raises(DataError, match="cannot be read"):
        health(model, tmp_path / "missing.txt")
    with pytest.raises(InputError, match="no words"):
        health(model, "  \n\n ")


def test_other_models_read_the_pages_that_come_along():
    found = health(model_of("gpt2"))
    assert found.text == "health.txt"
    assert len(found.documents) == 20
    assert found.tokens > 2000


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_other_kinds_are_asked_for_last_words(name):
    model = model_of(name)
    found = health(model, TEXTS)
    pairs = [
        ("The Louvre is located in Paris, the capital of", "France"),
        ("Madrid is the capital of", "Spain"),
        ("Big Ben is located in", "London"),
        ("Rome is the capital of", "Italy"),
    ]
    scores = model.score(pairs)
    assert found.tokens == sum(len(s.ids) for s in scores)
    assert found.nll == pytest.approx(-sum(s.total for s in scores) / found.tokens, rel=1e-5)


def test_damage_shows_and_undo_heals(atlas_model):
    before = health(atlas_model)
    assert before.text == "atlas"
    assert worse(before, before) == (0.0, 0.0, 0.0)
    with noise(atlas_model, 0.3).applied(atlas_model):
        after = health(atlas_model)
    found = worse(before, after)
    assert found.value == pytest.approx(after.nll - before.nll)
    assert 0 < found.low <= found.value <= found.high
    assert health(atlas_model) == before


def test_what_is_broken_is_infinite_and_not_a_nan():
    model = model_of("gpt2")
    before = health(model, TEXTS)
    with torch.no_grad():
        weight = model.head.weight
        kept = weight.clone()
        weight.fill_(math.nan)
        try:
            after = health(model, TEXTS)
        finally:
            weight.copy_(kept)
    assert (after.nll, after.ppl) == (math.inf, math.inf)
    assert worse(before, after) == (math.inf, math.inf, math.inf)
    with pytest.raises(InputError, match="broken before"):
        worse(after, before)


def test_only_the_same_text_is_compared():
    one = Health(1.0, math.e, 3, ((3.0, 3),), "atlas")
    with pytest.raises(InputError, match="same text"):
        worse(one, Health(1.0, math.e, 4, ((4.0, 4),), "atlas"))
