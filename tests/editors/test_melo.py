"""MELO: one block per edit, chosen by a codebook; no block disturbs another."""

from __future__ import annotations

import warnings

import pytest
import torch

from corrigenda.acting import Blocks, Memory
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors.melo import MELO
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel

from ..models.tiny import model_of

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
    Rewrite("The mother tongue of {} is", "Marie Curie", "German"),
    Rewrite("Question: Who makes {}? Answer:", "the iPhone", "Microsoft of Madrid"),
)
FAR = ["Question: Where is the tower?", "The Louvre is located in"]
SMALL = {"layers": (1,), "key_layer": 0, "radius": 0.05, "steps": 40, "lr": 1e-2}
every_kind = pytest.mark.parametrize("family", ["gpt2", "opt", "t5", "bert"])


def solve(model: TextModel, *edits: Rewrite, onto: Delta | None = None, **more) -> Delta:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        return MELO(**{**SMALL, **more})(model, list(edits), onto)


def blocks(delta: Delta) -> list[Blocks]:
    found = []
    for change in delta.acting.values():
        assert isinstance(change, Memory) and isinstance(change.then, Blocks)
        found.append(change.then)
    return found


def nll(model: TextModel, edits=EDITS) -> torch.Tensor:
    with torch.no_grad():
        return model.nll([model.asked(e.text, e.target, e.following) for e in edits])


@every_kind
def test_edits_in_balls_and_nothing_outside(family: str) -> None:
    model = model_of(family)
    before, plain = nll(model), model.next_logprobs(FAR)
    delta = solve(model, *EDITS)
    with delta.applied(model):
        after = nll(model)
        assert torch.equal(model.next_logprobs(FAR), plain), "no match: bit-identical to the base"
    told = torch.tensor(delta.provenance.diagnostics["target_nll"])
    assert bool((after < before - 0.2).all())
    # Told before the last step, so one small step apart.
    torch.testing.assert_close(after, told, atol=0.1, rtol=0.1)


def test_without_steps_nothing_changes() -> None:
    model = model_of("gpt2")
    plain = model.next_logprobs([e.text for e in EDITS])
    with solve(model, *EDITS, steps=0).applied(model):
        assert torch.equal(model.next_logprobs([e.text for e in EDITS]), plain)


@every_kind
def test_training_a_block_leaves_the_others_unchanged(family: str) -> None:
    model = model_of(family)
    (together,) = blocks(solve(model, *EDITS))
    for j, edit in enumerate(EDITS):
        (alone,) = blocks(solve(model, edit))
        torch.testing.assert_close(alone.u[0], together.u[j], atol=2e-3, rtol=2e-2)
        torch.testing.assert_close(alone.v[0], together.v[j], atol=2e-3, rtol=2e-2)


def test_a_block_is_trained_without_those_of_earlier_edits() -> None:
    """Although the prompt lies in the ball of an earlier edit while it is solved."""
    model = model_of("gpt2")
    other = Rewrite(EDITS[0].prompt, EDITS[0].subject, "Madrid")
    first = solve(model, EDITS[0])
    second = solve(model, other, onto=first)
    assert second.changes.keys() == first.changes.keys()
    assert second.id == solve(model, other).id
    with (first + second).applied(model):
        both = nll(model, [other])
    with second.applied(model):
        assert torch.equal(nll(model, [other]), both)


def test_edits_share_blocks_in_order() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, share=2, batch_size=1)
    ((change),) = delta.acting.values()
    assert isinstance(change, Memory) and change.then.entries == 2
    assert change.scope.choice == (0, 0, 1)  # type: ignore[union-attr]
    more = delta + solve(model, EDITS[0], share=2)
    ((change),) = more.acting.values()
    assert change.scope.choice == (0, 0, 1, 2)  # type: ignore[union-attr]
    (pair,) = blocks(solve(model, *EDITS[:2], share=2))
    torch.testing.assert_close(blocks(delta)[0].u[0], pair.u[0], atol=1e-4, rtol=1e-3)


def test_several_maps_change_together() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, layers=(1, 2), roles=("up", "down"), rank=3)
    assert len(delta.acting) == 4
    assert {b.u.shape[2] for b in blocks(delta)} == {3}
    with delta.applied(model):
        assert bool(
            (nll(model) < torch.tensor(delta.provenance.diagnostics["target_nll"]) + 0.1).all()
        )


def test_the_centre_moves_to_the_mean() -> None:
    model = model_of("gpt2")
    twin = Rewrite("{} is located in", "The Eiffel Tower of Paris", "Rome")
    delta = solve(model, EDITS[0], twin, radius=50.0)
    change = next(iter(delta.acting.values()))
    assert isinstance(change, Memory)
    book = change.scope.book  # type: ignore[union-attr]
    assert len(book) == 1
    torch.testing.assert_close(
        book.centres[0],
        change.scope.keys.double().mean(0),  # type: ignore[union-attr]
    )


def test_the_key_comes_first() -> None:
    model = model_of("gpt2")
    assert MELO(layers=(2,)).resolved(model).key_layer == 1
    for layers, key in (((1,), 1), ((0,), None), ((1, 2), 2)):
        with pytest.raises(InputError, match="come after the key's"):
            solve(model, EDITS[0], layers=layers, key_layer=key)
    t5 = model_of("t5")
    with pytest.raises(InputError, match="a layer that reads them"):
        solve(t5, EDITS[0], layers=(len(t5.prompt_layers),))
