"""DINM: the most telling block, held to ordinary text (methods.md §5.4)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corrigenda.edit import Contrast
from corrigenda.editors._finetune import dense_changes, read_logits, text_examples
from corrigenda.editors.dinm import DINM, layer_distances, moved
from corrigenda.errors import EditError

from ..models.tiny import some_text
from .finetuning import bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

EDITS = (
    Contrast("I was born in Berlin.", "The tower is made by Apple.", "Question: Where? Answer:"),
    Contrast("No, that is in Rome.", "Windows is in Paris.", "Who is Einstein? He"),
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(600, seed=3), encoding="utf-8")
    return str(path)


def test_the_constraint_receives_a_gradient(text):
    model = text_model()
    site = model.site("down", 1)
    with model.frozen():
        held = text_examples(model, text, 2)
        with torch.no_grad():
            before = read_logits(model, held)[0].log_softmax(-1)
        with dense_changes(model, [site], bias=False) as free:
            (change,) = free.values()
            assert float(moved(model, held, before).detach()) == pytest.approx(0.0, abs=1e-5)
            with torch.no_grad():
                change.add_(0.05 * torch.randn(change.shape, generator=torch.Generator()))
            now = moved(model, held, before)
            (gradient,) = torch.autograd.grad(now, change)
    assert float(now.detach()) > 0 and float(gradient.norm()) > 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_block_is_the_one_that_tells_most(family, text):
    """Padding does not enter the distances: edits together are the sum of edits alone."""
    model = text_model(family)
    with model.frozen():
        distances = layer_distances(model, EDITS)
        alone = sum(layer_distances(model, [edit]) for edit in EDITS)
        same = layer_distances(model, [Contrast("Rome is", "Rome  is", "It")])
    torch.testing.assert_close(distances, alone)
    assert distances.shape == (model.n_layers,) and float(distances.min()) > 0
    assert same.shape == distances.shape
    before = bits(model)
    delta = DINM(statistics=text, steps=2)(model, EDITS)
    assert untouched(model, before)
    assert set(delta.changes) == {model.site("down", int(distances.argmax())).parameter}


def test_a_given_layer_is_changed(text):
    model = text_model()
    delta = DINM(layers=(0,), statistics=text, steps=2)(model, EDITS)
    assert set(delta.changes) == {model.site("down", 0).parameter}


def test_safe_answers_become_likelier_than_unsafe_ones(text):
    model = text_model(sharp=True)
    delta = DINM(statistics=text, steps=30, lr=5e-3, weight=1.0)(model, EDITS)
    assert not delta.failed

    def lead() -> float:
        safe = model.score([(e.prompt, e.positive) for e in EDITS])
        unsafe = model.score([(e.prompt, e.negative) for e in EDITS])
        return sum(a.mean - b.mean for a, b in zip(safe, unsafe, strict=True))

    before = lead()
    with delta.applied(model):
        assert lead() > before


def test_the_constraint_keeps_ordinary_text(text):
    model = text_model(sharp=True)
    with torch.no_grad():
        held = text_examples(model, text, 2)
        before = read_logits(model, held)[0].log_softmax(-1)

    def distance(texts: int) -> float:
        delta = DINM(statistics=text, texts=texts, steps=20, lr=5e-3)(model, EDITS)
        with torch.no_grad(), delta.applied(model):
            return float(moved(model, held, before))

    assert distance(8) < 0.5 * distance(0)


def test_an_answer_with_nothing_before_it():
    model = text_model("gpt2")
    delta = DINM(texts=0, steps=2)(model, [Contrast("Rome is the capital", "Paris is")])
    assert delta, "its first token is not trained, the others are"
    single = next(w for w in ("is", "a", "I") if len(model.ids(w)) == 1)
    with pytest.raises(EditError, match="one token with nothing before"):
        DINM(texts=0)(model, [Contrast(single, "Paris")])
