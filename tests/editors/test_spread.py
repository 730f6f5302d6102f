"""MEMIT's kin: PMET, NSE, ENCORE, CORE. methods.md §4.4, §4.9, §4.10, §4.16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editors import CORE, ENCORE, MEMIT, NSE, PMET
from corrigenda.editors._keyvalue import Look, Values, find_values, mean_keys
from corrigenda.editors._parts import PartsRun
from corrigenda.editors._spread import held, residual, ridge_writer, spread
from corrigenda.editors.core import disagreement
from corrigenda.editors.nse import most_active
from corrigenda.errors import InputError
from corrigenda.models.hooks import replaced_output
from corrigenda.models.moments import second_moments
from corrigenda.models.suffix import Row, SuffixRun
from corrigenda.models.text import TextModel
from corrigenda.models.tokens import pieces, subject_last
from corrigenda.numerics.solve import Factor, Update, preserving

from ..models.tiny import CAUSAL, some_text, tiny

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
OTHER = Rewrite("The capital of {} is", "France", "Berlin")
CONTEXTS = ("", "The Louvre is", "Rome is the capital")
SEARCH: dict[str, Any] = {
    "layer": 1, "steps": 12, "lr": 0.3, "clamp": 4.0, "weight_decay": 0.1, "kl_factor": 0.0625,
    "tolerance": 0.05,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


def model_of(family: str = "gpt2") -> TextModel:
    return TextModel(*tiny(family), family)


@pytest.fixture
def one(tmp_path: Path) -> dict[str, Any]:
    """Settings of a small edit of one layer, whose keys no edit of that layer can change."""
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(900, seed=3), encoding="utf-8")
    return {
        "layers": (1,), "steps": 4, "prefixes": (), "statistics": str(path), "tokens": 400,
        "weight": 5.0, "max_norm": 1e6,
    }  # fmt: skip


def matrix(delta: Delta) -> torch.Tensor:
    (change,) = delta.weights.values()
    return change.matrix().double()


# -- PMET ---------------------------------------------------------------------------------------


def rows_of(model: TextModel) -> list[Row]:
    rows = []
    for edit in (EDIT, OTHER):
        cut = pieces(model.tokenizer, edit.text, edit.target)
        lookup = subject_last(model.tokenizer, edit.text, edit.subject_span)
        rows.append(Row(cut.ids[:-1], lookup, tuple(range(cut.start - 1, len(cut.ids) - 1))))
    return rows


@pytest.mark.parametrize("family", CAUSAL)
def test_two_parts_act_as_they_do_in_a_whole_forward_pass(family: str) -> None:
    model = model_of(family)
    rows = rows_of(model)
    attention = model.block(1).get_submodule(model.layout.attention)
    with model.frozen(), torch.no_grad():
        run = PartsRun(model, 1, rows)
        delta = 0.5 * torch.randn(2, 2 * model.width, generator=torch.Generator().manual_seed(0))
        got = run.logits(delta, torch.arange(2))
        expected = []
        for row, (to_attention, to_mlp) in zip(rows, delta.view(2, 2, -1), strict=True):

            def plus(out: torch.Tensor, vector: torch.Tensor, at: int = row.lookup) -> torch.Tensor:
                mark = torch.zeros(len(out.view(-1, model.width)), 1)
                mark[at] = 1
                return out + (mark * vector).view_as(out)

            with (
                replaced_output(attention, lambda out, v=to_attention: plus(out, v)),
                replaced_output(model.mlp(1), lambda out, v=to_mlp: plus(out, v)),
            ):
                whole = model.forward(model.batch([row.ids])).logits[0].float()
            expected.append(whole[list(row.reads)])
        torch.testing.assert_close(got, torch.cat(expected), atol=2e-4, rtol=1e-3)

        # Without a part for attention, it is the run at the MLP's output.
        delta[:, : model.width] = 0
        plain = SuffixRun(model, 1, rows, site="mlp")
        torch.testing.assert_close(run.initial[:, model.width :], plain.initial)
        torch.testing.assert_close(
            run.logits(delta, torch.arange(2)),
            plain.logits(delta[:, model.width :], torch.arange(2)),
            atol=2e-4, rtol=1e-3,
        )  # fmt: skip


def test_both_parts_are_found_and_each_is_clamped() -> None:
    model = model_of()
    with model.frozen():
        search = {**SEARCH, "clamp": 0.2}
        found = find_values(model, [EDIT, OTHER], CONTEXTS, site="parts", **search)
        start = find_values(model, [EDIT, OTHER], CONTEXTS, site="parts", **{**search, "steps": 1})
    size = found.delta.view(2, 2, -1).norm(dim=2)
    limit = 0.2 * found.initial.view(2, 2, -1).norm(dim=2)
    assert bool((size > 0).all()) and bool((size <= limit * (1 + 1e-5)).all())
    assert bool((found.nll < start.nll).all())


def test_without_attentions_part_it_is_memit_at_the_mlp(one: dict[str, Any]) -> None:
    """δ_attention = 0, one layer, 1/√1."""

    @dataclass(frozen=True)
    class Fixed(PMET):
        def wanted(
            self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str]
        ) -> Values:
            return self.values(model, edits, contexts, "mlp")

    @dataclass(frozen=True)
    class AtMLP(MEMIT):
        def place(self, model: TextModel) -> Any:
            return "mlp"

    same = {**one, "lr": 0.2, "kl_factor": 1.0, "stop": "loss"}
    model = model_of("llama")
    a, b = Fixed(**same)(model, [EDIT, OTHER]), AtMLP(**same)(model, [EDIT, OTHER])
    assert torch.equal(matrix(a), matrix(b))


def test_pmet_takes_the_root_share_of_what_the_mlp_lacks(one: dict[str, Any]) -> None:
    model = model_of()
    editor = PMET(**{**one, "layers": (0, 1)}).resolved(model)
    asked: list[torch.Tensor] = []
    target = torch.randn(1, model.width, generator=torch.Generator().manual_seed(1))

    def nothing(site: Any, keys: torch.Tensor, residuals: torch.Tensor) -> Update:
        asked.append(residuals)
        return Update(0 * residuals, keys.T, 1.0)

    zero = torch.zeros(1)
    values = Values(target, torch.zeros_like(target), zero, zero, zero)
    with model.frozen():
        editor.spread(model, [EDIT], ("",), values, nothing)  # type: ignore[attr-defined]
        missing = residual(model, [EDIT], 1, target, "mlp")
    torch.testing.assert_close(asked[0], missing / 2**0.5)
    torch.testing.assert_close(asked[1], missing)


def test_the_nll_counts_less_once_the_target_is_the_answer() -> None:
    """So the search goes on to lower the divergence, and ends when that is small."""
    model = model_of()
    edit = Rewrite("I saw {}", "The Eiffel Tower", "is")
    search = {**SEARCH, "layer": 2, "steps": 100, "clamp": 60.0, "weight_decay": 0.0,
              "tolerance": -1.0, "site": "mlp"}  # fmt: skip
    with model.frozen():
        first = find_values(model, [edit], ("",), **search, stop="answer", patience=1)
        calm = find_values(model, [edit], ("",), **{**search, "kl_factor": 1.0}, stop="divergence")
    assert bool(first.converged[0])
    assert int(calm.steps[0]) > int(first.steps[0]), "the KL is not small by then"


# -- NSE ----------------------------------------------------------------------------------------


def test_all_neurons_and_one_pass_are_memit_in_sequence(one: dict[str, Any]) -> None:
    """With the values of the original weights and past keys in what is preserved."""
    model = model_of("llama")
    editor = NSE(passes=1, **one)
    first = editor(model, [EDIT])
    second = editor(model, [OTHER], onto=first)
    site = model.site("down", 1)
    resolved: Any = editor.resolved(model)
    statistics = second_moments(model, [site], source=one["statistics"], tokens=400)
    with model.frozen():
        target = resolved.wanted(model, [OTHER], ("",)).target
        past = {site: mean_keys(model, [EDIT], ("",), site, equal=False)}
        write = ridge_writer(model, statistics, 5.0, past=past)
        with first.applied(model):
            expected = spread(model, [OTHER], ("",), [site], target, write).delta
    torch.testing.assert_close(matrix(second), matrix(expected), atol=1e-6, rtol=1e-4)


def test_a_sequence_gives_the_weights_of_one_batch(one: dict[str, Any]) -> None:
    """Keys of one layer stay, and the values are those of the original weights."""

    @dataclass(frozen=True)
    class Rewound(ENCORE):
        def wanted(
            self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str]
        ) -> Values:
            with model.live.suspended():
                return super().wanted(model, edits, contexts)

    model = model_of()
    for editor in (NSE(passes=1, **one), Rewound(norm_weight=3.0, **one)):
        first = editor(model, [EDIT])
        second = editor(model, [OTHER], onto=first)
        together = editor(model, [EDIT, OTHER])
        torch.testing.assert_close(matrix(first + second), matrix(together), atol=1e-5, rtol=1e-3)
        unaware = editor(model, [OTHER])
        assert not torch.allclose(matrix(first + unaware), matrix(together), atol=1e-4)


def test_most_of_the_factor_is_kept_between_edits() -> None:
    model, made = model_of(), []
    site = model.site("down", 1)
    i = model.weight(site).shape[1]
    past = torch.randn(i, 200, generator=torch.Generator().manual_seed(0)).double()
    right = torch.randn(i, 2, generator=torch.Generator().manual_seed(1)).double()

    def make(keys: torch.Tensor | None) -> Factor:
        made.append(0 if keys is None else keys.shape[1])
        return preserving(torch.eye(i), 1.0, past=keys)

    for p in range(1, 201):
        found = held(model, site, past[:, :p], make, lambda keys: keys)
        if p % 37 == 0:
            direct = preserving(torch.eye(i), 1.0, past=past[:, :p])
            torch.testing.assert_close(found.solve(right), direct.solve(right))
    assert made == [0, 64, 128, 192]
    # Other keys are another factor, whatever their number.
    held(model, site, past[:, 1:], make, lambda keys: keys)
    assert made[-1] == 192 and len(made) == 5


def test_what_is_live_already_is_not_applied_again(one: dict[str, Any]) -> None:
    """A long sequence keeps its edits live, and gives them to the editor all the same."""
    model = model_of()
    editor = ENCORE(**one)
    first = editor(model, [EDIT])
    wanted = editor(model, [OTHER], onto=first)
    with first.applied(model):
        found = editor(model, [OTHER], onto=first)
    assert found.id == wanted.id
    assert found.provenance.onto == wanted.provenance.onto == (first.id,)


@given(st.integers(0, 10_000), st.floats(0.05, 0.99))
def test_the_most_active_neurons_hold_at_most_their_share(seed: int, share: float) -> None:
    keys = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
    chosen = most_active(keys, share)
    mass = keys.abs().sum(1)
    rest = mass[[j for j in range(12) if j not in chosen.tolist()]]
    assert float(mass[chosen].min()) >= float(rest.max())
    held = float(mass[chosen].sum() / mass.sum())
    assert held <= share + 1e-6 or len(chosen) == 1
    assert held + float(rest.max() / mass.sum()) > share - 1e-6, "the run is the longest"
    assert len(most_active(keys, 1.0)) == 12


def test_only_the_chosen_neurons_are_written(one: dict[str, Any]) -> None:
    model = model_of()
    site = model.site("down", 1)
    change = matrix(NSE(share=0.5, passes=1, **one)(model, [EDIT]))
    chosen = most_active(mean_keys(model, [EDIT], ("",), site, equal=False), 0.5)
    written = change.abs().sum(0).nonzero()[:, 0]
    assert written.tolist() == chosen.tolist() and 0 < len(chosen) < change.shape[1]


def test_more_passes_bring_the_values_nearer_and_bounds_are_kept(one: dict[str, Any]) -> None:
    model = model_of()
    once, thrice = (NSE(passes=n, **one)(model, [EDIT, OTHER]) for n in (1, 3))
    left = [d.provenance.diagnostics["residuals"][-1] for d in (once, thrice)]
    assert left[1] < left[0]
    assert not NSE(lower=1e9, **one)(model, [EDIT]), "a fact that is near enough is not written"
    given_up = NSE(upper=1e-9, **one)(model, [EDIT])
    assert not given_up
    assert "Given up" in given_up.provenance.outcomes[0].note


# -- ENCORE -------------------------------------------------------------------------------------


def test_a_large_norm_weight_changes_nothing(one: dict[str, Any]) -> None:
    model = model_of()
    sizes = [
        float(matrix(ENCORE(norm_weight=w, **one)(model, [EDIT])).norm()) for w in (0, 10, 1e9)
    ]
    assert sizes[0] > sizes[1] > 1e3 * sizes[2]


def test_patience_is_how_often_the_target_must_be_the_answer() -> None:
    model = model_of()
    edit = Rewrite("I saw {}", "The Eiffel Tower", "is")
    search = {**SEARCH, "layer": 2, "steps": 100, "clamp": 60.0, "weight_decay": 0.0,
              "tolerance": -1.0, "site": "mlp", "stop": "answer"}  # fmt: skip
    with model.frozen():
        steps = [
            int(find_values(model, [edit], ("",), **search, patience=p).steps[0]) for p in (1, 2, 4)
        ]
        fitted = find_values(model, [edit], ("",), **{**search, "stop": "loss"})
    assert steps == [steps[0], steps[0] + 1, steps[0] + 3] and steps[-1] < int(fitted.steps[0])


# -- CORE ---------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_disagreement_is_the_sum_over_pairs(seed: int, sizes: list[int]) -> None:
    fact = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    hidden = torch.randn(2, len(fact), 5, generator=torch.Generator().manual_seed(seed))
    got = disagreement(Look(torch.zeros(len(sizes), 5), fact, hidden))
    for j in range(len(sizes)):
        mine = hidden[:, fact == j]
        pairs = [
            (mine[:, a] - mine[:, b]).square().sum(1) for a in range(sizes[j]) for b in range(a)
        ]
        expected = torch.stack(pairs).sum(0).mean() / 5 if pairs else torch.tensor(0.0)
        torch.testing.assert_close(got[j], expected, atol=1e-5, rtol=1e-4)


def test_contexts_agree_more_where_that_is_asked() -> None:
    model = model_of()
    last: dict[float, float] = {}
    for weight in (0.0, 3.0):

        def term(look: Look, weight: float = weight) -> torch.Tensor:
            found = disagreement(look)
            last[weight] = float(found.detach().sum())
            return weight * found

        search = {**SEARCH, "layer": 0, "steps": 15, "tolerance": -1.0}
        with model.frozen():
            find_values(model, [EDIT], CONTEXTS, site="block", terms=(term,), **search)
    assert last[3.0] < 0.9 * last[0.0]


def test_core_without_its_term_is_memit(one: dict[str, Any]) -> None:
    model = model_of("llama")
    plain = {**one, "prefixes": ((2, 3),)}
    memit = MEMIT(**plain)(model, [EDIT, OTHER])
    assert CORE(agreement=0.0, **plain)(model, [EDIT, OTHER]).id == memit.id
    assert CORE(agreement=1.0, **plain)(model, [EDIT, OTHER]).id != memit.id


def test_core_needs_a_block_above_the_edited_ones(one: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="last one"):
        CORE(**{**one, "layers": (2,)})(model_of(), [EDIT])
