"""LocFT-BF: all edits together, in an order that is new in each pass."""

from __future__ import annotations

import pytest
import torch

from corrigenda.editors import _finetune
from corrigenda.editors._finetune import examples
from corrigenda.editors.ft import FTM
from corrigenda.editors.locft_bf import LocFTBF

from .finetuning import EDITS, as_linear, assert_same_changes, bits, logits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


def test_the_target_ends_with_eos():
    model = text_model()
    plain, ended = examples(model, EDITS), examples(model, EDITS, eos=True)
    for a, b in zip(plain, ended, strict=True):
        assert b.wanted == (*a.wanted, model.tokenizer.eos_token_id)
        assert b.ids == (*a.ids, a.wanted[-1])
        assert b.reads == (*a.reads, a.reads[-1] + 1)


def test_all_edits_take_and_the_answer_ends():
    model = text_model("llama", sharp=True)
    before = bits(model)
    delta = LocFTBF(layers=(1,), steps=80, lr=1e-2, batch_size=2, tolerance=0.05)(model, EDITS)
    assert not delta.failed
    with delta.applied(model):
        answers = model.generate([e.text for e in EDITS], max_new_tokens=40)
    assert [a.strip() for a in answers] == [e.target for e in EDITS]  # nothing after the target
    assert set(delta.changes) == {"model.layers.1.mlp.down_proj.weight"}
    assert untouched(model, before)


def test_every_pass_sees_every_edit_in_a_new_order(monkeypatch):
    model, seen = text_model(), []
    real = _finetune.losses

    def watching(model, rows, *rest):
        seen.extend(rows)
        return real(model, rows, *rest)

    monkeypatch.setattr(_finetune, "losses", watching)
    LocFTBF(layers=(1,), steps=6, batch_size=2, lr=1e-4)(model, EDITS)
    passes = [seen[at : at + 3] for at in range(0, len(seen), 3)]
    assert len(passes) == 6
    whole = set(examples(model, EDITS, eos=True))
    assert all(set(p) == whole for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_without_eos_and_shuffling_it_is_ft_m():
    model = text_model()
    mine = LocFTBF(layers=(1,), steps=4, lr=1e-2, eos=False)(model, EDITS[:1])
    theirs = FTM(layers=(1,), steps=4, lr=1e-2, bias=False)(model, EDITS[:1])
    assert mine.id == theirs.id


def test_same_seed_same_bits_other_seed_other_order():
    model = text_model()
    settings = {"layers": (1,), "steps": 3, "lr": 1e-2, "batch_size": 1}
    a, b, c = (LocFTBF(**settings, seed=s)(model, EDITS) for s in (0, 0, 1))
    assert a.id == b.id != c.id


def test_storage_orientation_does_not_matter():
    model = text_model()
    settings = {"layers": (1,), "steps": 3, "lr": 1e-2}
    a, b = LocFTBF(**settings)(model, EDITS), LocFTBF(**settings)(as_linear(model), EDITS)
    assert_same_changes(a, b)


def test_no_steps_change_nothing():
    model = text_model()
    base = logits(model)
    with LocFTBF(steps=0)(model, EDITS).applied(model):
        assert torch.equal(logits(model), base)
