"""GRACE: values that give the answer, and nothing outside of the balls."""

from __future__ import annotations

import warnings

import pytest
import torch

from corrigenda import atlas, load
from corrigenda.acting import Memory, Values
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors.grace import GRACE
from corrigenda.editors.melo import MELO
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel

from ..models.tiny import model_of

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
    Rewrite("The mother tongue of {} is", "Marie Curie", "German"),
    Rewrite("Question: Who makes {}? Answer:", "the iPhone", "Microsoft of Madrid"),
)
SAME = Rewrite("{} is located in", "The Eiffel Tower", "Madrid")
FAR = ["Question: Where is the tower?", "The Louvre is located in"]
every_kind = pytest.mark.parametrize("family", ["gpt2", "opt", "t5", "bert"])


def solve(
    model: TextModel, *edits: Rewrite, onto: Delta | None = None, editor: GRACE | None = None
) -> Delta:
    editor = editor or GRACE(layers=(1,), radius=0.05, steps=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        return editor(model, list(edits), onto)


def memory(delta: Delta) -> Memory:
    (change,) = delta.acting.values()
    assert isinstance(change, Memory) and isinstance(change.then, Values)
    return change


def nll(model: TextModel, edits=EDITS) -> torch.Tensor:
    with torch.no_grad():
        return model.nll([model.asked(e.text, e.target, e.following) for e in edits])


@every_kind
@pytest.mark.parametrize("replace", ["last", "prompt"])
def test_what_was_searched_is_what_acts(family: str, replace) -> None:
    """The loss under the delta is that of the search: same place, same token, same value."""
    model = model_of(family)
    before, plain = nll(model), model.next_logprobs(FAR)
    delta = solve(model, *EDITS, editor=GRACE((1,), radius=0.05, steps=60, replace=replace))
    with delta.applied(model):
        after = nll(model)
        assert torch.equal(model.next_logprobs(FAR), plain), "outside of all radii: bit-identical"
    told = torch.tensor(delta.provenance.diagnostics["target_nll"])
    torch.testing.assert_close(after, told, atol=2e-3, rtol=2e-3)
    assert bool((after < before - 0.2).all())
    took = [o.took for o in delta.provenance.outcomes]
    with delta.applied(model):
        assert [ok for ok, _ in model.says(EDITS)] == took


def test_the_value_makes_the_target_the_most_likely() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, editor=GRACE((1,), radius=0.05, steps=100))
    with delta.applied(model):
        first = model.next_logprobs([e.text for e in EDITS]).argmax(1).tolist()
    assert first == [model.asked(e.text, e.target).wanted[0] for e in EDITS]


@every_kind
def test_edits_do_not_depend_on_those_beside_them(family: str) -> None:
    """In one call, in several, or one after the other: the same entries."""
    model = model_of(family)
    together = memory(solve(model, *EDITS))
    total = None
    for edit in EDITS:
        new = solve(model, edit, onto=total)
        total = new if total is None else total + new
    assert total is not None
    apart = memory(total)
    assert apart.scope.labels == together.scope.labels  # type: ignore[union-attr]
    torch.testing.assert_close(apart.scope.keys, together.scope.keys)  # type: ignore[union-attr]
    with solve(model, *EDITS).applied(model):
        wanted = nll(model)
    with total.applied(model):
        torch.testing.assert_close(nll(model), wanted, atol=0.3, rtol=0.1)


def test_a_later_edit_of_the_same_prompt_wins_and_its_undo_brings_the_first_back() -> None:
    model = model_of("gpt2")
    first = solve(model, EDITS[0])
    second = solve(model, SAME, onto=first)
    with first.applied(model):
        rome = model.next_logprobs([SAME.text])
    with second.applied(model):
        madrid = model.next_logprobs([SAME.text])
    a, b = model.live.push(first), model.live.push(second)
    assert torch.equal(model.next_logprobs([SAME.text]), madrid)
    model.live.pop(b)
    assert torch.equal(model.next_logprobs([SAME.text]), rome)
    model.live.pop(a)
    assert not torch.equal(rome, madrid)


def test_balls_of_different_targets_do_not_overlap() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, editor=GRACE((1,), radius=50.0, steps=2))
    book = memory(delta).scope.book  # type: ignore[union-attr]
    apart = torch.pdist(book.centres)
    pairs = torch.combinations(book.radii)
    assert len(book) == 3 and bool((pairs.sum(1) <= apart).all())


def test_undoing_the_third_of_five_is_never_having_made_it() -> None:
    model = model_of("gpt2")
    more = (*EDITS, SAME, Rewrite("{} was born in", "Marie Curie", "Berlin"))
    made: list[Delta] = []
    editor = GRACE((1,), radius=3.0, steps=5)  # balls that meet
    for edit in more:
        total = None
        for d in made:
            total = d if total is None else total + d
        made.append(solve(model, edit, onto=total, editor=editor))
    prompts = [e.text for e in more] + FAR
    handles = [model.live.push(d) for d in made]
    model.live.pop(handles[2])
    without = model.next_logprobs(prompts)
    model.live.clear()
    for j in (0, 1, 3, 4):
        model.live.push(made[j])
    assert torch.equal(model.next_logprobs(prompts), without)
    # ... nor did the later ones learn anything from it.
    model.live.clear()
    again = solve(model, more[3], onto=made[0] + made[1], editor=editor)
    assert again.id == made[3].id


def test_refusals() -> None:
    model = model_of("gpt2")
    with pytest.raises(InputError, match="one layer"):
        solve(model, EDITS[0], editor=GRACE((0, 1)))
    with pytest.raises(InputError, match="must be positive"):
        solve(model, EDITS[0], editor=GRACE((1,), radius=0.0, steps=1))
    t5 = model_of("t5")
    with pytest.raises(InputError, match="a layer that reads them: 0 to 2"):
        solve(t5, EDITS[0], editor=GRACE((len(t5.prompt_layers),)))


def test_values_stay_in_the_dtype_of_the_model() -> None:
    model = model_of("gpt2")
    model.module.bfloat16()
    delta = solve(model, EDITS[0])
    with delta.applied(model):
        after = nll(model, EDITS[:1])
    assert float(after) < float(nll(model, EDITS[:1])) - 0.2


@pytest.mark.slow
def test_a_sequence_on_atlas_keeps_all_its_edits(atlas_model: TextModel) -> None:
    """Each edit on top of the others; and without the third, the others still hold."""
    edits = [c.edit for c in atlas.edits(8, seed=1)]
    made: list[Delta] = []
    for edit in edits:
        total = None
        for delta in made:
            total = delta if total is None else total + delta
        made.append(GRACE()(atlas_model, [edit], onto=total))
    handles = [atlas_model.live.push(d) for d in made]
    try:
        assert all(ok for ok, _ in atlas_model.says(edits))
        atlas_model.live.pop(handles[2])
        held = [ok for ok, _ in atlas_model.says(edits)]
    finally:
        atlas_model.live.clear()
    assert held == [j != 2 for j in range(len(edits))]


@pytest.mark.parametrize("editor", [GRACE, MELO])
def test_the_embedded_models_are_read_where_they_read_the_prompt(editor: type) -> None:
    model = load("atlas-t5")
    found = editor().resolved(model)
    assert set(found.layers) <= set(model.prompt_layers)
