"""CrispEdit: steps in flat directions, and a state that adds up (methods.md §4.14)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corrigenda.delta import Delta
from corrigenda.editors._finetune import examples, losses, read_logits, text_examples
from corrigenda.editors._gradients import gradient_factors
from corrigenda.editors.crispedit import CrispEdit
from corrigenda.editors.locft_bf import LocFTBF
from corrigenda.errors import DataError
from corrigenda.models.text import TextModel
from corrigenda.numerics.kfac import flat_directions

from ..models.tiny import some_text
from .finetuning import EDITS, as_linear, assert_same_changes, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(2000, seed=3), encoding="utf-8")
    return str(path)


def crisp(text: str, **more: object) -> CrispEdit:
    settings = {"layers": (1,), "steps": 4, "lr": 1e-2, "tolerance": 0.0, "batch_size": 2}
    return CrispEdit(statistics=text, **{**settings, **more})  # type: ignore[arg-type]


def name_of(model: TextModel) -> str:
    return model.site("down", 1).parameter


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_factors_make_the_gradient(family):
    """Σ_t g_t x_tᵀ over all tokens is what autograd finds for the weight."""
    model = text_model(family)
    rows = examples(model, EDITS)
    site = model.site("down", 1)
    with model.frozen():
        found = gradient_factors(model, [site], rows, tokens="all")[site]
        weight = model.module.get_parameter(site.parameter).requires_grad_(True)
        sizes = torch.tensor([len(row.wanted) for row in rows])
        (gradient,) = torch.autograd.grad((losses(model, rows) * sizes).sum(), weight)
    expected = gradient.T if site.transposed else gradient
    torch.testing.assert_close(found.gradients.T @ found.inputs, expected, rtol=1e-4, atol=1e-5)
    assert sum(len(row.ids) for row in rows) == len(found.inputs)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_change_stays_in_flat_directions(family, text):
    """P(Δ) = Δ although Adam rescales the gradient entry by entry, and its curvature is small."""
    model, editor = text_model(family), crisp(text, energy=0.5)
    change = editor(model, EDITS).weights[name_of(model)].matrix().double()
    with model.frozen():
        ((a, b),) = editor.curvature(model, [model.site("down", 1)]).values()
    flat = flat_directions(a.mean, b.mean, energy=0.5)
    assert float(change.norm()) > 0 and 0 < flat.share < 1
    torch.testing.assert_close(flat.project(change), change, rtol=0, atol=1e-6)
    curvature = float((change * (b.mean @ change @ a.mean)).sum())
    assert curvature <= flat.threshold * float(change.square().sum()) * (1 + 1e-6)


def test_more_energy_disturbs_ordinary_text_less(text):
    model = text_model(sharp=True)
    with torch.no_grad():
        rows = text_examples(model, text, 4)
        before = read_logits(model, rows)[0].log_softmax(-1)

    def moved(energy: float) -> float:
        delta = crisp(text, energy=energy, steps=20)(model, EDITS)
        with torch.no_grad(), delta.applied(model):
            now = read_logits(model, rows)[0].log_softmax(-1)
        return float((before.exp() * (before - now)).sum(-1).mean())

    assert moved(0.9) < 0.5 * moved(0.0)


def test_energy_zero_is_plain_fine_tuning(text):
    model = text_model()
    plain = LocFTBF(layers=(1,), steps=4, lr=1e-2, tolerance=0.0, batch_size=2, eos=False)
    assert_same_changes(crisp(text, energy=0.0)(model, EDITS), plain(model, EDITS))


def test_the_edits_are_learned_in_flat_directions(text):
    model = text_model(sharp=True)
    delta = crisp(text, energy=0.3, steps=80, tolerance=0.05)(model, EDITS)
    with delta.applied(model):
        assert all(s.correct.all() for s in model.score([(e.text, e.target) for e in EDITS]))


def test_storage_does_not_matter(text):
    model = text_model("gpt2")
    assert_same_changes(
        crisp(text, energy=0.3)(model, EDITS), crisp(text, energy=0.3)(as_linear(model), EDITS)
    )


def test_states_add_up_and_protect_earlier_edits(text):
    model, editor = text_model(), crisp(text, energy=0.5)
    first, second = editor(model, EDITS[:1]), editor(model, EDITS[1:2])
    both = first + second
    stem = name_of(model)
    for kind in ("inputs", "gradients", "count"):
        name = f"{stem}/{kind}/keys"
        k, parts = both.state[name].double(), [d.state[name].double() for d in (first, second)]
        torch.testing.assert_close(k @ k.T, sum(p @ p.T for p in parts), rtol=1e-4, atol=1e-5)
    tokens = sum(len(row.ids) for row in examples(model, EDITS[:2]))
    assert float(both.state[f"{stem}/count/keys"].square().sum()) == pytest.approx(tokens)

    alone = editor(model, EDITS[2:])
    forgetful = Delta(both.changes, both.transposed, both.base)
    after = editor(model, EDITS[2:], onto=both).weights[stem].matrix()
    assert not torch.equal(after, editor(model, EDITS[2:], onto=forgetful).weights[stem].matrix())
    assert not torch.equal(after, alone.weights[stem].matrix())
    # Each delta holds its own tokens alone, so undoing the first takes them out of the sum.
    own = sum(len(row.ids) for row in examples(model, EDITS[1:2]))
    assert float(second.state[f"{stem}/count/keys"].square().sum()) == pytest.approx(own)


def test_no_text_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a", encoding="utf-8")
    with pytest.raises(DataError, match="two tokens"):
        crisp(str(path))(text_model("gpt2"), EDITS)
