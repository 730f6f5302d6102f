"""What editors take for a model of the census: its text, its facts, and where they edit.

The model here is untrained; that its edits take is asked of the shipped ones.
"""

from __future__ import annotations

from itertools import islice

import pytest
import transformers as hf

from corrigenda import atlas
from corrigenda.atlas.corpus import documents
from corrigenda.atlas.lessons import lessons, reserved
from corrigenda.edit import Rewrite
from corrigenda.editors import make
from corrigenda.editors.ike import IKE
from corrigenda.errors import DataError, OfflineError
from corrigenda.models.moments import corpus_for
from corrigenda.models.text import TextModel

from ..models.tiny import tiny_config, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")  # untrained


@pytest.fixture(scope="module")
def model() -> TextModel:
    tokenizer = tiny_tokenizer()
    config = tiny_config("gpt2", len(tokenizer))
    config.n_layer = 8
    config.n_positions = 4096
    module = hf.GPT2LMHeadModel(config).eval()
    return TextModel(module, tokenizer, id="atlas-census")


@pytest.mark.parametrize(
    ("name", "layers"),
    [("memit", (0, 1)), ("alphaedit", (0, 1)), ("ft-m", (7,)), ("lora", (6, 7))],
)
def test_presets_are_those_of_atlas_at_the_same_share_of_the_depth(model, name, layers):
    assert make(name).resolved(model).layers == layers


@pytest.mark.parametrize("name", ["rome", "r-rome", "emmet"])
def test_its_own_presets_come_before_those_of_atlas(model, name):
    editor = make(name).resolved(model)
    assert (editor.layers, editor.clamp) == ((0,), 2.0)
    assert (editor.steps, editor.stop) == (30, "answer")  # as on atlas


def test_second_moments_are_of_the_text_that_it_learned_from(model):
    corpus = corpus_for(model, "auto", seed=3)
    assert corpus.name == "census:3" != corpus_for(model, "atlas", seed=3).name
    told = [d.text for d in islice(documents(atlas.census(), 3), 5)]
    assert list(islice(corpus.texts(), 5)) == told
    assert list(islice(corpus_for(model, "census", seed=3).texts(), 5)) == told
    with pytest.raises(DataError, match="atlas, census"):
        corpus_for(model, "censsus")


def test_it_is_shown_facts_of_its_own_world(model):
    case = atlas.edits(1, world=atlas.census())[0]
    delta = IKE(k=8)(model, [case.edit])
    assert delta.prefix is not None and delta.prefix.head
    names = {s for s, _ in atlas.census().pairs()}
    assert all(any(n in told for n in names) for told in delta.prefix.head.split("New fact: ")[1:])
    assert case.edit.subject not in delta.prefix.head


def test_lessons_are_of_its_own_world_and_none_of_the_first_hundred_edits():
    world = atlas.census()
    facts = {(c.edit.subject, c.edit.relation) for c in lessons(50, seed=1, world=world)}
    assert len(facts) == 50 and not facts & reserved(world)
    assert all(world.objects(subject, relation) for subject, relation in facts)


def test_its_weights_are_asked_for_by_the_name_of_their_world(tmp_path, monkeypatch):
    monkeypatch.setattr(atlas, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(OfflineError, match=r"atlas train --world census --out .*census"):
        atlas.weights_path("atlas-census")
    with pytest.raises(OfflineError, match=r"atlas train --architecture bert --out .*bert"):
        atlas.weights_path("atlas-bert")


def test_edits_of_the_census_are_read_off_the_world():
    case = atlas.edits(1, world=atlas.census())[0]
    edit = Rewrite(case.edit.prompt, case.edit.subject, case.edit.target)
    assert atlas.consequences(edit, atlas.census()) == case.probes
