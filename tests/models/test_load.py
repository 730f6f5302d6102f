"""Loading: what works, and one clear message for everything that does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    ByT5Tokenizer,
    GPT2Model,
    PhiConfig,
    ViTConfig,
)

import corrigenda.models
from corrigenda.errors import (
    InputError,
    ModelError,
    OfflineError,
    UnknownLayoutError,
    UnknownNameError,
)
from corrigenda.models.discover import propose
from corrigenda.models.load import load

from .tiny import KIND, T5_GATED, model_of, randomise, tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, tokenizer = tiny("llama")
    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    module.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def reconfigured(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


# -- what works -------------------------------------------------------------------------------


def test_a_directory_gives_the_same_model(saved: Path) -> None:
    module, _ = tiny("llama")
    model = load(saved, device="cpu")
    assert isinstance(model, corrigenda.models.TextModel)
    assert model.id == str(saved)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model.module(ids).logits, module(ids).logits)
    assert load(str(saved), device="cpu").layout == model.layout


def test_dtype_by_name_and_by_object_and_by_checkpoint(saved: Path, tmp_path: Path) -> None:
    assert load(saved, device="cpu").dtype is torch.float32
    assert load(saved, device="cpu", dtype="bfloat16").dtype is torch.bfloat16
    assert load(saved, device="cpu", dtype=torch.float16).dtype is torch.float16
    module, tokenizer = tiny("llama")
    module.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path, device="cpu").dtype is torch.bfloat16


def test_module_and_tokenizer_in_memory_are_used_in_place() -> None:
    module, tokenizer = tiny("gpt2")
    model = load((module, tokenizer))
    assert model.module is module and model.id == "gpt2"
    assert load((module, tokenizer), dtype="bfloat16").module is module
    assert module.dtype is torch.bfloat16


def test_padding_is_added_without_resizing_and_without_touching_the_callers_tokenizer() -> None:
    module, tokenizer = tiny("gpt2")
    rows = module.get_input_embeddings().weight.shape
    model = load((module, tokenizer))
    assert tokenizer.pad_token is None
    assert model.tokenizer.pad_token == tokenizer.eos_token
    assert len(model.tokenizer) == len(tokenizer)
    assert module.get_input_embeddings().weight.shape == rows
    assert load((module, model.tokenizer)).tokenizer is model.tokenizer


def test_a_padding_token_without_embedding_is_replaced() -> None:
    module, tokenizer = tiny("gpt2")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id == module.config.vocab_size
    assert load((module, tokenizer)).tokenizer.pad_token_id == tokenizer.eos_token_id


def test_recommended_sampling_does_not_reach_greedy_answers(folder: Path) -> None:
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [1, 7], "repetition_penalty": 1.3, "do_sample": True})
    )
    config = load(folder, device="cpu").module.generation_config
    assert config.eos_token_id == [1, 7]
    assert config.repetition_penalty in (None, 1.0) and not config.do_sample


def test_an_unknown_architecture_loads_with_a_verified_layout() -> None:
    config = PhiConfig(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=None, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    module = AutoModelForCausalLM.from_config(config)
    randomise(module)
    pair = (module, tiny_tokenizer())
    with pytest.raises(UnknownLayoutError, match="Proposed from its structure"):
        load(pair)
    row = propose(module)
    assert load(pair, layout=row).layout == row
    with pytest.raises(ModelError, match="does not describe it"):
        load(pair, layout=replace(row, parallel=False))


def test_names_are_lazy_and_listed() -> None:
    assert set(corrigenda.models.__all__) <= set(dir(corrigenda.models))
    for name in corrigenda.models.__all__:
        assert getattr(corrigenda.models, name) is not None
    assert callable(corrigenda.models.load)
    with pytest.raises(AttributeError, match="nothing"):
        _ = corrigenda.models.nothing
    lazy = "import sys, corrigenda.models as m; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", lazy], check=True)


def test_load_is_the_function_even_after_its_submodule_was_imported() -> None:
    function = corrigenda.models.load
    # What the import system does when the submodule of the same name has been imported.
    corrigenda.models.load = sys.modules["corrigenda.models.load"]  # type: ignore[assignment]
    assert corrigenda.models.load is function


def test_the_packaged_model_is_float32(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, tokenizer = tiny("llama")
    path = saved.parent / "packaged"
    half.half().save_pretrained(path)
    tokenizer.save_pretrained(path)
    monkeypatch.setattr("corrigenda.atlas.weights_path", lambda _: path, raising=False)
    model = load("atlas", device="cpu")
    assert model.id == "atlas" and model.dtype is torch.float32
    assert load("atlas", device="cpu", dtype="float16").dtype is torch.float16


def test_the_packaged_model_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corrigenda.atlas.weights_path", lambda _: tmp_path, raising=False)
    with pytest.raises(ModelError, match="corrigenda atlas train"):
        load("atlas")


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Atlas", "altas", "atlass", "atals"])
def test_near_misses_of_the_packaged_model(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean atlas"):
        load(name)


@pytest.mark.parametrize("name", ["openai-community/gpt2", "no-such-model"])
def test_offline_and_not_cached(name: str, offline: None) -> None:
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE forbids downloads") as caught:
        load(name)
    assert caught.value.exit_code == 3
    assert f"hf download {name}" in str(caught.value)
    assert caught.value.__suppress_context__


def test_network_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise OSError("We couldn't connect") from ConnectionError("no route")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    with pytest.raises(OfflineError, match="cannot be reached"):
        load("some/model")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("GatedRepoError", ModelError, "gated"),
        ("RepositoryNotFoundError", ModelError, "no public repository"),
        ("RevisionNotFoundError", ModelError, "no revision 'v9'"),
        ("LocalEntryNotFoundError", OfflineError, "not in the local cache"),
        ("EntryNotFoundError", ModelError, "configuration of some/model cannot be loaded"),
        ("HFValidationError", ModelError, "possible hub id"),
    ],
)
def test_answers_of_the_hub(
    kind: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    cause = getattr(errors, kind).__new__(getattr(errors, kind))

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("wrapped by transformers") from cause

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(error, match=message):
        load("some/model", revision="v9")


def test_an_impossible_name(offline: None) -> None:
    with pytest.raises(ModelError, match="neither a directory nor a possible hub id"):
        load("bad name!!")
    with pytest.raises(InputError, match="empty"):
        load("  ")
    with pytest.raises(InputError, match="not a int"):
        load(3)  # type: ignore[arg-type]


# -- directories ------------------------------------------------------------------------------


def test_a_path_that_does_not_exist(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"no directory .*Did you mean .*tiny-llama"):
        load(saved.parent / "tiny-lama")
    with pytest.raises(ModelError, match=r"no directory ./nowhere/at/all"):
        load("./nowhere/at/all")


def test_directories_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json. It holds: nothing"):
        load(tmp_path)
    for n in range(10):
        (tmp_path / f"note{n}.txt").touch()
    with pytest.raises(ModelError, match=r"note0.txt.*and 2 more.*save_pretrained"):
        load(tmp_path)
    inner = tmp_path / "checkpoint-5"
    inner.mkdir()
    (inner / "config.json").touch()
    with pytest.raises(ModelError, match=r"in its subdirectories: .*checkpoint-5"):
        load(tmp_path)
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(ModelError, match="holds an adapter"):
        load(tmp_path)
    (tmp_path / "delta.json").touch()
    with pytest.raises(ModelError, match="saved edit"):
        load(tmp_path)
    with pytest.raises(ModelError, match="is a file"):
        load(tmp_path / "note1.txt")


def test_pickled_weights_are_refused_unread(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model.safetensors. It holds"):
        load(folder)
    # Not a pickle at all: the refusal must come before anything is read.
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    with pytest.raises(ModelError, match=r"pytorch_model.bin\). Pickled checkpoints can run any"):
        load(folder)


@pytest.mark.parametrize("cut", [1000, -1000, 0])
def test_damaged_weights(folder: Path, cut: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut] or b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match="truncated, or no safetensors"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{nope", "configuration of .* cannot be loaded"),
        ("{}", "configuration of .* cannot be loaded"),
        ('{"model_type": "nosuch"}', "nosuch"),
        ('{"model_type": "x", "auto_map": {"AutoConfig": "a.B"}}', "never run here"),
    ],
)
def test_damaged_configurations(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_weights_that_do_not_fit_the_configuration(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"9 of the model's tensors .*model.layers.3"):
        load(reconfigured(folder, num_hidden_layers=4))
    with pytest.raises(ModelError, match="other shapes"):
        load(reconfigured(folder, num_hidden_layers=3, hidden_size=64))
    assert capfd.readouterr() == ("", "")


def test_weights_saved_without_their_head(tmp_path: Path) -> None:
    module, tokenizer = tiny("llama")
    module.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lm_head.weight.*would be random"):
        load(tmp_path)


def test_missing_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load(folder)


# -- kinds of models --------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["t5", T5_GATED, "bart", "bert", "roberta"])
def test_other_kinds_from_a_directory_and_from_memory(family: str, tmp_path: Path) -> None:
    module, tokenizer = tiny(family)
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    wanted = model_of(family)
    pairs = [("The Eiffel Tower is located in", "Rome"), ("Rome is", "the capital of Italy")]
    for source in (tmp_path, (module, tokenizer)):
        model = load(source, device="cpu")
        assert type(model) is type(wanted) and model.layout == wanted.layout
        for a, b in zip(model.score(pairs), wanted.score(pairs), strict=True):
            assert a.ids == b.ids and torch.equal(a.logprobs, b.logprobs)
        prompts = [p for p, _ in pairs]
        assert model.generate(prompts, max_new_tokens=4) == wanted.generate(
            prompts, max_new_tokens=4
        )


def test_a_layout_that_is_given_is_verified_for_every_kind() -> None:
    for family in ("t5", "bert"):
        module, tokenizer = tiny(family)
        row = propose(module)
        assert load((module, tokenizer), layout=row).kind == KIND[family]
        with pytest.raises(ModelError, match="does not describe it"):
            load((module, tokenizer), layout=replace(row, mlp=row.attention))


def test_an_encoder_that_fills_no_gaps_is_refused() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    module = BertModel(BertConfig(vocab_size=400, intermediate_size=8, **sizes))
    with pytest.raises(ModelError, match="no language-model head"):
        load((module, tiny_tokenizer()))


def test_a_model_that_does_not_read_text(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(ViTConfig().to_dict()))
    with pytest.raises(ModelError, match=r"vit, which .* not know as a language model"):
        load(folder)


def test_a_slow_tokenizer() -> None:
    module, _ = tiny("gpt2")
    with pytest.raises(ModelError, match="slow tokenizer"):
        load((module, ByT5Tokenizer(extra_ids=0)))


def test_a_tokenizer_of_another_model() -> None:
    module, tokenizer = tiny("llama")
    module.resize_token_embeddings(100)
    with pytest.raises(ModelError, match="do not belong together"):
        load((module, tokenizer))


def test_pairs_that_are_none() -> None:
    module, tokenizer = tiny("gpt2")
    for pair in [(module,), (tokenizer, module), (module, tokenizer, 1)]:
        with pytest.raises(InputError, match=r"Give \(module, tokenizer\)"):
            load(pair)
    with pytest.raises(InputError, match="not a tokenizer"):
        load((module, "gpt2"))
    with pytest.raises(ModelError, match=r"not a transformers.PreTrainedModel"):
        load((torch.nn.Linear(1, 1), tokenizer))
    with pytest.raises(ModelError, match="no language-model head"):
        load((GPT2Model(module.config), tokenizer))


# -- options ----------------------------------------------------------------------------------


def test_options_that_cannot_be(saved: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*bfloat16"):
        load(saved, dtype="bfloat")
    with pytest.raises(InputError, match=r"not edited in torch.int8"):
        load(saved, dtype=torch.int8)
    with pytest.raises(InputError, match="no device called 'gpu'"):
        load(saved, device="gpu")
    with pytest.raises(InputError, match="cuda:99"):
        load(saved, device="cuda:99")
    with pytest.raises(InputError, match="is a directory"):
        load(saved, revision="main")
    with pytest.raises(InputError, match="has none"):
        load(tiny("gpt2"), revision="main")
    with pytest.raises(InputError, match="layout is a str"):
        load(saved, layout="gpt2")  # type: ignore[arg-type]
