"""Context distillation: the teacher's view, the student's tokens (methods.md §8.4)."""

from __future__ import annotations

import pytest
import torch

from corrigenda.editors._finetune import read_logits
from corrigenda.editors.context_distillation import ContextDistillation, Lesson, _divergence

from .finetuning import EDITS, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

FAST = {"steps": 4, "lr": 1e-3, "sentences": 2, "length": 6}


def editor(**more: object) -> ContextDistillation:
    return ContextDistillation(**{**FAST, **more})  # type: ignore[arg-type]


def divergence(model, method: ContextDistillation, lessons: list[Lesson]) -> float:
    with torch.no_grad():
        logits, owner = read_logits(model, [lesson.student for lesson in lessons])
    return float(_divergence(lessons, logits / method.temperature, owner).mean())


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_teacher_reads_the_same_tokens_with_the_definition(family):
    model = text_model(family)
    method = editor().resolved(model)
    lessons = method.lessons(model, EDITS)  # type: ignore[attr-defined]
    assert len(lessons) == 2 * len(EDITS)
    for j, lesson in enumerate(lessons):
        edit, row = EDITS[j // 2], lesson.student
        opening = edit.subject if j % 2 == 0 else edit.text
        text = model.tokenizer.decode(row.ids[: row.reads[0] + 1], skip_special_tokens=True)
        assert text.strip() == opening and edit.subject in text
        # The plain way: context and continuation in one row, read from the right.
        context = model.ids(f"{edit.statement}.\n{opening}")
        ids = torch.tensor([[*context, *row.wanted[:-1]]])
        with torch.no_grad():
            logits = model.module(ids).logits[0, -len(row.wanted) :].float()
        expected = (logits / 2.0).log_softmax(-1)
        torch.testing.assert_close(lesson.teacher, expected, rtol=1e-4, atol=1e-4)


def test_without_a_definition_there_is_nothing_to_learn():
    model = text_model()
    delta = editor(context="")(model, EDITS)
    assert delta.provenance.diagnostics["loss"] == [0.0]
    assert not any(c.matrix().any() for c in delta.weights.values())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_comes_closer_to_the_teacher_on_text_it_was_not_trained_on(family):
    model = text_model(family)
    method = editor(steps=10, sentences=6).resolved(model)
    held_out = editor(seed=7, sentences=4).resolved(model).lessons(model, EDITS)  # type: ignore
    before = divergence(model, method, held_out)  # type: ignore[arg-type]
    delta = method(model, EDITS)
    loss = delta.provenance.diagnostics["loss"]
    assert loss[-1] < 0.8 * loss[0]
    with delta.applied(model):
        assert divergence(model, method, held_out) < before  # type: ignore[arg-type]


def test_the_loss_is_kl_times_the_squared_temperature():
    model = text_model()
    method = editor(steps=1, batch_size=8).resolved(model)
    lessons = method.lessons(model, EDITS)  # type: ignore[attr-defined]
    loss = method(model, EDITS).provenance.diagnostics["loss"][0]
    assert loss == pytest.approx(4 * divergence(model, method, lessons), rel=1e-3)  # type: ignore


def test_a_continuation_ends_at_the_end_of_text():
    model = text_model()
    with torch.no_grad():
        model.head.weight[model.tokenizer.eos_token_id] *= 30
    found = editor(length=8).resolved(model)._sampled(model, [model.ids("Rome")] * 4)  # type: ignore
    eos = model.tokenizer.eos_token_id
    assert all(row.count(eos) <= 1 and (eos not in row or row[-1] == eos) for row in found)
