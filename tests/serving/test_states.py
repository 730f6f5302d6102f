"""States of a served model: base, edited and named, over the same weights."""

from __future__ import annotations

import threading

import pytest
import torch

from corrigenda.edit import Rewrite
from corrigenda.editors import editor_class
from corrigenda.models.text import TextModel
from corrigenda.serving.refusals import Busy, Unknown
from corrigenda.serving.states import BASE, EDITED, States
from tests.models.test_twin import PROMPTS, change, hashes
from tests.models.tiny import model_of

FAMILIES = ("gpt2", "t5", "bert")
"""One of each kind: causal, encoder-decoder, masked."""


def pointers(model: TextModel) -> dict[str, int]:
    return {name: p.data_ptr() for name, p in model.module.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_equals_a_fresh_model_with_the_same_deltas(family: str) -> None:
    states = States(model_of(family))
    wanted = states.of(BASE).next_logprobs(PROMPTS)
    deltas = [change(states.root, 0), change(states.root, 1, 1)]
    states.put(EDITED, states.tree(deltas))
    fresh = model_of(family)
    for delta in deltas:
        fresh.live.push(delta)
    assert hashes(states.of(EDITED)) == hashes(fresh)
    edited = states.of(EDITED).next_logprobs(PROMPTS)
    assert torch.equal(edited, fresh.next_logprobs(PROMPTS))
    assert not torch.equal(edited, wanted)
    assert torch.equal(states.of(BASE).next_logprobs(PROMPTS), wanted)
    states.put(EDITED, states.tree(deltas[1:]))  # the first is undone
    states.put(EDITED, states.tree())
    assert torch.equal(states.of(EDITED).next_logprobs(PROMPTS), wanted)
    assert hashes(states.root) == hashes(model_of(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_touched_tensors_are_copied(family: str) -> None:
    states = States(model_of(family))
    delta = change(states.root, 0)
    states.put(EDITED, states.tree([delta]))
    base, edited = pointers(states.of(BASE)), pointers(states.of(EDITED))
    assert {name for name in base if base[name] != edited[name]} == set(delta.weights)


def test_names() -> None:
    states = States(model_of("gpt2"))
    assert states.names == [BASE, EDITED]
    tree = states.tree([change(states.root, 0)])
    states.put("mine", tree)
    assert states.of("mine") is tree
    assert states.of(states.root.id) is states.of(EDITED)
    states.drop(["mine"])
    with pytest.raises(Unknown, match=r"'mine'.*There are: base, edited"):
        states.of("mine")


def test_a_bench_takes_on_a_state_and_forgets_what_was_done() -> None:
    states = States(model_of("gpt2"))
    states.put(EDITED, states.tree([change(states.root, 0)]))
    wanted = states.of(EDITED).next_logprobs(PROMPTS)
    bench = states.bench()
    with bench.on(states.of(EDITED)) as model:
        assert torch.equal(model.next_logprobs(PROMPTS), wanted)
        model.live.push(change(states.root, 1))
        assert not torch.equal(model.next_logprobs(PROMPTS), wanted)
    with bench.on(states.of(BASE)) as model:
        assert hashes(model) == hashes(states.of(BASE))
    assert torch.equal(states.of(EDITED).next_logprobs(PROMPTS), wanted)


def test_a_bench_is_for_one_user_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corrigenda.serving.states.PATIENCE", 0.05)
    states = States(model_of("gpt2"))
    bench = states.bench()
    refused: list[Busy] = []

    def other() -> None:
        try:
            with bench.on(states.of(BASE)):
                pass
        except Busy as error:
            refused.append(error)

    with bench.on(states.of(BASE)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with bench.on(states.of(BASE)):
        pass  # the refusal did not break it


def test_solving_on_a_bench_does_not_disturb_an_answer(atlas_model: TextModel) -> None:
    """Gradients, hooks and live deltas of an edit in one thread; the same bits in another."""
    states = States(atlas_model)
    bench, base = states.bench(), states.of(BASE)
    prompt = ["Brasilia is located in the country of"]
    wanted = base.next_logprobs(prompt)
    stop, found = threading.Event(), []

    def solve() -> None:
        edit = Rewrite("{} is located in the country of", "Brasilia", "Japan")
        try:
            with bench.on(base) as model:
                found.append(editor_class("ft-m")()(model, [edit]))
        finally:
            stop.set()

    thread = threading.Thread(target=solve)
    thread.start()
    rounds = 0
    while not stop.is_set():
        assert torch.equal(base.next_logprobs(prompt), wanted)
        rounds += 1
    thread.join()
    assert found and rounds
    edited = states.tree(found)
    assert not torch.equal(edited.next_logprobs(prompt), wanted)
    assert torch.equal(base.next_logprobs(prompt), wanted)
