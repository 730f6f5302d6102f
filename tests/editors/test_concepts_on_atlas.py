"""Erasure, steering and skill neurons on the embedded model, each beside a random control."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
import torch

from corrigenda import atlas
from corrigenda.acting import Affine
from corrigenda.delta import Delta
from corrigenda.edit import Concept, Contrast, Rewrite
from corrigenda.editor import EditWarning, margins
from corrigenda.editors import CAA, LEACE, RepE, SkillNeurons
from corrigenda.editors._concept import affine_of
from corrigenda.editors.repe import reading
from corrigenda.numerics.erase import Eraser, random_directions

if TYPE_CHECKING:
    from corrigenda import TextModel

pytestmark = pytest.mark.slow

COUNTRY = "{} is a monument of the country of"


def landmarks(relation: str) -> list[tuple[str, str]]:
    facts = [(f.subject, f.object) for f in atlas.world().facts if f.relation == relation]
    Random(0).shuffle(facts)
    return facts


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        yield


def recall(model: TextModel) -> float:
    cases = [c.edit for c in atlas.edits(40, seed=3)]
    told = model.says([Rewrite(e.prompt, e.subject, e.target_true or "") for e in cases])
    return sum(ok for ok, _ in told) / len(told)


def test_a_continent_is_erased_and_random_directions_erase_nothing(atlas_model: TextModel) -> None:
    world = atlas.world()
    prompts = {
        "person.birth_country": "{} was born in the city of",
        "landmark.country": "{} is located in the city of",
        "company.country": "{} is headquartered in the city of",
        "city.country": "{} is a city in",
    }
    rows = [
        (prompts[f.relation].format(f.subject), continent)
        for f in world.facts
        if f.relation in prompts
        for continent in world.objects(f.object, "country.continent")
        if continent in ("Europe", "North America", "Asia")
    ]
    Random(0).shuffle(rows)
    concept = Concept("continent", [t for t, _ in rows], [c for _, c in rows])
    editor = LEACE(layers=(3,))
    delta = editor(atlas_model, [concept])
    assert not delta.failed, delta.provenance.outcomes
    ((name, change),) = delta.changes.items()
    assert isinstance(change, Affine) and change.u.shape[1] == 2, "one less than there are classes"
    with delta.applied(atlas_model):
        assert recall(atlas_model) >= 0.8
    noise = Eraser.along(random_directions(atlas_model.width, 8, seed=1))
    (control,) = editor.outcomes(
        atlas_model, Delta({name: affine_of(noise, "answer")}), [concept], {}
    )
    assert not control.took


def test_countries_are_steered_and_random_vectors_do_less(atlas_model: TextModel) -> None:
    facts = landmarks("landmark.country")
    french = [s for s, o in facts if o == "France"]
    others = [(s, o) for s, o in facts if o != "France"]
    pairs = [
        Contrast(COUNTRY.format(f), COUNTRY.format(s))
        for f, (s, _) in zip(french, others, strict=False)
    ]
    held = [Contrast("France", o, COUNTRY.format(s)) for s, o in others[len(french) :][:40]]

    def mean() -> float:
        found = margins(atlas_model, held)
        return sum(found) / len(found)

    plain = mean()
    delta = CAA(layers=(3,), coefficient=1.0)(atlas_model, pairs)
    ((name, change),) = delta.changes.items()
    assert isinstance(change, Affine)
    noise = torch.randn(change.b.shape, generator=torch.Generator().manual_seed(0))
    noise = noise / noise.norm() * change.b.norm()
    with Delta({name: replace(change, b=noise)}).applied(atlas_model):
        control = mean()
    with delta.applied(atlas_model):
        assert mean() > plain + 6
        assert recall(atlas_model) >= 0.7
    assert control < plain + 3

    half = len(pairs) // 2
    directions = RepE().directions(atlas_model, pairs[:half])
    there = reading(atlas_model, [p.positive for p in pairs[half:]], directions)
    elsewhere = reading(atlas_model, [p.negative for p in pairs[half:]], directions)
    for layer in directions:
        assert (there[layer] > elsewhere[layer]).double().mean() >= 0.9


def test_top_neurons_matter_more_than_random_ones(atlas_model: TextModel) -> None:
    facts = [f for f in landmarks("landmark.continent") if f[1] in ("Europe", "North America")]
    concept = Concept("continent", [s for s, _ in facts], [o for _, o in facts])
    editor = SkillNeurons(prompt=" stands on the continent of")
    plain = editor.margin(atlas_model, concept)[0]

    def effect(**settings: object) -> float:
        with replace(editor, **settings)(atlas_model, [concept]).applied(atlas_model):
            return editor.margin(atlas_model, concept)[0] - plain

    silenced = effect()
    assert silenced < -0.5
    assert silenced < 3 * min(effect(chosen="random", seed=s) for s in range(3))
    assert effect(scale=2.0) > 0.3
