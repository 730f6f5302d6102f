"""CaliNET: slots beside the last MLP, and the score that tells which facts need them."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from corrigenda import atlas
from corrigenda.acting import Neurons
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors.calinet import CaliNET, cka
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel

from ..models.tiny import model_of

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
    Rewrite("The mother tongue of {} is", "Marie Curie", "German"),
)
PROMPTS = [e.text for e in EDITS] + ["The Louvre is located in"]
every_kind = pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "t5", "t5-gated", "bert"])


def solve(model: TextModel, *edits: Rewrite, **more) -> Delta:
    more = {"steps": 40, "slots": 6, "lr": 1e-2, "prefixes": ((2, 3),), **more}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        return CaliNET(**more)(model, list(edits))


def neurons(delta: Delta) -> list[Neurons]:
    found = [c for c in delta.acting.values() if isinstance(c, Neurons)]
    assert len(found) == len(delta.changes)
    return found


def nll(model: TextModel) -> torch.Tensor:
    with torch.no_grad():
        return model.nll([model.asked(e.text, e.target) for e in EDITS])


@every_kind
def test_zero_values_are_the_identity(family: str) -> None:
    model = model_of(family)
    plain = model.next_logprobs(PROMPTS)
    delta = solve(model, *EDITS, steps=0)
    (units,) = neurons(delta)
    assert not units.v.any() and units.k.any()
    with delta.applied(model):
        assert torch.equal(model.next_logprobs(PROMPTS), plain)


@every_kind
def test_trained_slots_calibrate(family: str) -> None:
    model = model_of(family)
    before, plain = nll(model), model.next_logprobs(PROMPTS)
    delta = solve(model, *EDITS)
    (units,) = neurons(delta)
    assert units.k.shape[0] == 6 and units.v.shape == (model.width, 6)
    assert bool(units.gate.numel()) == (family in ("llama", "t5-gated")), "gated as the MLP is"
    assert not units.bias.any()
    with delta.applied(model):
        assert bool((nll(model) < before - 0.2).all())
    assert torch.equal(model.next_logprobs(PROMPTS), plain), "the base is as it was"


def test_layers_and_slots() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, layers=(1, 2), slots=3, steps=2)
    assert len(neurons(delta)) == 2 and all(len(n.bias) == 3 for n in neurons(delta))
    (last,) = solve(model, *EDITS, steps=1).acting
    assert last.startswith(model.path_of(model.block(model.n_layers - 1)))


def test_contexts_are_wordings_and_the_seed_tells_all() -> None:
    model = model_of("gpt2")
    delta = solve(model, *EDITS, steps=3)
    assert delta.provenance.diagnostics["wordings"] == 3
    assert len(delta.provenance.diagnostics["target_nll"]) == len(EDITS)
    assert solve(model, *EDITS, steps=3).id == delta.id != solve(model, *EDITS, steps=3, seed=1).id
    assert solve(model, *EDITS, steps=3, prefixes=()).provenance.diagnostics["wordings"] == 1


# -- the contrastive score ----------------------------------------------------------------------


def test_the_score_is_the_ratio_of_probabilities() -> None:
    model = model_of("gpt2")
    contrasts = ["{} was born in", "Question: Who makes {}? Answer:"]
    found = cka(model, EDITS, contrasts, alpha=0.01)
    for score, fact in zip(found, EDITS, strict=True):
        own, *others = (
            math.exp(model.score([(p.replace("{}", fact.subject), fact.target)])[0].total)
            for p in (fact.prompt, *contrasts)
        )
        assert score == pytest.approx((own + 0.01) / (sum(others) / 2 + 0.01), rel=1e-3)
    assert cka(model, EDITS, [EDITS[0].prompt], alpha=1e-9)[0] == pytest.approx(1.0, rel=1e-4)
    assert cka(model, EDITS, contrasts, alpha=1e9) == pytest.approx([1.0, 1.0])


@pytest.mark.slow
def test_the_score_tells_what_atlas_knows(atlas_model: TextModel) -> None:
    """Above 1 for nearly all true facts, lower for nearly all of the targets that are new."""
    edits = [c.edit for c in atlas.edits(40, seed=3) if c.edit.target_true]
    truths = [Rewrite(e.prompt, e.subject, e.target_true or "") for e in edits]
    contrasts = sorted({e.prompt for e in edits})[:4]
    true, false = cka(atlas_model, truths, contrasts), cka(atlas_model, edits, contrasts)
    assert sum(score > 1 for score in true) >= 0.8 * len(true)
    assert sum(t > f for t, f in zip(true, false, strict=True)) >= 0.9 * len(true)


def test_the_score_needs_contrasts() -> None:
    model = model_of("gpt2")
    for wrong in ([], ["no place for the subject"], ["{} and {}"]):
        with pytest.raises(InputError, match="contrasting prompts"):
            cka(model, EDITS, wrong)
