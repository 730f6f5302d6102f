"""Changes of activations: undone bit for bit, per row, decided once per answer, and saved whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.acting import (
    ACTIVATIONS,
    Affine,
    Balls,
    Blocks,
    Memory,
    Neurons,
    Pass,
    Values,
    place,
)
from corrigenda.delta import Delta
from corrigenda.editors._memory import prompt_ends
from corrigenda.errors import DeltaError, WrongBaseError
from corrigenda.live import tensor_hash
from corrigenda.models.text import TextModel
from corrigenda.numerics.codebook import Codebook

from .models.tiny import model_of

KNOWN = "The Eiffel Tower is located in"
ALSO = "The mother tongue of Marie Curie is"
OTHER = "Question: Where is the tower?"
PROMPTS = [KNOWN, OTHER, ALSO]
LAYER, LATER = 1, 2


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def down(model: TextModel, layer: int = LAYER) -> str:
    return model.site("down", layer).module


def widths(model: TextModel, layer: int = LAYER) -> tuple[int, int]:
    return tuple(model.weight(model.site("down", layer)).shape)  # type: ignore[return-value]


def key(model: TextModel, prompt: str) -> torch.Tensor:
    """(1, i) what enters the down-projection at the prompt's last token."""
    module = model.linear(model.site("down", LAYER))
    return prompt_ends(model, module, "input", [model.opening(prompt)])


def balls(model: TextModel, *prompts: str, radius: float = 0.1) -> Balls:
    keys = torch.cat([key(model, p) for p in prompts])
    n = len(prompts)
    return Balls(
        place(down(model), "input"), keys, torch.full((n,), radius), prompts, tuple(range(n))
    )


def values(model: TextModel, *prompts: str, mode: Any = "last", seed: int = 0) -> Delta:
    o, _ = widths(model)
    then = Values(3 * randn(len(prompts), o, seed=seed), mode)
    return Delta({place(down(model)): Memory(balls(model, *prompts), then)})


def blocks(model: TextModel, *prompts: str, seed: int = 0) -> Delta:
    o, i = widths(model, LATER)
    n = len(prompts)
    then = Blocks(randn(n, o, 2, seed=seed), randn(n, 2, i, seed=seed + 1))
    return Delta({place(down(model, LATER)): Memory(balls(model, *prompts), then)})


def neurons(model: TextModel, *, seed: int = 0, activation: str = "relu") -> Delta:
    o, i = widths(model)
    change = Neurons(
        randn(3, i, seed=seed), randn(3, seed=seed + 1), randn(o, 3, seed=seed + 2),
        activation=activation,
    )  # fmt: skip
    return Delta({place(down(model)): change})


def affine(model: TextModel, *, seed: int = 0, where: Any = "all") -> Delta:
    d = model.width
    change = Affine(
        0.3 * randn(d, 1, seed=seed), randn(1, d, seed=seed + 1), randn(d, seed=seed + 2), where
    )
    return Delta({place(model.path_of(model.block(LAYER))): change})


MAKERS: dict[str, Any] = {
    "affine": affine,
    "affine-answer": lambda m, seed=0: affine(m, seed=seed, where="answer"),
    "neurons": neurons,
    "values": lambda m, seed=0: values(m, KNOWN, seed=seed),
    "values-prompt": lambda m, seed=0: values(m, KNOWN, mode="prompt", seed=seed),
    "blocks": lambda m, seed=0: blocks(m, KNOWN, seed=seed),
}
IN_SCOPE_ONLY = ("values", "values-prompt", "blocks")
SOME = ("gpt2", "opt", "llama", "t5", "bart", "bert")
every_kind = pytest.mark.parametrize("family", SOME)
every_change = pytest.mark.parametrize("name", sorted(MAKERS))


def logits(model: TextModel, prompts: list[str] = PROMPTS) -> torch.Tensor:
    return model.next_logprobs(prompts)


def bits(model: TextModel) -> list[str]:
    return [tensor_hash(p) for p in model.module.parameters()]


def hooks(model: TextModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


# -- undo ---------------------------------------------------------------------------------------


@every_kind
@every_change
def test_applied_and_undone(name: str, family: str) -> None:
    model = model_of(family)
    before, plain = bits(model), logits(model)
    delta = MAKERS[name](model)
    with delta.applied(model):
        edited = logits(model)
        assert bits(model) == before and not model.live.touched
        with model.live.suspended():
            assert torch.equal(logits(model), plain) and hooks(model) == 0
        assert torch.equal(logits(model), edited)
    assert hooks(model) == 0 and torch.equal(logits(model), plain)
    assert not torch.equal(edited[0], plain[0])
    if name in IN_SCOPE_ONLY:
        assert torch.equal(edited[1:], plain[1:]), "outside of all balls: bit for bit"


@given(
    st.lists(st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 9)), min_size=1, max_size=5),
    st.data(),
)
@settings(max_examples=12)
def test_undone_in_any_order_the_rest_is_as_if_alone(made: Any, data: Any) -> None:
    model = model_of("gpt2")
    deltas = [MAKERS[name](model, seed=seed) for name, seed in made]
    active = {model.live.push(d): d for d in deltas}
    while active:
        handle = data.draw(st.sampled_from(sorted(active)))
        model.live.pop(handle)
        del active[handle]
        fresh = model_of("gpt2")
        for delta in active.values():
            fresh.live.push(delta)
        assert torch.equal(logits(model), logits(fresh))
    assert hooks(model) == 0


@every_kind
def test_undoing_the_third_of_five_memories(family: str) -> None:
    """Not as if its ball were still there, nor the trace that it left in the balls of others."""
    model = model_of(family)
    prompts = [KNOWN, ALSO, OTHER, "Paris is the capital of", "Marie Curie was born in"]
    gap = torch.pdist(torch.cat([key(model, p) for p in prompts])).max()

    def memory(j: int) -> Delta:
        o, _ = widths(model)
        scope = replace(balls(model, prompts[j], radius=float(gap)), labels=(str(j),))
        return Delta({place(down(model)): Memory(scope, Values(randn(1, o, seed=j)))})

    made = [memory(j) for j in range(5)]
    handles = [model.live.push(d) for d in made]
    all_five = logits(model, prompts)
    model.live.pop(handles[2])
    without = logits(model, prompts)
    assert not torch.equal(without, all_five)
    model.live.clear()
    with (made[0] + made[1] + made[3] + made[4]).applied(model):
        assert torch.equal(logits(model, prompts), without)


def test_the_sum_acts_as_both() -> None:
    model = model_of("gpt2")
    for name in ("neurons", "values", "blocks"):
        a, b = (MAKERS[name](model, seed=seed) for seed in (0, 50))
        with a.applied(model), b.applied(model):
            both = logits(model)
        with (a + b).applied(model):
            assert torch.equal(logits(model), both), name
    a, b = affine(model, seed=0), affine(model, seed=50)
    with a.applied(model), b.applied(model):
        both = logits(model)
    with (a + b).applied(model):
        torch.testing.assert_close(logits(model), both, atol=1e-4, rtol=1e-4)


# -- rows ---------------------------------------------------------------------------------------


@every_kind
@every_change
def test_a_row_does_not_depend_on_the_batch(name: str, family: str) -> None:
    """Alone or padded beside longer and shorter prompts, read or generated."""
    model = model_of(family)
    with MAKERS[name](model).applied(model):
        together = logits(model, [*PROMPTS, f"{OTHER} {OTHER}"])
        for row, prompt in zip(together, PROMPTS, strict=False):
            torch.testing.assert_close(row, logits(model, [prompt])[0], atol=2e-4, rtol=2e-4)


@every_kind
@every_change
def test_the_side_of_the_padding_does_not_matter(name: str, family: str) -> None:
    model = model_of(family)
    rows = [model.asked(p, "Rome") for p in PROMPTS]
    with MAKERS[name](model).applied(model), torch.no_grad():
        left, right = model.nll(rows, "left"), model.nll(rows, "right")
        alone = torch.cat([model.nll([row]) for row in rows])
    torch.testing.assert_close(left, right, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(alone, right, atol=2e-4, rtol=2e-4)


# -- one decision per answer --------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "bloom"])
@every_change
def test_writing_with_a_cache_is_as_reading_all_again(name: str, family: str) -> None:
    """What was decided at the prompt holds for the whole answer, for each row by itself."""
    model = model_of(family)
    with MAKERS[name](model).applied(model):
        padded = model.encode(PROMPTS)
        out = model.module.generate(  # type: ignore[operator]
            input_ids=padded.ids, attention_mask=padded.mask, max_new_tokens=6, min_new_tokens=6,
            do_sample=False, use_cache=True, output_logits=True, return_dict_in_generate=True,
            pad_token_id=model.pad_id,
        )  # fmt: skip
        written = torch.stack(out.logits, 1)  # (b, 6, V)
        new = out.sequences[:, padded.ids.shape[1] :].tolist()
        for j, prompt in enumerate(PROMPTS):
            opening = model.opening(prompt)
            ids = (*opening.ids, *new[j][:-1])
            reads = tuple(range(len(opening.ids) - 1, len(ids)))
            row = replace(opening, ids=ids, reads=reads, wanted=tuple(new[j]))
            with torch.no_grad():
                again = model.target_logits(model.force([row]))
            torch.testing.assert_close(written[j].float(), again, atol=3e-4, rtol=3e-4)


def test_generated_tokens_are_not_asked_again() -> None:
    """A ball around everything that is decoded later makes no difference."""
    model = model_of("gpt2")
    delta = values(model, KNOWN)
    (change,) = delta.acting.values()
    assert isinstance(change, Memory)
    x, now = randn(2, 4, widths(model)[1]), Pass()
    x[0, -1] = change.scope.keys[0]  # type: ignore[union-attr]
    change.decide(x, now)
    assert now.routes[id(change)].tolist() == [0, -1]
    now.decoding = True
    change.decide(x.flip(0), now)
    assert now.routes[id(change)].tolist() == [0, -1]


def test_the_same_prompts_are_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search asks the same questions at every step; one other bit, and they are other ones."""
    model = model_of("gpt2")
    (change,) = values(model, KNOWN).acting.values()
    assert isinstance(change, Memory)
    looked, lookup = [], Codebook.lookup
    monkeypatch.setattr(
        Codebook, "lookup", lambda book, q, **more: looked.append(len(q)) or lookup(book, q, **more)
    )
    x, now = randn(2, 4, widths(model)[1]), Pass()
    x[0, -1] = change.scope.keys[0]  # type: ignore[union-attr]
    for _ in range(3):
        now.begin(None, None)
        x[:, 0] += 1  # not where the decision is read
        change.decide(x, now)
        assert now.routes[id(change)].tolist() == [0, -1]
    assert looked == [2]
    now.begin(None, None)
    change.decide(x.flip(0), now)
    assert now.routes[id(change)].tolist() == [-1, 0]
    now.begin(None, None)
    change.decide(x[:1], now)
    assert now.routes[id(change)].tolist() == [0] and looked == [2, 2, 1]


def test_ends_and_padding() -> None:
    x = torch.zeros(2, 5, 1)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    assert Pass().last(x).tolist() == [4, 4]
    assert Pass(mask).last(x).tolist() == [4, 3]
    assert Pass(mask, torch.tensor([3, 1])).last(x).tolist() == [3, 1]
    inside = Pass(mask, torch.tensor([3, 1])).within(x).int().tolist()
    assert inside == [[0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert Pass(mask).rows(torch.zeros(10, 1)).shape == (2, 5, 1)


# -- what each of them computes -----------------------------------------------------------------


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [False, True])
def test_neurons_are_key_value_units(activation: str, gated: bool) -> None:
    x, y = randn(2, 3, 5, seed=1), randn(2, 3, 4, seed=2)
    k, bias, v, gate = randn(6, 5), randn(6), randn(4, 6), randn(6, 5, seed=9)
    units = Neurons(k, bias, v, *([gate] if gated else []), activation=activation)
    wanted = y.clone()
    for b in range(2):
        for t in range(3):
            for n in range(6):
                active = ACTIVATIONS[activation](k[n] @ x[b, t] + bias[n])
                wanted[b, t] += v[:, n] * active * (gate[n] @ x[b, t] if gated else 1)
    torch.testing.assert_close(units.act(x, y, Pass()), wanted, atol=1e-4, rtol=1e-4)
    two = units.plus(units)
    torch.testing.assert_close(two.act(x, y, Pass()) - y, 2 * (wanted - y), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        units.scaled(-1.0).act(x, y, Pass()) - y, y - wanted, atol=1e-3, rtol=1e-3
    )


def test_silent_neurons_return_the_very_tensor() -> None:
    x, y = randn(2, 3, 5), randn(2, 3, 4)
    silent = Neurons(torch.zeros(2, 5), -torch.ones(2), randn(4, 2))
    assert silent.act(x, y, Pass()) is y


def test_affine_maps_compose() -> None:
    y = randn(2, 3, 5, seed=3)
    a, b = (
        Affine(randn(5, 2, seed=s), randn(2, 5, seed=s + 1), randn(5, seed=s + 2)) for s in (0, 7)
    )
    one_after_the_other = b.act(y, a.act(y, y, Pass()), Pass())
    torch.testing.assert_close(
        a.plus(b).act(y, y, Pass()), one_after_the_other, atol=1e-3, rtol=1e-4
    )


def test_affine_says_where() -> None:
    y, b = torch.zeros(2, 4, 1), torch.ones(1)
    none = (torch.zeros(1, 0), torch.zeros(0, 1))
    now = Pass(torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]]), torch.tensor([2, 1]))
    answer = Affine(*none, b, "answer").act(y, y, now)
    assert answer[..., 0].tolist() == [[0, 0, 1, 1], [0, 1, 1, 1]]
    start = Affine(*none, torch.tensor([[5.0], [7.0]]), "start").act(y, y, now)
    assert start[..., 0].tolist() == [[0, 5, 7, 0], [5, 7, 0, 0]]
    now.decoding = True
    assert Affine(*none, b, "answer").act(y, y, now).eq(1).all()
    assert Affine(*none, b[None], "start").act(y, y, now) is y


@pytest.mark.parametrize("mode", ["last", "prompt"])
def test_values_replace(mode: Any) -> None:
    y, now = randn(3, 4, 2), Pass(torch.tensor([[0, 1, 1, 1]] * 3), torch.tensor([2, 2, 2]))
    stored = randn(5, 2, seed=8)
    new = Values(stored, mode).act(y, y, torch.tensor([4, -1, 0]), now)
    assert torch.equal(new[1], y[1])
    for row, j in ((0, 4), (2, 0)):
        replaced = [2] if mode == "last" else [1, 2]
        for t in range(4):
            assert torch.equal(new[row, t], stored[j] if t in replaced else y[row, t])
    now.decoding = True
    assert Values(stored, mode).act(y, y, torch.tensor([4, -1, 0]), now) is y


def test_blocks_add_their_own_low_rank_map() -> None:
    x, y = randn(3, 4, 5, seed=1), randn(3, 4, 2, seed=2)
    part = Blocks(randn(2, 2, 3), randn(2, 3, 5))
    new = part.act(x, y, torch.tensor([1, -1, 0]), Pass())
    assert torch.equal(new[1], y[1])
    for row, j in ((0, 1), (2, 0)):
        torch.testing.assert_close(new[row], y[row] + x[row] @ (part.u[j] @ part.v[j]).T)


def test_memories_number_their_entries_on() -> None:
    """Two edits on one block, then one on another: choices are shifted by blocks, not by edits."""
    keys = torch.tensor([[0.0], [10.0], [20.0]])
    first = Memory(
        Balls("m@input", keys[:2], torch.ones(2), ("A", "B"), (0, 0)),
        Blocks(torch.zeros(1, 2, 1), torch.zeros(1, 1, 1)),
    )
    second = Memory(
        Balls("m@input", keys[2:], torch.ones(1), ("C",), (0,)),
        Blocks(torch.ones(1, 2, 1), torch.ones(1, 1, 1)),
    )
    both, now = first.plus(second), Pass()
    both.decide(torch.tensor([[[0.5]], [[10.0]], [[20.9]], [[15.0]]]), now)
    assert now.routes[id(both)].tolist() == [0, 0, 1, -1]


def test_a_sum_of_balls_goes_on_from_those_that_are_folded() -> None:
    model = model_of("gpt2")
    one, two = balls(model, KNOWN, radius=5.0), balls(model, ALSO, OTHER, radius=5.0)
    unfolded = one.plus(two, 1)
    assert one.book.folded == 1  # folded now
    both = one.plus(two, 1)
    assert "book" in both.__dict__ and "book" not in unfolded.__dict__
    assert torch.equal(both.book.centres, unfolded.book.centres)
    assert torch.equal(both.book.radii, unfolded.book.radii)
    # The same question with another answer replaces the first: all is folded anew.
    again = replace(one, labels=("another",))
    members = both.plus(again, 3).book.members
    assert members == replace(both, keys=torch.cat([both.keys, one.keys]),
        radius=torch.cat([both.radius, one.radius]), labels=(*both.labels, "another"),
        choice=(*both.choice, 3)).book.members  # fmt: skip
    assert 0 not in [m[0] for m in members]


# -- storing ------------------------------------------------------------------------------------


@every_change
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = model_of("gpt2")
    delta = MAKERS[name](model)
    loaded = Delta.load(delta.save(tmp_path / "delta"))
    assert loaded.id == delta.id and loaded.changes.keys() == delta.changes.keys()
    with delta.applied(model):
        edited = logits(model)
    with loaded.applied(model):
        assert torch.equal(logits(model), edited)


def test_refusals() -> None:
    model = model_of("gpt2")
    with (
        pytest.raises(WrongBaseError, match="no module"),
        Delta({"nowhere@output": Neurons(randn(1, 2), randn(1), randn(2, 1))}).applied(model),
    ):
        pass
    (memory,) = values(model, KNOWN).acting.values()
    (elsewhere,) = blocks(model, KNOWN).acting.values()
    with pytest.raises(DeltaError, match="cannot be added"):
        memory.plus(elsewhere)  # type: ignore[arg-type]
    with pytest.raises(DeltaError, match="different activations"):
        relu, gelu = (neurons(model, activation=a).acting for a in ("relu", "gelu"))
        next(iter(relu.values())).plus(next(iter(gelu.values())))  # type: ignore[arg-type]
    with pytest.raises(DeltaError, match="cannot be scaled"):
        _ = values(model, KNOWN) * 2.0
    with pytest.raises(DeltaError, match="a label and a choice"):
        Balls("m@input", randn(2, 3), torch.ones(1), ("A", "B"), (0, 1))
