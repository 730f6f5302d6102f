"""UltraEdit: one solve on normalised gradients, and statistics that run on (methods.md §4.13)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corrigenda.delta import LowRank
from corrigenda.editors._finetune import examples, losses
from corrigenda.editors._gradients import gradient_factors
from corrigenda.editors.ultraedit import UltraEdit
from corrigenda.numerics.running import Running

from ..models.tiny import some_text
from .finetuning import EDITS, as_linear, assert_same_changes, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(600, seed=3), encoding="utf-8")
    return str(path)


def ultra(text: str = "auto", **more: object) -> UltraEdit:
    settings = {"layers": (1,), "step": 1e-3, "warmup": 0}
    return UltraEdit(statistics=text, **{**settings, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_change_is_the_closed_form(family):
    """Δᵀ = (XᵀX + I)⁻¹ XᵀV with v_t = -η ‖x̂_t‖² ĝ_t."""
    model = text_model(family)
    site = model.site("down", 1)
    delta = ultra()(model, EDITS)
    with model.frozen():
        f = gradient_factors(model, [site], examples(model, EDITS), tokens="reads")[site]
    features = torch.cat([f.inputs, f.gradients], 1).double()
    normal = (features - features.mean(0)) / (features.std(0) + 1e-8)
    x, g = normal.split([f.inputs.shape[1], f.gradients.shape[1]], 1)
    v = -1e-3 * x.square().sum(1, keepdim=True) * g
    raw = f.inputs.double()
    expected = torch.linalg.solve(raw.T @ raw + torch.eye(raw.shape[1]).double(), raw.T @ v).T
    found = delta.weights[site.parameter].matrix().double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("tokens", ["reads", "all"])
def test_the_loss_falls(family, tokens, text):
    model = text_model(family)
    rows = examples(model, EDITS)
    delta = ultra(text, warmup=8, tokens=tokens)(model, EDITS)
    with torch.no_grad():
        before = losses(model, rows).mean()
        with delta.applied(model):
            assert float(losses(model, rows).mean()) < float(before)


def test_a_step_of_zero_changes_nothing():
    model = text_model()
    (change,) = ultra(step=0.0)(model, EDITS).weights.values()
    assert not change.matrix().any()


def test_batches_of_the_backward_pass_and_storage_do_not_matter():
    model = text_model("gpt2")
    whole = ultra()(model, EDITS)
    assert_same_changes(whole, ultra(batch_size=1)(model, EDITS))
    assert_same_changes(whole, ultra()(as_linear(model), EDITS))


def test_statistics_run_on_from_edit_to_edit():
    model = text_model()
    site = model.site("down", 1)
    editor = ultra(step=0.0)  # the model stays what it is, so the features do too
    total = editor(model, EDITS[:1])
    total = total + editor(model, EDITS[1:], onto=total)
    once = editor(model, EDITS)
    name = f"{site.parameter}/running"
    torch.testing.assert_close(total.state[name], once.state[name], rtol=1e-4, atol=1e-6)
    # What is summed is each edit's own part, so an edit that is left out leaves none.
    alone = editor(model, EDITS[1:])
    torch.testing.assert_close(alone.state[name], editor(model, EDITS[1:]).state[name])
    assert float(alone.state[name][0, 0]) < float(once.state[name][0, 0])


def test_what_is_kept_does_not_grow():
    model, editor = text_model(), ultra()
    total = editor(model, EDITS[:1])
    size = sum(t.numel() for t in total.state.values())
    for edit in EDITS[1:]:
        total = total + editor(model, [edit], onto=total)
    assert sum(t.numel() for t in total.state.values()) == size


def test_a_single_short_answer_needs_the_warm_up(text):
    """Of one token there is no spread, so there is nothing to normalise by."""
    model = text_model()
    from corrigenda.edit import Rewrite

    edit = Rewrite("I saw {}", "The Eiffel Tower", "is")
    assert len(examples(model, [edit])[0].reads) == 1
    name = model.site("down", 1).parameter
    assert not ultra()(model, [edit]).weights[name].matrix().any()
    assert ultra(text, warmup=8)(model, [edit]).weights[name].matrix().any()


def test_several_roles_and_the_smaller_form():
    model = text_model("llama")
    delta = ultra(roles=("up", "gate"), layers=(0, 2))(model, EDITS[:1])
    assert set(delta.changes) == {
        model.site(role, layer).parameter for role in ("up", "gate") for layer in (0, 2)
    }
    n = len(examples(model, EDITS[:1])[0].reads)
    assert all(isinstance(c, LowRank) and c.rank == n for c in delta.weights.values())
    assert Running.zero(3).count == 0
