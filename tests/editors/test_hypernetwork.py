"""Meta-learned editors: factors, training in two phases, checkpoints (methods.md §6)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.editors._factor_network import FactorNetwork, lively
from corrigenda.editors._finetune import examples, losses
from corrigenda.editors._gradients import gradient_factors
from corrigenda.editors._lessons import Changes, lessons_from, outer_loss
from corrigenda.editors.ke import KE
from corrigenda.editors.malmen import MALMEN
from corrigenda.editors.mend import MEND
from corrigenda.editors.rledit import RLEdit
from corrigenda.errors import DataError, InputError, ModelError, TamperedError, UnstableEditError
from corrigenda.models.linear import matrix

from ..models.tiny import model_of
from .finetuning import EDITS, as_linear, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

CITIES = ("Paris", "Rome", "Berlin", "Madrid", "London", "Warsaw")
PLACES = ("The Louvre", "The Colosseum", "Big Ben", "The Eiffel Tower", "The Prado", "The tower")
CASES = [
    Case(
        Rewrite("{} is located in", place, city),
        (
            Probe(f"{place} is in", (city,), "generalization", "paraphrase"),
            Probe(f"Where is {place}? In", (city,), "generalization", "paraphrase"),
            Probe("The mother tongue of Albert Einstein is", ("German",), "locality", "far"),
            Probe("Windows is made by", (), "locality", "far"),
        ),
    )
    for place, city in zip(PLACES, CITIES, strict=True)
]
LESSONS = lessons_from(CASES)

SMALL: dict[type, dict[str, Any]] = {
    MEND: {"rank": 4, "lessons": 4, "rate": 1e-2, "step": 1e-2, "emphasis": 1.0},
    MALMEN: {"rank": 4, "lessons": 4, "rate": 1e-2, "step": 1e-2, "step_rate": 1e-3},
    RLEdit: {"rank": 4, "lessons": 4, "length": 2, "rate": 1e-2, "step": 1e-2, "step_rate": 1e-3},
    KE: {"width": 8, "hidden": 8, "lessons": 2, "rate": 1e-2},
}


def editor_of(kind: type, **more: Any) -> Any:
    settings = {"trained": "initial", "layers": (1, 2), "roles": ("down",)}
    return kind(**{**settings, **SMALL[kind], **more})


def matrices(model: Any, changes: Changes) -> list[torch.Tensor]:
    return [u.double() @ v.double() for u, v in changes.values()]


# -- factors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart", "bert"])
def test_factors_multiply_to_the_gradient(family):
    """Σ_t δ_t x_tᵀ over all tokens of all questions is the gradient in W, in every stack."""
    model = model_of(family)
    rows = examples(model, EDITS)
    sites = [model.site("down", layer) for layer in range(model.n_layers)]
    weights = [model.module.get_parameter(s.parameter) for s in sites]
    sizes = torch.tensor([len(row.wanted) for row in rows])
    wanted = torch.autograd.grad((losses(model, rows) * sizes).sum(), weights)
    with model.frozen():
        found = gradient_factors(model, sites, rows, tokens="all")
    for site, gradient in zip(sites, wanted, strict=True):
        f = found[site]
        assert f.rows.unique().tolist() == list(range(len(rows)))
        expected = gradient.T if site.transposed else gradient
        torch.testing.assert_close(f.gradients.T @ f.inputs, expected, rtol=1e-3, atol=1e-5)


# -- MEND -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bert"])
def test_an_identity_network_makes_a_step_of_gradient_descent(family):
    model = model_of(family)
    edits = [EDITS[0]]
    delta = editor_of(MEND, normalize=False, step=0.05)(model, edits)
    rows = examples(model, edits)
    for layer in (1, 2):
        weight = model.module.get_parameter(model.site("down", layer).parameter)
        (gradient,) = torch.autograd.grad(losses(model, rows)[0] * len(rows[0].wanted), weight)
        found = delta.weights[model.site("down", layer).parameter].matrix()
        expected = -0.05 * (gradient.T if model.site("down", layer).transposed else gradient)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    before = losses(model, rows)
    with delta.applied(model):
        assert losses(model, rows) < before, "downhill"


@pytest.mark.parametrize("kind", SMALL)
def test_both_orientations_give_the_same_change(kind):
    conv, linear = text_model("gpt2"), as_linear(text_model("gpt2"))
    a, b = (editor_of(kind)(m, [EDITS[0]]) for m in (conv, linear))
    assert a.transposed and not b.transposed
    for (name, change), other in zip(a.weights.items(), b.weights.values(), strict=True):
        o, i = matrix(conv.module.get_submodule(name.removesuffix(".weight"))).shape
        assert change.shape == (o, i)
        torch.testing.assert_close(change.matrix(), other.matrix(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart", "bert"])
def test_the_default_sites_are_the_last_mlps(kind, family):
    model = model_of(family)
    editor = kind(trained="initial").resolved(model)
    apart = family in ("t5", "bart")
    assert editor.layers == ((1, 2, 3, 4) if apart else (0, 1, 2))
    gated = family == "llama"
    assert editor.roles == (("gate", "up", "down") if gated else ("up", "down"))
    assert len(editor.sites(model)) == len(editor.layers) * (3 if gated else 2)


# -- training in two phases -------------------------------------------------------------------


def outer(editor: Any, model: Any, network: Any, changes: Changes, lessons: Any) -> Any:
    nll, kl = outer_loss(model, [changes], [lessons], random.Random(5))
    return editor.emphasis * nll + editor.locality * kl


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def trained_a_little(editor: Any, model: Any) -> Any:
    """A network that is not at its identity, so that every part of it has a gradient."""
    network = editor.network(model, editor.sites(model))
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=g))
        if isinstance(network, FactorNetwork):
            network.steps.fill_(1e-2)
    return network


def test_meeting_in_the_middle_gives_the_gradient_of_the_whole():
    """MEND: ∂L/∂u, ∂L/∂v and then the network is the gradient through one graph."""
    model = model_of("gpt2")
    editor = editor_of(MEND, normalize=False).resolved(model)
    network = trained_a_little(editor, model)
    with model.frozen(), torch.enable_grad():
        editor.learn(model, network, LESSONS[:1], random.Random(5))
        found = gradients(network)
        network.zero_grad()
        edits = [LESSONS[0].edit]
        whole = editor.made(model, network, edits, editor.factors(model, edits))
        outer(editor, model, network, whole, LESSONS[:1]).backward()
    assert found.keys() == gradients(network).keys() and len(found) > 6
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_the_adjoint_of_least_squares_gives_the_gradient_of_the_whole(family):
    """MALMEN: the closed form through the solve, against autograd through it, λ included."""
    model = model_of(family)
    editor = editor_of(MALMEN, normalize=False).resolved(model)
    network = trained_a_little(editor, model)
    lessons = LESSONS[:3]
    with model.frozen(), torch.enable_grad():
        editor.learn(model, network, lessons, random.Random(5))
        found = gradients(network)
        network.zero_grad()
        changes = {}
        factors = editor.factors(model, [x.edit for x in lessons])
        for j, (site, f) in enumerate(factors.items()):
            x, d = lively(f)
            to, of = network(j, x, d)
            wanted = (-network.steps[j] * (x * to).sum(1, keepdim=True) * of).double()
            gram = x.double() @ x.double().T
            ridge = network.log_ridges[j].double().exp()
            solved = torch.linalg.solve(gram + ridge * torch.eye(len(x)).double(), wanted)
            changes[site] = (solved.T.float(), x)
        outer(editor, model, network, changes, lessons).backward()
    assert "log_ridges" in found
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=1e-6, msg=name)


def test_chunks_change_nothing():
    model = model_of("gpt2")
    found = []
    for chunk in (1, 2, 100):
        editor = editor_of(MALMEN, chunk=chunk, normalize=False).resolved(model)
        network = trained_a_little(editor, model)
        with model.frozen(), torch.enable_grad():
            made = editor.made(model, network, EDITS, editor.factors(model, EDITS))
            editor.learn(model, network, LESSONS[:4], random.Random(0))
        found.append((matrices(model, made), gradients(network)))
    for made, grads in found[1:]:
        for a, b in zip(made, found[0][0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
        for name, gradient in grads.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-3, atol=1e-7)


def test_a_sequence_of_one_batch_is_malmen():
    model = model_of("gpt2")
    found = []
    for kind, more in ((MALMEN, {}), (RLEdit, {"length": 1, "penalty": 0.0})):
        same = {"blocks": 2, "locality": 1.0, "normalize": False}
        editor = editor_of(kind, **same, **more).resolved(model)
        network = trained_a_little(editor, model)
        with model.frozen(), torch.enable_grad():
            seen = editor.learn(model, network, LESSONS[:4], random.Random(3))
        found.append((seen, gradients(network)))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][name])


def test_a_sequence_sees_its_weights_drift(monkeypatch):
    """In a sequence, factors of a later batch are those of the model that earlier ones changed."""
    model = model_of("gpt2")
    editor = editor_of(RLEdit, normalize=False, length=2).resolved(model)
    network = trained_a_little(editor, model)
    seen: list[torch.Tensor] = []
    factors = RLEdit.factors

    def watched(self: Any, model: Any, edits: Any, batch_size: int = 32) -> Any:
        found = factors(self, model, edits, batch_size)
        seen.append(next(iter(found.values())).gradients)
        return found

    monkeypatch.setattr(RLEdit, "factors", watched)
    with model.frozen(), torch.enable_grad():
        editor.learn(model, network, LESSONS[:4], random.Random(3))
        plain = factors(editor, model, [x.edit for x in LESSONS[2:4]])
    assert len(seen) == 2
    assert not torch.allclose(seen[1], next(iter(plain.values())).gradients)


def test_only_the_network_learns():
    """Gradients flow to the network, and to nothing of the language model."""
    model = model_of("gpt2")
    for kind in SMALL:
        editor = editor_of(kind).resolved(model)
        network = editor.network(model, editor.sites(model))
        with model.frozen(), torch.enable_grad():
            editor.learn(model, network, LESSONS[:4], random.Random(0))
        assert any(bool(g.any()) for g in gradients(network).values()), kind
        assert all(p.grad is None for p in model.module.parameters()), kind


# -- KE ---------------------------------------------------------------------------------------


def test_the_gated_gradient_is_the_formula():
    model = model_of("gpt2")
    editor = editor_of(KE, scale=0.7).resolved(model)
    sites = editor.sites(model)
    network = editor.network(model, sites)
    with torch.no_grad(), model.frozen():
        factors = editor.factors(model, [EDITS[0]])
        found = matrices(model, editor.made(model, network, [EDITS[0]], factors))
        from corrigenda.editors.ke import _read

        outputs = network(_read(model, [EDITS[0]])[0])
    for f, change, (eta, a, b, c, e) in zip(factors.values(), found, outputs, strict=True):
        gradient = (f.gradients.T @ f.inputs).double()
        gate = torch.outer(a.softmax(0), c).double()
        rest = torch.outer(b.softmax(0), e).double()
        expected = 0.7 * eta.sigmoid().double() * (gradient * gate + rest)
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-7)


def test_the_multiplier_rises_while_the_constraint_is_broken():
    model = model_of("gpt2")
    editor = editor_of(KE, margin=(0.1, 0.1), ascent=0.5, locality=1.0).resolved(model)
    network = editor.network(model, editor.sites(model))
    editor.weighted(network, torch.tensor(1.0), torch.tensor(2.1))
    assert float(network.multiplier) == pytest.approx(2.0)
    editor.weighted(network, torch.tensor(1.0), torch.tensor(0.0))
    assert float(network.multiplier) == pytest.approx(1.95)
    for _ in range(50):
        editor.weighted(network, torch.tensor(1.0), torch.tensor(0.0))
    assert float(network.multiplier) == 0.0, "never negative"


# -- fitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "family"),
    [*((kind, "gpt2") for kind in SMALL), (MEND, "t5"), (KE, "t5"), (KE, "bert")],
)
def test_fitting_lowers_the_loss_on_edits_it_has_not_seen(kind, family, tmp_path):
    model = model_of(family)
    before = {n: p.clone() for n, p in model.module.named_parameters()}
    fitted = editor_of(kind, trained=None).fit(
        model, CASES[:4], steps=12, out=tmp_path, checkpoint_seconds=1e9
    )
    assert all(torch.equal(p, before[n]) for n, p in model.module.named_parameters())
    assert fitted.trained == str(tmp_path) and not (tmp_path / "checkpoint").exists()

    resolved = fitted.resolved(model)
    network, _ = resolved._loaded(model, resolved.sites(model))
    fresh = editor_of(kind).resolved(model)
    initial = fresh.network(model, fresh.sites(model))
    scores = []
    for one in (network, initial):
        with model.frozen(), torch.no_grad():
            edits = [x.edit for x in LESSONS[4:]]
            made = resolved.made(model, one, edits, resolved.factors(model, edits))
            scores.append(float(outer(resolved, model, one, made, LESSONS[4:])))
    assert scores[0] < scores[1]
    delta = fitted(model, [CASES[5].edit])
    record = json.loads((tmp_path / "network.json").read_text())
    assert delta.provenance.statistics["trained"] == record["sha256"]


@pytest.mark.parametrize("kind", SMALL)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(kind, tmp_path):
    model = model_of("gpt2")
    editor = editor_of(kind, trained=None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    editor.fit(model, CASES, steps=5, out=whole)
    assert editor.fit(model, CASES, steps=5, out=parts, stop_at=2) is editor
    assert not (parts / "network.json").exists()
    done: list[int] = []
    editor.fit(
        model, CASES, steps=5, out=parts, progress=lambda at, _total, _losses: done.append(at)
    )
    assert done == [3, 4, 5]
    for name in ("network.safetensors", "network.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    editor.fit(model, CASES, steps=5, out=parts, progress=lambda *_: pytest.fail("it is finished"))


def test_another_run_in_the_same_place_is_refused(tmp_path):
    model = model_of("gpt2")
    editor = editor_of(MEND, trained=None)
    editor.fit(model, CASES, steps=3, out=tmp_path, stop_at=1)
    with pytest.raises(InputError, match="another training run: it differs in arguments"):
        editor_of(MEND, trained=None, rank=3).fit(model, CASES, steps=3, out=tmp_path)
    with pytest.raises(InputError, match="differs in lessons, data"):
        editor.fit(model, CASES[:5], steps=3, out=tmp_path)
    editor.fit(model, CASES[:5], steps=3, out=tmp_path, resume=False)


def test_a_trained_network_is_tied_to_its_weights(tmp_path):
    model = model_of("gpt2")
    fitted = editor_of(MEND, trained=None).fit(model, CASES, steps=1, out=tmp_path)
    with pytest.raises(ModelError, match="trained for other weights"):
        fitted(model_of("gpt2", seed=1), [EDITS[0]])
    with pytest.raises(InputError, match="trained with rank=4, not 5"):
        MEND(trained=str(tmp_path), rank=5)(model, [EDITS[0]])
    with pytest.raises(InputError, match="network of mend, not of malmen"):
        MALMEN(trained=str(tmp_path)).check(model, [EDITS[0]])
    delta = fitted(model, [EDITS[0]])
    with delta.applied(model):
        assert fitted(model, [EDITS[1]], onto=None), "live edits are not other weights"


def test_a_damaged_network_is_refused(tmp_path):
    model = model_of("gpt2")
    fitted = editor_of(MEND, trained=None).fit(model, CASES, steps=1, out=tmp_path)
    data = bytearray((tmp_path / "network.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "network.safetensors").write_bytes(data)
    with pytest.raises(TamperedError, match="checksum differs"):
        fitted(model, [EDITS[0]])
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(TamperedError, match="not the record"):
        fitted(model, [EDITS[0]])


@pytest.mark.parametrize("kind", SMALL)
def test_an_untrained_editor_says_how_to_train_it(kind):
    with pytest.raises(ModelError, match=f"corrigenda fit gpt2 --editor {kind.name}"):
        kind()(model_of("gpt2"), [EDITS[0]])
    with pytest.raises(InputError, match="no trained network in /nowhere"):
        kind(trained="/nowhere")(model_of("gpt2"), [EDITS[0]])


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    model = model_of("gpt2")
    with pytest.raises(DataError, match="many edits; 1 were given"):
        editor_of(MEND).fit(model, CASES[:1], out=tmp_path)
    same = [Rewrite("{} is in", "Rome", city) for city in ("Paris", "Berlin")]
    with pytest.raises(DataError, match="same prompt"):
        editor_of(MEND).fit(model, same, out=tmp_path)
    with pytest.raises(UnstableEditError, match="training loss became nan"):
        editor_of(MEND, step=float("inf")).fit(model, CASES, steps=1, out=Path(tmp_path))


def test_plain_edits_are_lessons_too():
    edits = [case.edit for case in CASES]
    lessons = lessons_from(edits)
    assert all(lesson.unrelated and not lesson.wordings for lesson in lessons)
    assert all(e.text not in dict(x.unrelated) for e, x in zip(edits, lessons, strict=True))


# -- what comes with the package --------------------------------------------------------------


@pytest.mark.parametrize("kind", SMALL)
def test_the_shipped_network_is_of_this_model_and_recipe(kind, atlas_model):
    """The recorded settings are those that `corrigenda fit atlas` would train with today."""
    kind().check(atlas_model, [EDITS[0]])
    used = kind().resolved(atlas_model)
    today = kind(trained="initial").resolved(atlas_model)
    for name in used.__dataclass_fields__.keys() - {"trained"}:
        assert getattr(used, name) == getattr(today, name), name
    with pytest.raises(InputError, match="was trained with layers"):
        kind(layers=(0,)).resolved(atlas_model)


@pytest.mark.slow
def test_the_shipped_networks_saw_no_evaluated_fact(atlas_model):
    from corrigenda.atlas.lessons import lessons
    from corrigenda.editors._fitting import digest, read_record

    seen = lessons_from(lessons())
    data = digest("\n".join(lesson.to_json() for lesson in seen).encode())
    for kind in SMALL:
        folder = kind().folder(atlas_model)
        assert folder is not None and read_record(folder).data == data
