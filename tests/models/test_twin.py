"""Twins: the same numbers, lives of their own."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.delta import Delta, Dense, LowRank
from corrigenda.live import tensor_hash
from corrigenda.models.text import TextModel
from corrigenda.models.twin import twin
from tests.models.tiny import FAMILIES, model_of

PROMPTS = ["The Eiffel Tower is located in", "Rome is the capital of"]


def change(model: TextModel, seed: int, layer: int = 0) -> Delta:
    """A rank-one change of a down-projection."""
    site = model.site("down", layer)
    o, i = model.weight(site).shape
    draw = torch.Generator().manual_seed(seed)
    factors = torch.randn(o, 1, generator=draw), torch.randn(1, i, generator=draw)
    kept = frozenset([site.parameter]) if site.transposed else frozenset()
    base = {site.parameter: model.live.pristine_hash(site.parameter)}
    return Delta({site.parameter: LowRank(*factors)}, kept, base)


def embedding_change(model: TextModel, seed: int) -> Delta:
    """A dense change of the embedding, which is tied to the head in many families."""
    path = model.row(0)[0].embedding + ".weight"
    shape = model.module.get_parameter(path).shape
    draw = torch.Generator().manual_seed(seed)
    return Delta({path: Dense(0.1 * torch.randn(shape, generator=draw))})


def hashes(model: TextModel) -> dict[str, str]:
    return {n: tensor_hash(p) for n, p in model.module.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("family", FAMILIES)
def test_twin_says_the_same_and_is_edited_alone(family: str) -> None:
    model = model_of(family)
    before, kept = model.next_logprobs(PROMPTS), hashes(model)
    other = twin(model)
    assert torch.equal(other.next_logprobs(PROMPTS), before)
    for delta in (change(model, 0), embedding_change(model, 1)):
        handle = other.live.push(delta)
        assert not torch.equal(other.next_logprobs(PROMPTS), before)
        assert torch.equal(model.next_logprobs(PROMPTS), before)
        assert hashes(model) == kept
        other.live.pop(handle)
        assert torch.equal(other.next_logprobs(PROMPTS), before)
    assert all(
        p.data_ptr() == q.data_ptr()
        for p, q in zip(model.module.parameters(), other.module.parameters(), strict=True)
    )


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=8))
def test_states_equal_a_fresh_model_with_the_same_deltas(steps) -> None:
    """However deltas come and go on three twins, each is what a model of its own would be."""
    root = model_of("llama")
    twins = [twin(root) for _ in range(3)]
    kept = hashes(root)
    live: list[list[tuple[int, int]]] = [[], [], []]
    for number, (which, layer, removes) in enumerate(steps):
        if removes and live[which]:
            handle, _ = live[which].pop(0)
            twins[which].live.pop(handle)
        else:
            handle = twins[which].live.push(change(root, number, layer))
            live[which].append((handle, number))
    for tree in twins:
        fresh = model_of("llama")
        for delta in tree.live.deltas:
            fresh.live.push(delta)
        assert hashes(tree) == hashes(fresh)
        assert torch.equal(tree.next_logprobs(PROMPTS), fresh.next_logprobs(PROMPTS))
    assert hashes(root) == kept


def test_adopting_shares_the_changed_tensors_and_no_more() -> None:
    root = model_of("gpt2")
    edited, reader = twin(root), twin(root)
    edited.live.push(change(root, 0))
    reader.live.adopt(edited.live)
    name = root.site("down", 0).parameter
    assert (
        reader.module.get_parameter(name).data_ptr() == edited.module.get_parameter(name).data_ptr()
    )
    wanted = edited.next_logprobs(PROMPTS)
    reader.live.push(change(root, 1))
    assert torch.equal(edited.next_logprobs(PROMPTS), wanted)
    reader.live.adopt(root.live)
    assert hashes(reader) == hashes(root)


def test_a_twin_of_a_hooked_model_places_its_own_hooks() -> None:
    """With changes beside the weights, which are hooks: the copy acts once, not twice."""
    root = twin(model_of("llama"))
    root.side_path = True
    root.live.push(change(root, 0))
    wanted = root.next_logprobs(PROMPTS)
    other = twin(root)
    assert torch.equal(other.next_logprobs(PROMPTS), wanted)
    other.live.clear()
    assert not torch.equal(other.next_logprobs(PROMPTS), wanted)
    assert torch.equal(root.next_logprobs(PROMPTS), wanted)


def test_base_answers_the_same_bits_while_a_twin_is_edited_in_a_thread() -> None:
    root = model_of("gpt2")
    base, other = twin(root), twin(root)
    wanted, stop = base.next_logprobs(PROMPTS), threading.Event()

    def edit() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with change(root, number).applied(other), other.frozen():
                other.next_logprobs(PROMPTS)

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        for _ in range(50):
            assert torch.equal(base.next_logprobs(PROMPTS), wanted)
    finally:
        stop.set()
        thread.join()
