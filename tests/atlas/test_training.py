"""Training on a toy world: repeatable, resumable, loadable. No quality is asserted here."""

from __future__ import annotations

import json

import pytest

from corrigenda.atlas import census, train, world

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from safetensors.torch import load_file  # noqa: E402

STEPS = 8


@pytest.fixture(scope="module")
def toy():
    return world().restricted(
        ["Eiffel Tower", "Louvre", "Colosseum", "Paris", "Rome", "France", "Italy"]
    )


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return train(out, "tiny", steps=STEPS, progress=False, world=toy)


def test_an_interrupted_run_ends_with_the_same_weights(toy, whole, tmp_path):
    train(tmp_path, "tiny", steps=STEPS, progress=False, world=toy, stop_at=3)
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "checkpoint/state.json").read_text())["step"] == 3
    train(tmp_path, "tiny", steps=STEPS, progress=False, world=toy)
    ours, theirs = (load_file(d / "model.safetensors") for d in (tmp_path, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_seed_is_not_resumed_by_mistake(toy, whole):
    with pytest.raises(ValueError, match="seed 0, not 1"):
        train(whole, "tiny", seed=1, steps=STEPS, progress=False, world=toy)


def test_another_world_is_not_resumed_by_mistake(whole):
    with pytest.raises(ValueError, match="world atlas, not census"):
        train(whole, "tiny", steps=STEPS, progress=False, world=census(20))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_made_ahead_in_other_processes_change_nothing(toy, whole, tmp_path, workers):
    """Neither in one go nor with an interruption."""
    options = {"steps": STEPS, "progress": False, "world": toy, "workers": workers}
    train(tmp_path, "tiny", stop_at=3, **options)
    train(tmp_path, "tiny", **options)
    ours, theirs = (load_file(d / "model.safetensors") for d in (tmp_path, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "bert"])
def test_workers_make_the_batches_in_their_order(toy, architecture):
    from corrigenda.atlas.architectures import ARCHITECTURES
    from corrigenda.atlas.training import SIZES, _batches

    kind = ARCHITECTURES[architecture](toy, SIZES[architecture]["tiny"], 0)
    here, there = (list(_batches(kind, 2, 9, workers)) for workers in (0, 2))
    assert len(here) == len(there) == 7
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.wanted, other.wanted) and torch.equal(one.weight, other.weight)
        assert all(torch.equal(one.inputs[n], other.inputs[n]) for n in one.inputs)


def test_a_processor_that_trains_makes_its_own_batches(monkeypatch):
    from corrigenda.atlas import training

    monkeypatch.setattr(training.os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.spare_cores() == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training.spare_cores() == 8
    monkeypatch.setattr(training.os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert training.spare_cores() == 0


@pytest.mark.slow
def test_a_model_of_a_small_census_learns_it(tmp_path):
    """Seen: 9 % after 150 steps (chance is 8 %), 50 % after 450."""
    import transformers

    from corrigenda.atlas import measure
    from corrigenda.atlas.training import Size

    people = census(30)
    shape = Size(
        layers=2, width=64, heads=2, vocabulary=1024, rows=16, length=64, steps=500, rate=3e-3
    )
    train(tmp_path, shape, progress=False, world=people, report_every=0)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = measure(model, tokenizer, people)
    assert found.rate(held_out=False, only="functional") > 0.3
    assert found.rate(held_out=True, only="functional") > 0.2
    assert json.loads((tmp_path / "recipe.json").read_text())["world"] == "census"


def test_the_directory_is_a_standard_one(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(whole)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    text = "Eiffel Tower is located in the city of Paris."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("Rome")["input_ids"] != tokenizer(" Rome")["input_ids"]


def test_recall_agrees_with_generation(toy, whole):
    """The one-pass criterion is what greedy decoding does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from corrigenda.atlas.recall import recall

    model = AutoModelForCausalLM.from_pretrained(whole)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    prompt = "Eiffel Tower is located in the city of"
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=2, do_sample=False)[0, ids.input_ids.shape[1] :]
    greedy = tokenizer.decode(out)
    if tokenizer(greedy)["input_ids"] == out.tolist():
        assert recall(model, tokenizer, [(prompt, [greedy])]) == [True]
    assert recall(model, tokenizer, [(prompt, [" Rome. Rome"])]) == [False]


@pytest.mark.parametrize("architecture", ["llama", "t5", "bert"])
def test_every_architecture_resumes_and_loads(toy, tmp_path, architecture):
    import transformers

    from corrigenda.atlas.architectures import ARCHITECTURES
    from corrigenda.atlas.recall import recall

    options = {"steps": STEPS, "progress": False, "world": toy, "architecture": architecture}
    once = train(tmp_path / "once", "tiny", **options)
    train(tmp_path / "twice", "tiny", stop_at=3, **options)
    twice = train(tmp_path / "twice", "tiny", **options)
    ours, theirs = (load_file(d / "model.safetensors") for d in (once, twice))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    auto = getattr(transformers, ARCHITECTURES[architecture].auto_class)
    model, about = auto.from_pretrained(once, output_loading_info=True)
    assert not about["missing_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(once)
    asked = [("Eiffel Tower is located in the city of", [" Rome Rome Rome."])]
    assert recall(model, tokenizer, asked) == [False]
