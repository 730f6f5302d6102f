"""The value search and the locate-then-edit updates: methods.md §3, §4.1-4.5, §4.8."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from corrigenda.delta import Delta, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors import EMMET, MEMIT, ROME, AlphaEdit
from corrigenda.editors._keyvalue import find_values, mean_keys, search_values
from corrigenda.errors import EditError, InputError, UnstableEditError
from corrigenda.models.hooks import captured, replaced_output
from corrigenda.models.moments import second_moments
from corrigenda.models.text import TextModel
from corrigenda.models.tokens import pieces, subject_last

from ..models.tiny import CAUSAL, some_text, tiny

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
OTHER = Rewrite("The capital of {} is", "France", "Berlin")
CONTEXTS = ("", "The Louvre is", "Rome is the capital")
SEARCH = {
    "steps": 12,
    "lr": 0.3,
    "clamp": 4.0,
    "weight_decay": 0.1,
    "kl_factor": 0.0625,
    "tolerance": 0.05,
}

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


def model_of(family: str = "gpt2", seed: int = 0) -> TextModel:
    module, tokenizer = tiny(family, seed)
    return TextModel(module, tokenizer, family)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(900, seed=3), encoding="utf-8")
    return str(path)


# -- §3, the value search -----------------------------------------------------------------------


def plain_nll(model: TextModel, edit: Rewrite, layer: int, delta: torch.Tensor) -> float:
    cut = pieces(model.tokenizer, edit.text, edit.target)
    lookup = subject_last(model.tokenizer, edit.text, edit.subject_span)

    def add(hidden: torch.Tensor) -> torch.Tensor:
        changed = hidden.reshape(1, len(cut.ids), -1).clone()
        changed[:, lookup] += delta
        return changed.reshape(hidden.shape)

    with torch.no_grad(), replaced_output(model.mlp(layer), add):
        logits = model.forward(model.batch([list(cut.ids)])).logits[0].float()
    reads = torch.arange(cut.start - 1, len(cut.ids) - 1)
    return float(-logits[reads].log_softmax(-1)[range(len(reads)), list(cut.target)].mean())


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gptj"])
def test_the_search_lowers_the_nll_of_the_target(family: str) -> None:
    model = model_of(family)
    with model.frozen():
        found = find_values(model, [EDIT, OTHER], CONTEXTS, layer=1, site="mlp", **SEARCH)
    zero = torch.zeros(model.width)
    for j, edit in enumerate((EDIT, OTHER)):
        assert plain_nll(model, edit, 1, found.delta[j]) < plain_nll(model, edit, 1, zero)
    share = found.delta.norm(dim=1) / found.initial.norm(dim=1)
    assert float(share.max()) <= 4.0 * (1 + 1e-5)
    assert all(p.grad is None for p in model.module.parameters())


def test_one_step_returns_the_initial_value() -> None:
    model = model_of()
    with model.frozen():
        found = find_values(model, [EDIT], CONTEXTS, layer=1, site="mlp", **{**SEARCH, "steps": 1})
    assert torch.equal(found.target, found.initial)
    lookup = subject_last(model.tokenizer, EDIT.text, EDIT.subject_span)
    with torch.no_grad(), captured({"v": (model.mlp(1), "output")}) as seen:
        model.forward(model.batch([model.ids(EDIT.text)]))
    torch.testing.assert_close(found.initial[0], seen["v"][0, lookup], atol=1e-5, rtol=1e-5)


def test_enough_steps_make_the_target_the_argmax() -> None:
    model = model_of("gpt2")
    # On a random model only the token before the target has enough influence on it.
    edit = Rewrite("I saw {}", "The Eiffel Tower", "is")
    assert len(pieces(model.tokenizer, edit.text, edit.target).target) == 1
    search = {**SEARCH, "steps": 100, "clamp": 60.0, "weight_decay": 0.0, "tolerance": -1.0}
    with model.frozen():
        found = find_values(model, [edit], ("",), layer=2, site="mlp", stop="answer", **search)
        assert bool(found.converged[0]) and 2 <= int(found.steps[0]) < 100
        lookup = len(model.ids(edit.text)) - 1

        def add(hidden: torch.Tensor) -> torch.Tensor:
            mark = torch.zeros(hidden.shape[1], 1)
            mark[lookup] = 1
            return hidden + mark * found.delta[0]

        with replaced_output(model.mlp(2), add):
            assert model.score([(edit.text, edit.target)])[0].correct.all()
        assert not model.score([(edit.text, edit.target)])[0].correct.all()


def test_facts_do_not_see_each_other_in_a_batch() -> None:
    model = model_of("llama")
    with model.frozen():
        both = find_values(model, [EDIT, OTHER], CONTEXTS, layer=1, site="block", **SEARCH)
        alone = find_values(model, [OTHER], CONTEXTS, layer=1, site="block", **SEARCH)
    torch.testing.assert_close(both.delta[1], alone.delta[0], atol=1e-4, rtol=1e-3)


def test_leaving_the_batch_changes_no_result() -> None:
    model = model_of("gpt2")
    search = {**SEARCH, "tolerance": 3.2, "steps": 20}
    with model.frozen():
        leaving = find_values(model, [EDIT, OTHER], CONTEXTS, layer=0, site="mlp", **search)
        staying = find_values(
            model, [EDIT, OTHER], CONTEXTS, layer=0, site="mlp", **search, leave=False
        )
    first = int(leaving.steps.argmin())
    assert int(leaving.steps[first]) <= int(staying.steps[first])
    late = 1 - first
    torch.testing.assert_close(leaving.delta[late], staying.delta[late], atol=1e-4, rtol=1e-3)


# -- §4.1-4.2, ROME -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", CAUSAL)
def test_rome_sends_the_key_to_the_value(family: str, text: str) -> None:
    """(W + Δ) k̄ = W k̄ + δ, rank 1, whatever the storage."""
    model = model_of(family)
    editor = ROME(layers=(1,), steps=4, clamp=0.5, prefixes=((2, 3),), statistics=text, tokens=400)
    delta = editor(model, [EDIT])
    (change,) = delta.weights.values()
    assert change.rank == 1  # type: ignore[union-attr]
    site = model.site("down", 1)
    contexts = tuple(delta.provenance.diagnostics["contexts"])
    key = mean_keys(model, [EDIT], contexts, site, equal=True)
    with model.frozen():
        found = find_values(
            model,
            [EDIT],
            contexts,
            layer=1,
            site="mlp",
            steps=4,
            lr=0.5,
            clamp=0.5,
            weight_decay=0.5,
            kl_factor=0.0625,
            tolerance=0.05,
        )
    with delta.applied(model):
        moved = model.weight(site).double() @ key
    moved = moved - model.weight(site).double() @ key
    torch.testing.assert_close(moved[:, 0].float(), found.delta[0], atol=2e-4, rtol=2e-3)


def test_original_rome_meets_the_plain_key(text: str) -> None:
    model = model_of()
    base = {
        "layers": (1,),
        "steps": 4,
        "clamp": 0.3,
        "prefixes": ((2, 3),),
        "statistics": text,
        "tokens": 400,
    }
    original, mean = ROME(keys="rome", **base)(model, [EDIT]), ROME(**base)(model, [EDIT])
    site = model.site("down", 1)
    plain = mean_keys(model, [EDIT], ("",), site, equal=True)
    (a,), (b,) = original.weights.values(), mean.weights.values()
    assert isinstance(a, LowRank) and isinstance(b, LowRank)
    torch.testing.assert_close(a.matrix().double() @ plain, a.u.double(), atol=1e-4, rtol=1e-3)
    cosine = torch.nn.functional.cosine_similarity(a.v, b.v)
    assert float(cosine) > 0.999, "both directions are C⁻¹k̄"
    # So the changes differ in size alone: by k₀ᵀu / k̄ᵀu, which R-ROME keeps from coming near zero.
    mean_key = mean_keys(model, [EDIT], _contexts(mean), site, equal=True)
    direction = b.v.double()
    expected = float((direction @ mean_key).abs() / (direction @ plain).abs())
    assert a.norm() / b.norm() == pytest.approx(expected, rel=1e-3)


def _contexts(delta: Delta) -> tuple[str, ...]:
    return tuple(delta.provenance.diagnostics["contexts"])


def test_rome_with_plain_keys_meets_the_plain_key(text: str) -> None:
    model = model_of()
    editor = ROME(keys="plain", layers=(1,), steps=4, clamp=0.3, statistics=text, tokens=400)
    (change,) = editor(model, [EDIT]).weights.values()
    plain = mean_keys(model, [EDIT], ("",), model.site("down", 1), equal=True)
    assert isinstance(change, LowRank)
    product = change.v.double() @ plain
    torch.testing.assert_close(product, torch.ones_like(product), atol=1e-4, rtol=1e-4)


def test_several_rome_edits_are_solved_one_after_another(text: str) -> None:
    model = model_of()
    editor = ROME(layers=(1,), steps=3, clamp=0.5, prefixes=(), statistics=text, tokens=400)
    together = editor(model, [EDIT, OTHER])
    first = editor(model, [EDIT])
    second = editor(model, [OTHER], onto=first)
    name = model.site("down", 1).parameter
    expected = (first + second).weights[name].matrix()
    torch.testing.assert_close(together.weights[name].matrix(), expected, atol=1e-6, rtol=1e-4)


def test_a_change_as_large_as_the_weights_is_refused(text: str) -> None:
    with pytest.raises(UnstableEditError, match="limit"):
        ROME(
            layers=(0,),
            steps=10,
            clamp=1e4,
            lr=100.0,
            weight_decay=0.0,
            statistics=text,
            tokens=400,
            tolerance=0.0,
        )(model_of(), [EDIT])


# -- §4.3 and §4.5, MEMIT and EMMET -------------------------------------------------------------


def test_memit_brings_the_hidden_states_nearer_layer_by_layer(text: str) -> None:
    model = model_of("llama")
    editor = MEMIT(
        layers=(0, 1), steps=8, weight=1.0, prefixes=((2, 3),), statistics=text, tokens=400
    )
    residuals = editor(model, [EDIT, OTHER]).provenance.diagnostics["residuals"]
    assert len(residuals) == 3 and residuals[0] > residuals[1] > residuals[2]


def test_memit_does_not_depend_on_the_order_of_facts(text: str) -> None:
    model = model_of()
    editor = MEMIT(
        layers=(1,), steps=4, weight=5.0, prefixes=(), statistics=text, tokens=400, max_norm=9.0
    )
    ab, ba = editor(model, [EDIT, OTHER]), editor(model, [OTHER, EDIT])
    for name, change in ab.weights.items():
        torch.testing.assert_close(change.matrix(), ba.weights[name].matrix(), atol=1e-5, rtol=1e-3)


def test_one_fact_one_layer_without_ridge_is_rome(text: str) -> None:
    """MEMIT with λ -> 0 on one layer, and EMMET with one fact, are ROME with the plain key."""
    model = model_of()
    shared = {
        "layers": (1,),
        "steps": 4,
        "lr": 0.5,
        "clamp": 0.75,
        "weight_decay": 0.5,
        "kl_factor": 0.0625,
        "prefixes": (),
        "statistics": text,
        "tokens": 400,
    }
    rome = ROME(**shared)(model, [EDIT])
    emmet = EMMET(**shared)(model, [EDIT])
    (name,) = rome.weights
    torch.testing.assert_close(
        emmet.weights[name].matrix(), rome.weights[name].matrix(), atol=1e-6, rtol=1e-4
    )
    # MEMIT clamps against the block's output, so the searches agree where no clamp is met.
    free = {**shared, "max_norm": 1e9, "clamp": 1e6, "weight_decay": 0.0, "kl_factor": 0.0}
    rome, memit = ROME(**free)(model, [EDIT]), MEMIT(weight=1e-9, **free)(model, [EDIT])
    torch.testing.assert_close(
        memit.weights[name].matrix(), rome.weights[name].matrix(), atol=1e-4, rtol=1e-2
    )


def test_damped_emmet_is_memits_ridge_at_the_mlp(text: str) -> None:
    model = model_of()
    shared = {
        "layers": (1,),
        "steps": 3,
        "lr": 0.5,
        "clamp": 1e6,
        "weight_decay": 0.0,
        "kl_factor": 0.0,
        "prefixes": (),
        "statistics": text,
        "tokens": 400,
        "max_norm": 1e9,
    }
    emmet = EMMET(damping=0.2, weight=10.0, **shared)(model, [EDIT, OTHER])
    memit = MEMIT(weight=2.0, **shared)(model, [EDIT, OTHER])
    (name,) = emmet.weights
    torch.testing.assert_close(
        emmet.weights[name].matrix(), memit.weights[name].matrix(), atol=1e-4, rtol=1e-2
    )


def test_emmet_refuses_two_edits_with_one_key(text: str) -> None:
    again = Rewrite(EDIT.prompt, EDIT.subject, "Berlin")
    editor = EMMET(
        damping=0.0, layers=(1,), steps=2, clamp=0.5, prefixes=(), statistics=text, tokens=400
    )
    with pytest.raises(EditError, match="linearly dependent"):
        editor(model_of(), [EDIT, again])


def test_a_norm_after_the_mlp_allows_one_layer(text: str) -> None:
    model = model_of("gemma2")
    with pytest.raises(InputError, match="norm after each MLP"):
        MEMIT(layers=(0, 1), statistics=text, tokens=400)(model, [EDIT])
    delta = MEMIT(layers=(1,), steps=8, weight=1.0, clamp=2.0, statistics=text, tokens=400)(
        model, [EDIT]
    )
    before, after = delta.provenance.diagnostics["residuals"]
    assert after < before, "the residual before the norm is what is written"


@pytest.mark.parametrize("editor", [ROME, MEMIT])
def test_storage_orientation_does_not_matter(editor: type, text: str) -> None:
    """A copy of the model with Linear in place of Conv1D gets the same Δ."""
    from transformers.pytorch_utils import Conv1D

    model, twin = model_of("gpt2"), model_of("gpt2")
    for block in twin.blocks:
        conv = block.mlp.c_proj  # type: ignore[union-attr]
        assert isinstance(conv, Conv1D)
        linear = torch.nn.Linear(conv.weight.shape[0], conv.weight.shape[1])
        linear.weight.data = conv.weight.data.T.contiguous()
        linear.bias.data = conv.bias.data.clone()
        block.mlp.c_proj = linear  # type: ignore[union-attr]
    assert model.site("down", 1).transposed and not twin.site("down", 1).transposed
    make = editor(layers=(1,), steps=4, clamp=0.5, prefixes=(), statistics=text, tokens=400)
    a, b = make(model, [EDIT]), make(twin, [EDIT])
    (name,) = a.weights
    torch.testing.assert_close(
        a.weights[name].matrix(), b.weights[name].matrix(), atol=1e-5, rtol=1e-3
    )


# -- §4.8, AlphaEdit ----------------------------------------------------------------------------


def alphaedit(text: str, **more: object) -> AlphaEdit:
    return AlphaEdit(
        layers=(1,),
        steps=4,
        energy=0.8,
        ridge=1.0,
        prefixes=(),
        statistics=text,
        tokens=400,
        **more,
    )  # type: ignore[arg-type]


def test_alphaedit_leaves_ordinary_keys_alone(text: str) -> None:
    """tr(Δ C Δᵀ) is at most the largest eigenvalue that was kept, times ‖Δ‖²."""
    model = model_of()
    (change,) = alphaedit(text)(model, [EDIT]).weights.values()
    site = model.site("down", 1)
    moment = second_moments(model, [site], source=text, tokens=400).moments[site].mean
    delta = change.matrix().double()
    moved = float(torch.trace(delta @ moment @ delta.T))
    values = torch.linalg.eigvalsh(moment)
    assert moved <= 0.2 * float(values.sum()) * float(delta.square().sum())
    assert moved < 0.2 * float(values[-1]) * float(delta.square().sum())


def test_alphaedit_keeps_its_keys_in_the_delta(text: str) -> None:
    model = model_of()
    name = model.site("down", 1).parameter
    first = alphaedit(text)(model, [EDIT])
    second = alphaedit(text)(model, [OTHER], onto=first)
    size = model.weight(model.site("down", 1)).shape[1]
    assert first.state[f"{name}/keys"].shape == second.state[f"{name}/keys"].shape == (size, 1)
    assert (first + second).state[f"{name}/keys"].shape[1] == 2
    fresh = alphaedit(text)(model, [OTHER])
    with first.applied(model):
        unaware = alphaedit(text)(model, [OTHER])
    moved = lambda d: float((d.weights[name].matrix() @ first.state[f"{name}/keys"]).norm())  # noqa: E731
    assert moved(second) < moved(unaware), "past keys are moved less when they are known"
    assert fresh.id != second.id


def test_an_empty_null_space_says_what_to_do(text: str) -> None:
    editor = AlphaEdit(
        layers=(1,), steps=2, threshold=1e-30, prefixes=(), statistics=text, tokens=400
    )
    with pytest.raises(InputError, match="null space"):
        editor(model_of(), [EDIT])


# -- layers, warnings ---------------------------------------------------------------------------


def test_unknown_models_get_proposed_layers(text: str) -> None:
    model = model_of("llama")
    delta = MEMIT(steps=2, statistics=text, tokens=400)(model, [EDIT])
    assert delta.provenance.arguments["layers"], "the choice is recorded"
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        ROME(layers=(9,), statistics=text, tokens=400)(model, [EDIT])


def test_an_edit_that_did_not_take_is_reported(text: str) -> None:
    model = model_of()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        delta: Delta = ROME(layers=(2,), steps=2, clamp=0.01, statistics=text, tokens=400)(
            model, [EDIT]
        )
    assert [e["target"] for e, _ in delta.failed] == ["Rome"]
    assert any(
        issubclass(w.category, EditWarning) and "did not take" in str(w.message) for w in caught
    )


def test_identity_statistics_are_named_and_warned_about() -> None:
    with pytest.warns(EditWarning, match="identity"):
        delta = ROME(layers=(1,), steps=2, clamp=0.1, statistics="identity")(model_of(), [EDIT])
    assert delta.provenance.statistics["source"] == "identity"


def test_a_corpus_that_is_too_small_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Rome is the capital of Italy.", encoding="utf-8")
    with pytest.raises(InputError, match="at least that many tokens"):
        ROME(layers=(1,), statistics=str(path))(model_of(), [EDIT])


def test_batches_of_like_length_keep_the_order_of_edits() -> None:
    model = model_of("llama")
    long = Rewrite("{} is, as everybody in the city of Rome says,", "The Louvre", "in Paris")
    edits = [long, EDIT, OTHER]
    search = {**SEARCH, "layer": 1, "site": "mlp", "steps": 4}
    with model.frozen():
        found = search_values(model, edits, CONTEXTS, batch_size=2, **search)
        for j, edit in enumerate(edits):
            alone = find_values(model, [edit], CONTEXTS, **search)
            torch.testing.assert_close(found.delta[j], alone.delta[0], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(found.initial[j], alone.initial[0], atol=1e-4, rtol=1e-3)
