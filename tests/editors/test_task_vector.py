"""Task vectors: scale, forget, add (methods.md §5.5)."""

from __future__ import annotations

import pytest
import torch

from corrigenda.edit import Rewrite
from corrigenda.editors._finetune import examples, losses
from corrigenda.editors.task_vector import TaskVector
from corrigenda.merging import merge

from .finetuning import EDITS, as_linear, assert_same_changes, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

FAST = {"steps": 4, "lr": 1e-3}


def nll(model, edits, delta=None):
    with torch.no_grad():
        if delta is None:
            return float(losses(model, examples(model, edits)).mean())
        with delta.applied(model):
            return float(losses(model, examples(model, edits)).mean())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_all_linear_maps_of_all_blocks_change(family):
    model = text_model(family)
    delta = TaskVector(**FAST)(model, EDITS)
    roles = model.layout.linears
    sites = [model.site(r, layer).parameter for layer in range(model.n_layers) for r in roles]
    assert set(sites) <= set(delta.changes)
    assert all(
        n.removesuffix(".bias") + ".weight" in sites for n in set(delta.changes) - set(sites)
    )


def test_the_vector_is_linear_in_its_scale():
    model = text_model()
    one = TaskVector(**FAST)(model, EDITS)
    assert_same_changes(TaskVector(**FAST, scale=-0.5)(model, EDITS), -0.5 * one)
    assert not any(
        c.matrix().any() for c in TaskVector(**FAST, scale=0.0)(model, EDITS).weights.values()
    )


def test_adding_learns_and_subtracting_forgets():
    model = text_model(sharp=True)
    plain = nll(model, EDITS)
    learned = TaskVector(steps=40, lr=1e-3)(model, EDITS)
    assert nll(model, EDITS, learned) < 0.1 * plain
    forgot = TaskVector(steps=40, lr=1e-3, scale=-1.0)(model, EDITS)
    assert not forgot.failed, "not to be answered is what was asked for"
    assert nll(model, EDITS, forgot) > plain


def test_forgetting_what_is_still_said_is_a_failure():
    model = text_model(sharp=True)
    (edit,) = edits = [Rewrite("{} was born in", "Marie Curie", "Berlin.")]
    learned = TaskVector(steps=60, lr=1e-3)(model, edits)
    assert not learned.failed
    with learned.applied(model):
        feeble = TaskVector(layers=(0,), steps=1, lr=1e-9, scale=-1e-6)(model, edits)
        firm = TaskVector(steps=40, lr=1e-3, tolerance=0.0, scale=-20.0)(model, edits)
    assert feeble.failed == [(edit.to_dict(), feeble.provenance.outcomes[0])]
    assert not firm.failed


def test_the_vector_plus_its_negative_is_the_identity():
    model = text_model()
    delta = TaskVector(**FAST)(model, EDITS)
    rows = [EDITS[0].text]
    plain = model.next_logprobs(rows)
    with delta.applied(model), (-delta).applied(model):
        torch.testing.assert_close(model.next_logprobs(rows), plain, rtol=1e-5, atol=1e-5)


def test_storage_does_not_matter():
    model = text_model("gpt2")
    assert_same_changes(
        TaskVector(**FAST)(model, EDITS), TaskVector(**FAST)(as_linear(model), EDITS)
    )


@pytest.mark.parametrize("method", ["sum", "ties"])
def test_merged_vectors_serve_both_tasks(method):
    model = text_model(sharp=True)
    parts = [TaskVector(steps=40, lr=1e-3)(model, [edit]) for edit in EDITS[:2]]
    merged = merge(parts, method, density=0.5)
    for edit in EDITS[:2]:
        assert nll(model, [edit], merged) < 0.6 * nll(model, [edit])
