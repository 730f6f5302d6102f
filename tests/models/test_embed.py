"""Texts as vectors: independent of padding, batching and edits; paraphrases find each other."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import pytest
import torch

from corrigenda.delta import Delta, Dense
from corrigenda.errors import InputError, ModelError
from corrigenda.models import embed as embedding
from corrigenda.models.embed import embed, sentence_encoder
from corrigenda.models.text import TextModel
from corrigenda.numerics.nearest import nearest

from .tiny import CAUSAL, WIDTH, tiny

TEXTS = (
    "The Eiffel Tower is located in",
    "Paris",
    "Where is the tower? In the city of Rome, the capital of Italy. Answer:",
    "Marie Curie was born in Warsaw",
)
POOLS = ("last", "mean", "weighted")


def tiny_model(family: str) -> TextModel:
    return TextModel(*tiny(family), family)


def by_hand(model: TextModel, text: str, layer: int, pool: str) -> torch.Tensor:
    """(d,) one text, alone, from the library's own list of hidden states."""
    encoded = model.tokenizer(text, return_special_tokens_mask=True)
    with torch.no_grad():
        out = model.forward(model.batch([encoded["input_ids"]]), output_hidden_states=True)
    special = torch.tensor(encoded["special_tokens_mask"], dtype=torch.bool)
    states = out.hidden_states[layer + 1][0][~special]  # [0] is the embedding
    place = torch.arange(1.0, len(states) + 1)
    weight = {"last": (place == len(states)).float(), "mean": place * 0 + 1, "weighted": place}
    return weight[pool] @ states / weight[pool].sum()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("family", CAUSAL)
def test_is_the_pooled_state_without_the_common_part(family, pool):
    model = tiny_model(family)
    middle = model.n_layers // 2
    common = torch.stack([by_hand(model, t, middle, pool) for t in embedding.UNRELATED]).mean(0)
    wanted = torch.stack([by_hand(model, t, middle, pool) for t in TEXTS]) - common
    found = embed(model, TEXTS, pool=pool)
    assert found.shape == (len(TEXTS), WIDTH) and found.dtype == torch.float32
    torch.testing.assert_close(
        found, torch.nn.functional.normalize(wanted, dim=1), atol=2e-4, rtol=1e-3
    )


def test_does_not_depend_on_batch_order_or_repetition():
    model = tiny_model("llama")
    whole = embed(model, TEXTS)
    torch.testing.assert_close(embed(model, TEXTS, batch_size=1), whole, atol=1e-5, rtol=0)
    assert torch.equal(embed(model, [*TEXTS, *TEXTS])[len(TEXTS) :], whole)
    torch.testing.assert_close(embed(model, TEXTS[::-1]).flip(0), whole, atol=1e-5, rtol=0)
    assert embed(model, []).shape == (0, WIDTH)
    assert torch.equal(embed(model, ["Paris  "]), embed(model, ["Paris"]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_reads_the_unedited_model_and_leaves_it_as_it_was():
    model = tiny_model("gpt2")
    before, hashed = embed(model, TEXTS), model.weights_hash()
    name = f"{model.layout.blocks}.0.{model.layout.linears['down']}.bias"
    noise = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    delta = Delta({name: Dense(noise)})
    with delta.applied(model):
        edited = model.module.get_parameter(name).clone()
        moved = by_hand(model, TEXTS[0], 1, "last")
        assert torch.equal(embed(model, TEXTS), before)
        fresh = TextModel(model.module, model.tokenizer)  # takes the edited weights for its own
        assert not torch.allclose(embed(fresh, TEXTS), before, atol=1e-3)
        assert torch.equal(model.module.get_parameter(name), edited)
        assert len(model.live.deltas) == 1
    assert not torch.allclose(by_hand(model, TEXTS[0], 1, "last"), moved, atol=1e-3)
    assert model.weights_hash() == hashed


def test_every_layer_and_pool_has_a_common_part_of_its_own():
    model = tiny_model("gpt2")
    found = {(n, p): embed(model, TEXTS, n, pool=p) for n in range(model.n_layers) for p in POOLS}
    for place, rows in found.items():
        assert torch.equal(embed(model, TEXTS, place[0], pool=place[1]), rows)
        assert sum(torch.allclose(rows, other, atol=1e-3) for other in found.values()) == 1


def test_what_cannot_be_embedded_is_refused():
    model = tiny_model("llama")  # with a BOS, so that not even "" is without tokens
    with pytest.raises(InputError, match="empty"):
        embed(model, ["Paris", ""])
    with pytest.raises(InputError, match="context of 128"):
        embed(model, ["Paris " * 200])
    with pytest.raises(InputError, match="Layer 3 does not exist"):
        embed(model, TEXTS, 3)
    with pytest.raises(InputError, match="no pool 'max'"):
        embed(model, TEXTS, pool="max")  # type: ignore[arg-type]


def test_a_missing_encoder_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"corrigenda\[retrieval\]"):
        sentence_encoder("all-MiniLM-L6-v2")


def test_an_encoder_gives_rows_of_length_one(monkeypatch):
    class Stand:
        def __init__(self, name, device):
            if name == "missing":
                raise OSError("not a repository")

        def encode(self, texts, convert_to_tensor, show_progress_bar):
            assert isinstance(texts, list) and convert_to_tensor and not show_progress_bar
            return torch.tensor([[len(t), 2.0] for t in texts], dtype=torch.float16)

    library = SimpleNamespace(SentenceTransformer=Stand)
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    rows = sentence_encoder("some-encoder")(("a", "bcd"))
    assert rows.dtype == torch.float32
    wanted = torch.nn.functional.normalize(torch.tensor([[1.0, 2], [3, 2]]), dim=1)
    torch.testing.assert_close(rows, wanted)
    with pytest.raises(ModelError, match="not a repository"):
        sentence_encoder("missing")


@pytest.mark.slow
def test_paraphrases_of_a_fact_find_each_other(atlas_model):
    """Of the prompts about 100 facts, two wordings each: the nearest is the other wording. And
    other subjects are far: a threshold between them keeps a memory to its scope."""
    from corrigenda.atlas import RELATIONS, world
    from corrigenda.atlas.templates import held_out, trained

    atlas, rng = world(), random.Random(0)
    facts = [p for p in atlas.pairs() if RELATIONS[p[1]].kind == "given"]
    texts, about = [], []
    for subject, relation in rng.sample(facts, 100):
        wordings = [*trained(subject, relation), *held_out(subject, relation)]
        prompts = [t.prompt(subject) for t in wordings if t.promptable]
        for prompt in rng.sample(prompts, 2):
            texts.append(prompt)
            about.append(subject)
    rows = embed(atlas_model, texts)
    near = nearest(rows, rows, 2).index
    found = [b if a == j else a for j, (a, b) in enumerate(near.tolist())]
    assert sum(f == j ^ 1 for j, f in enumerate(found)) / len(found) > 0.95
    scores = rows @ rows.T
    paired = scores[torch.arange(200), torch.arange(200) ^ 1]
    others = torch.tensor([[a != b for b in about] for a in about])
    assert float(paired.median()) > float(scores[others].quantile(0.999))
    assert float(scores[others].mean()) < 0.35
