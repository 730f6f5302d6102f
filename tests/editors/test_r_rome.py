"""R-ROME: one key everywhere. methods.md §4.2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corrigenda.delta import LowRank
from corrigenda.edit import Rewrite
from corrigenda.editors import ROME, RROME
from corrigenda.editors._keyvalue import mean_keys
from corrigenda.models.text import TextModel

from ..models.tiny import some_text, tiny

EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


@pytest.fixture
def model() -> TextModel:
    return TextModel(*tiny("gpt2"), "gpt2")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "corpus.txt"
    path.write_text(some_text(900, seed=3), encoding="utf-8")
    return {
        "layers": (1,), "steps": 4, "clamp": 0.3, "prefixes": ((2, 3),),
        "statistics": str(path), "tokens": 400, "max_norm": 1e6,
    }  # fmt: skip


def solved(editor: RROME | ROME, model: TextModel) -> tuple[LowRank, tuple[str, ...]]:
    delta = editor(model, [EDIT])
    (change,) = delta.weights.values()
    assert isinstance(change, LowRank) and change.rank == 1
    return change, tuple(delta.provenance.diagnostics["contexts"])


def test_it_is_rome_with_the_mean_key(model: TextModel, settings: dict) -> None:
    mine, _ = solved(RROME(**settings), model)
    theirs, _ = solved(ROME(keys="mean", **settings), model)
    assert torch.equal(mine.matrix(), theirs.matrix())


def test_where_the_mean_key_is_sent(model: TextModel, settings: dict) -> None:
    """(W + Δ) k̄ is W k̄ + δ, or for the bare prompt's value W k₀ + δ."""
    site = model.site("down", 1)
    w = model.weight(site).double()
    consistent, contexts = solved(RROME(**settings), model)
    public, _ = solved(RROME(value="plain", **settings), model)
    mean = mean_keys(model, [EDIT], contexts, site, equal=True)
    plain = mean_keys(model, [EDIT], ("",), site, equal=True)
    found = consistent.u.double()  # Δ = δ vᵀ with vᵀk̄ = 1
    for change, start in ((consistent, mean), (public, plain)):
        sent = (w + change.matrix().double()) @ mean
        torch.testing.assert_close(sent, w @ start + found, atol=1e-4, rtol=1e-4)


def test_p_rome_meets_the_plain_key(model: TextModel, settings: dict) -> None:
    change, _ = solved(RROME(keys="plain", **settings), model)
    plain = mean_keys(model, [EDIT], ("",), model.site("down", 1), equal=True)
    torch.testing.assert_close(
        change.v.double() @ plain, torch.ones(1, 1).double(), atol=1e-4, rtol=0
    )
