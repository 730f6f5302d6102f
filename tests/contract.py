"""The contract: every editor on every model family.

A new editor or layout row is covered from the moment it stands in its table. Models are tiny and
random, so nothing is said here about how well a method edits; only about what every method owes.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from corrigenda.delta import Delta
from corrigenda.edit import Concept, Contrast, Rewrite
from corrigenda.editor import Editor, EditWarning
from corrigenda.editors import TABLE, editor_class, make
from corrigenda.editors._keyvalue import KeyValueEditor
from corrigenda.editors._spread import SpreadEditor
from corrigenda.editors._wrapped import WrappedEditor
from corrigenda.errors import EditError
from corrigenda.live import tensor_hash
from corrigenda.models.text import TextModel

from .models.tiny import FAMILIES, KIND, model_of, some_text

EDITS: dict[type, tuple[Any, Any]] = {
    Rewrite: (
        Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
        Rewrite("The mother tongue of {} is", "Marie Curie", "German"),
    ),
    Contrast: (
        Contrast("Paris", "Rome in Italy", "The Louvre is located in"),
        Contrast(" Love", " Hate", "I feel"),
    ),
    Concept: (
        Concept(
            "country",
            ("The Louvre is in", "Paris has a", "The Colosseum is in", "Rome and a"),
            ("France", "France", "Italy", "Italy"),
        ),
        Concept(
            "maker",
            ("Windows is", "He made Windows in", "The iPhone is", "Question: an iPhone of"),
            ("Microsoft", "Microsoft", "Apple", "Apple"),
        ),
    ),
}
"""Two edits of each kind."""
PROMPTS = ["The Louvre is located in", "Question: Where is the tower?"]

SMALL: dict[str, dict[str, Any]] = {
    "rome": {"steps": 3, "prefixes": ((2, 3),), "clamp": 0.5},
    "memit": {"steps": 3, "prefixes": ((2, 3),)},
    "emmet": {"steps": 3, "prefixes": ((2, 3),), "clamp": 0.5},
    "alphaedit": {"steps": 3, "prefixes": ((2, 3),), "energy": 0.5},
    "r-rome": {"steps": 3, "prefixes": ((2, 3),), "clamp": 0.5},
    "pmet": {"steps": 3, "prefixes": ((2, 3),)},
    "nse": {"steps": 3, "prefixes": ((2, 3),), "share": 0.8},
    "encore": {"steps": 3, "prefixes": ((2, 3),)},
    "core": {"layers": (1,), "steps": 3, "prefixes": ((2, 3),)},
    "rect": {"settings": {"steps": 3, "prefixes": ((2, 3),)}},
    "prune": {"settings": {"steps": 3, "prefixes": ((2, 3),), "weight": 1e-3}},
    "sphere": {"settings": {"steps": 3, "prefixes": ((2, 3),), "energy": 0.5}},
    "simie": {"settings": {"steps": 3, "prefixes": ((2, 3),)}, "weight": 1.0},
    "ft-m": {"steps": 2},
    "ft-l": {"steps": 2},
    "locft-bf": {"steps": 2},
    "lora": {"steps": 2},
    "ike": {},
    "crispedit": {"steps": 2, "energy": 0.5},
    "ultraedit": {"step": 1e-3},
    "leace": {},
    "scrubbing": {},
    "caa": {},
    "actadd": {},
    "repe": {},
    "skill-neurons": {},
    "task-vector": {"steps": 2},
    "context-distillation": {"steps": 1, "sentences": 2, "length": 4},
    "definition": {},
    "dinm": {"steps": 2},
    "unke": {"steps": 3, "fit_steps": 2},
    "anyedit": {"steps": 3, "fit_steps": 2, "piece": 2},
    "kn": {"steps": 3, "prefixes": ((2, 3),), "share": 0.0, "old": 1.0},
    "ke": {"trained": "initial", "layers": (1,), "width": 4, "hidden": 4},
    "malmen": {"trained": "initial", "layers": (1,), "rank": 4, "step": 1e-2},
    "mend": {"trained": "initial", "layers": (1,), "rank": 4, "step": 1e-2},
    "rledit": {"trained": "initial", "layers": (1,), "rank": 4, "step": 1e-2},
    "grace": {"steps": 3, "radius": 1e3},
    "melo": {"steps": 2, "radius": 1e3},
    "t-patcher": {"steps": 2, "memory": 40, "sure": 1.0},
    "calinet": {"steps": 2, "slots": 4, "prefixes": ((2, 3),)},
    "wise": {"steps": 2, "prompts": 4, "prefixes": ((1, 3),), "act_ratio": 0.0},
    "memoir": {"steps": 2, "prompts": 4, "prefixes": ((1, 3),), "least": 0.0},
    "rag-ike": {},
    "serac": {"trained": "initial", "least": 0.0},
    "mello": {"demonstrations": 0, "hops": 1, "tokens": 4},
}
"""Arguments that make each method quick. A method without an entry here fails the suite."""

NOTHING: dict[str, dict[str, Any]] = {
    "rome": {"steps": 1},
    "memit": {"steps": 1},
    "emmet": {"steps": 1},
    "alphaedit": {"steps": 1},
    "r-rome": {"steps": 1},
    "pmet": {"steps": 1},
    "nse": {"steps": 1},
    "encore": {"steps": 1},
    "core": {"layers": (1,), "steps": 1},
    "rect": {"keep": 0.0},
    "prune": {"settings": {"steps": 1}},
    "sphere": {"settings": {"steps": 1, "energy": 0.5}},
    "simie": {"settings": {"steps": 1}},
    "ft-m": {"steps": 0},
    "ft-l": {"box": 0.0},
    "locft-bf": {"steps": 0},
    "kn": {"new": 0.0, "old": 0.0},
    "lora": {"steps": 0},
    "crispedit": {"steps": 0},
    "dinm": {"steps": 0},
    "ultraedit": {"step": 0.0},
    "leace": {"tolerance": 1e9},
    "scrubbing": {"tolerance": 1e9},
    "caa": {"coefficient": 0.0},
    "actadd": {"coefficient": 0.0},
    "repe": {"coefficient": 0.0},
    "skill-neurons": {"scale": 1.0},
    "task-vector": {"scale": 0.0},
    "context-distillation": {"context": ""},
    "unke": {"steps": 1},
    "anyedit": {"steps": 1},
    "ke": {"scale": 0.0},
    "malmen": {"step": 0.0},
    "mend": {"step": 0.0},
    "rledit": {"step": 0.0},
    "grace": {"radius": 1e-3},
    "melo": {"steps": 0},
    "t-patcher": {"steps": 0},
    "calinet": {"steps": 0},
    "wise": {"steps": 0},
    "memoir": {"steps": 0},
    "rag-ike": {"least": 1.1},
    "serac": {"least": 1.1},
}
"""Settings with which a method must change nothing. A value search of one step takes no step;
IKE always puts the fact into the context."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(some_text(600), encoding="utf-8")
    return str(path)


def editor_of(name: str, corpus: str, **more: Any) -> Editor:
    arguments = {**SMALL[name], **more}
    # Sums over 400 tokens are nearly singular, so changes are large; that is not judged here.
    small = {"statistics": corpus, "tokens": 400, "max_norm": 1e6}
    if isinstance(kind := make(name), KeyValueEditor):
        arguments |= small
    elif isinstance(kind, WrappedEditor):
        arguments["settings"] = {**arguments["settings"], **small}
    elif hasattr(kind, "statistics"):
        arguments["statistics"] = corpus
    return make(name, **arguments)


def solve(editor: Editor, model: TextModel, *edits: Any, onto: Delta | None = None) -> Delta:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)  # three steps on a random model rarely suffice
        return editor(model, list(edits), onto=onto)


def bits(model: TextModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(f"{name}{tensor_hash(tensor)}".encode())
    return digest.hexdigest()


def logits(model: TextModel) -> torch.Tensor:
    return model.next_logprobs(PROMPTS)


PAIRS = [
    (name, family)
    for name in sorted(TABLE)
    for family in FAMILIES
    if KIND[family] in editor_class(name).kinds
]
"""Every editor on every family of the kinds that it supports."""


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_contract(name: str, family: str, corpus: str, tmp_path: Path) -> None:
    model = model_of(family)
    editor = editor_of(name, corpus)
    one, other = EDITS[type(editor).takes]
    before, plain = bits(model), logits(model)
    modes = [m.training for m in model.module.modules()]
    wanted = [p.requires_grad for p in model.module.parameters()]

    first = solve(editor, model, one)
    assert bits(model) == before, "solving must leave the model bit-identical"
    assert [m.training for m in model.module.modules()] == modes
    assert [p.requires_grad for p in model.module.parameters()] == wanted
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    assert first, "an edit is a change"
    assert first.provenance.editor == name and first.provenance.edits == (one.to_dict(),)
    assert first.provenance.model == family and len(first.provenance.outcomes) == 1

    assert solve(editor, model, one).id == first.id, "same seed, same delta"

    with first.applied(model):
        edited = logits(model)
    assert not torch.equal(edited, plain)
    assert torch.equal(logits(model), plain) and bits(model) == before

    # Undo in the order of application: the rest is as if the first had never been there.
    second = solve(editor, model, other, onto=first)
    assert bits(model) == before
    a, b = model.live.push(first), model.live.push(second)
    model.live.pop(a)
    alone = bits(model)
    model.live.pop(b)
    assert bits(model) == before
    with second.applied(model):
        assert bits(model) == alone

    loaded = Delta.load(first.save(tmp_path / "delta"))
    assert loaded.id == first.id
    with loaded.applied(model):
        assert torch.equal(logits(model), edited)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_empty_edits_give_an_empty_delta(name: str, corpus: str) -> None:
    model = model_of("gpt2")
    delta = editor_of(name, corpus)(model, [])
    assert not delta and delta.provenance.editor == name
    with delta.applied(model):
        assert not model.live.touched


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_wrong_kind_of_edit_is_refused(name: str, corpus: str) -> None:
    with pytest.raises(EditError, match=f"takes {editor_class(name).takes.__name__} edits"):
        editor_of(name, corpus)(model_of("gpt2"), ["The Eiffel Tower is in Rome"])  # type: ignore


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("name", sorted(NOTHING))
def test_settings_that_do_nothing_do_nothing(name: str, family: str, corpus: str) -> None:
    model = model_of(family)
    plain = logits(model)
    # The residual of MEMIT and its kin is read through the whole batch, so it is zero only to
    # rounding: their δ = 0 gives changes of that size.
    kind = make(name)
    exact = not isinstance(kind, SpreadEditor | WrappedEditor)
    delta = solve(editor_of(name, corpus, **NOTHING[name]), model, *EDITS[type(kind).takes])
    with delta.applied(model):
        if exact:
            assert torch.equal(logits(model), plain)
        else:
            torch.testing.assert_close(logits(model), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_method_is_described(name: str) -> None:
    editor = make(name)
    kind = type(editor)
    assert kind.name == name and kind.title and kind.family
    assert any(c.isdigit() for c in kind.paper), "authors, year, arXiv id"
    assert kind.change in ("LowRank", "Dense", "Affine", "Neurons", "Memory", "Prefix")
    assert kind.__doc__ and name in SMALL
    assert kind.__module__.startswith("corrigenda.editors.")
