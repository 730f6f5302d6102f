"""UnKE and AnyEdit: long texts behind one key, or several (methods.md §4.15)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from corrigenda.edit import Rewrite
from corrigenda.editors._unstructured import block_changes, recorded
from corrigenda.editors.anyedit import AnyEdit
from corrigenda.editors.unke import UnKE
from corrigenda.errors import InputError
from corrigenda.models.hooks import captured
from corrigenda.models.tokens import pieces

from ..models.tiny import CAUSAL, some_text
from .finetuning import as_linear, assert_same_changes, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

LONG = (
    Rewrite("Question: What is {}? Answer:", "Big Ben", "The tower is in Rome. Berlin made it."),
    Rewrite("The story of {} is:", "Marie Curie", "Born in Madrid, she worked in Paris. Then Ulm."),
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(600, seed=3), encoding="utf-8")
    return str(path)


def settings(text: str, **more: object) -> dict:
    return {"layers": (1,), "steps": 8, "fit_steps": 8, "statistics": text, **more}


@pytest.mark.parametrize("family", CAUSAL)
def test_a_recorded_block_runs_again_alone(family):
    model = text_model(family)
    rows = [model.ids(e.statement) for e in LONG]
    with model.frozen(), torch.no_grad():
        call = recorded(model, 1, rows)
        with captured({"h": (model.block(1), "output")}) as seen:
            model.forward(model.batch(rows, "right"))
        torch.testing.assert_close(call.run()[call.tokens], seen["h"][call.tokens])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "gemma2"])
def test_a_change_of_the_block_is_what_is_written_later(family, text):
    """The block with Δ beside its parameters computes what it computes with Δ in them."""
    model = text_model(family)
    before = bits(model)
    delta = UnKE(**settings(text))(model, LONG[:1])
    assert untouched(model, before)
    assert set(delta.changes) == {
        n for n, _ in model.module.named_parameters() if n.startswith(f"{model.layout.blocks}.1.")
    }
    ids = [model.ids(LONG[0].statement)]
    with model.frozen(), torch.no_grad():
        call = recorded(model, 1, ids)
        with block_changes(model, 1) as free:
            for name, change in free.items():
                change.data.copy_(delta.stored(name))
            inside = call.run()
        with delta.applied(model):
            torch.testing.assert_close(inside, recorded(model, 1, ids).wanted)
    assert untouched(model, before)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_keys_move_to_their_states_and_other_outputs_stay(family, text):
    model = text_model(family)
    editor = AnyEdit(**settings(text, fit_steps=200, fit_lr=2e-3, piece=5))
    cuts = [pieces(model.tokenizer, e.text, e.target) for e in LONG]
    keys = [editor.keys(cut) for cut in cuts]
    resolved = editor.resolved(model)
    with model.frozen():
        values = resolved.values(model, 1, cuts, keys)
        before = recorded(model, 1, [c.ids[:-1] for c in cuts])
        wanted = before.shifted(keys, values.delta.split([len(k) for k in keys]))
        ordinary = recorded(model, 1, [model.ids(some_text(30, seed=9))])
    delta = editor(model, LONG)
    loss = delta.provenance.diagnostics["fit_loss"]
    assert loss[-1] < 0.1 * loss[0]
    with model.frozen(), torch.no_grad(), delta.applied(model):
        after = recorded(model, 1, [c.ids[:-1] for c in cuts]).wanted
        still = recorded(model, 1, [model.ids(some_text(30, seed=9))]).wanted
    gap = (after - wanted.wanted)[wanted.keys].square().mean()
    distance = (before.wanted - wanted.wanted)[wanted.keys].square().mean()
    assert float(gap) < 0.1 * float(distance)
    rest = before.tokens & ~wanted.keys
    assert float((after - before.wanted)[rest].square().mean()) < 0.05 * float(distance)
    assert float((still - ordinary.wanted).square().mean()) < 0.1 * float(distance)


@pytest.mark.parametrize("editor", [UnKE, AnyEdit])
def test_the_long_answer_becomes_likelier(editor, text):
    model = text_model()
    more = {"piece": 5} if editor is AnyEdit else {}
    delta = editor(**settings(text, steps=25, fit_steps=150, fit_lr=2e-3, **more))(model, LONG)
    pairs = [(e.text, e.target) for e in LONG]
    before = [s.mean for s in model.score(pairs)]
    with delta.applied(model):
        after = [s.mean for s in model.score(pairs)]
    assert all(b > a for a, b in zip(before, after, strict=True))


def test_several_keys_say_more_than_one(text):
    model = text_model()

    def nll(editor) -> float:
        delta = editor(model, LONG)
        with delta.applied(model):
            return -sum(s.mean for s in model.score([(e.text, e.target) for e in LONG]))

    strong = settings(text, steps=25, fit_steps=150, fit_lr=2e-3)
    assert nll(AnyEdit(piece=4, **strong)) < nll(UnKE(**strong))


def test_one_piece_is_unke(text):
    model = text_model()
    assert_same_changes(
        AnyEdit(piece=1000, **settings(text))(model, LONG), UnKE(**settings(text))(model, LONG)
    )


def test_pieces_cover_the_target():
    model = text_model()
    cut = pieces(model.tokenizer, LONG[0].text, LONG[0].target)
    keys = AnyEdit(piece=4).keys(cut)
    assert keys[0] == cut.start - 1 == UnKE().keys(cut)[0]
    assert all(b - a == 4 for a, b in pairwise(keys))
    assert 1 <= len(cut.ids) - 1 - keys[-1] <= 4
    with pytest.raises(InputError, match="piece"):
        AnyEdit(piece=0).keys(cut)


def test_storage_and_batches_do_not_matter(text):
    model = text_model("gpt2")
    whole = UnKE(**settings(text))(model, LONG)
    assert_same_changes(whole, UnKE(**settings(text))(as_linear(model), LONG))


def test_one_block_is_asked_for(text):
    with pytest.raises(InputError, match="one block"):
        UnKE(**settings(text, layers=(0, 1)))(text_model(), LONG)
