"""Models spread over devices, memory and disk: the same answers, edits and bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from corrigenda.delta import Delta, Dense, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editors.ft import FTM
from corrigenda.editors.rome import ROME
from corrigenda.errors import DeltaError, InputError, ModelError
from corrigenda.ledger import Ledger
from corrigenda.live import _beside
from corrigenda.models.hooks import replaced_forward
from corrigenda.models.linear import bias, image, matrix, shape
from corrigenda.models.load import load
from corrigenda.models.text import TextModel
from corrigenda.storage import away, device_of

from .tiny import LAYERS, model_of, tiny

accelerate = pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

PROMPTS = ["The Eiffel Tower is located in", "Marie Curie was born in"]
EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
WITH = {"statistics": "identity", "prefixes": (), "steps": 4, "max_norm": 9.0}

HERE, AWAY = 0, LAYERS - 1
"""A layer whose weights stay on the device, and one whose weights are away."""


def table(module: nn.Module, blocks: str, where: str) -> dict[str, str]:
    """A device map with all but the first block somewhere else."""
    found = {}
    for path, _ in module.named_modules():
        inside = f"{blocks}.".startswith(f"{path}.") if path else True
        if not inside and path.rpartition(".")[0] in ("", *_parents(blocks)):
            found[path] = where if path.startswith(f"{blocks}.") and path[-1] != "0" else "cpu"
    return found


def _parents(blocks: str) -> list[str]:
    parts = blocks.split(".")
    return [".".join(parts[: j + 1]) for j in range(len(parts))]


def spread(family: str, tmp_path: Path, where: str = "disk") -> TextModel:
    """A tiny model whose upper blocks are on disk until they run."""
    module, tokenizer = tiny(family)
    blocks = TextModel.of(module, tokenizer).layout.blocks
    devices = table(module, blocks, where)
    assert where in devices.values()
    module = accelerate.dispatch_model(
        module, devices, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True
    )
    return load((module, tokenizer))


@pytest.fixture(params=["gpt2", "llama", "opt", "bert"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_spread_model_is_the_same_model(family: str, tmp_path: Path) -> None:
    model, plain = spread(family, tmp_path), model_of(family)
    upper = model.site("down", AWAY)
    assert away(model.live.parameter(upper.parameter))
    assert not away(model.live.parameter(model.site("down", HERE).parameter))
    assert model.device == torch.device("cpu") == device_of(model.linear(upper))
    assert torch.equal(model.next_logprobs(PROMPTS), plain.next_logprobs(PROMPTS))
    assert model.generate(PROMPTS) == plain.generate(PROMPTS)
    assert model.weights_hash() == plain.weights_hash()
    assert torch.equal(model.weight(upper), plain.weight(upper))
    linear, same = model.linear(upper), plain.linear(upper)
    x = torch.randn(3, shape(linear)[1])
    torch.testing.assert_close(image(linear, x), same(x))
    if (b := bias(same)) is not None:
        assert torch.equal(bias(linear), b)  # type: ignore[arg-type]
    assert shape(linear) == shape(same) and not away(matrix(linear))


@pytest.mark.parametrize("layer", [HERE, AWAY])
@pytest.mark.parametrize("method", [ROME, FTM])
def test_edits_of_a_spread_model(family: str, tmp_path: Path, layer: int, method: type) -> None:
    model, plain = spread(family, tmp_path), model_of(family)
    editor = (
        ROME(layers=(layer,), **WITH) if method is ROME else FTM(layers=(layer,), steps=4, lr=1e-2)
    )
    before = model.next_logprobs(PROMPTS)
    delta, same = editor(model, [EDIT]), editor(plain, [EDIT])
    assert delta.base == same.base
    for name, change in delta.weights.items():
        torch.testing.assert_close(
            change.matrix(), same.weights[name].matrix(), rtol=1e-3, atol=1e-5
        )
    with same.applied(model), same.applied(plain):
        torch.testing.assert_close(
            model.next_logprobs(PROMPTS), plain.next_logprobs(PROMPTS), rtol=1e-4, atol=1e-4
        )
        assert bool(model.live.touched) == (layer == HERE), "what is away is not written"
        more = editor(model, [Rewrite("{} was born in", "Marie Curie", "Rome")], onto=same)
        assert more
    assert torch.equal(model.next_logprobs(PROMPTS), before)
    assert away(model.live.parameter(model.site("down", AWAY).parameter))


def test_what_is_away_and_no_linear_map_is_refused(tmp_path: Path) -> None:
    model = spread("llama", tmp_path)
    name = f"model.layers.{AWAY}.input_layernorm.weight"
    with pytest.raises(ModelError, match=r"away \(offloaded\).*device_map"):
        model.live.push(Delta({name: Dense(torch.zeros(model.width))}))
    site = model.site("down", AWAY)
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    ledger.record(Delta({site.parameter: Dense(torch.zeros(shape(model.linear(site))))}))
    with pytest.raises(DeltaError, match="merged"):
        ledger.export(None, tmp_path / "merged", model)


def test_values_that_are_nowhere() -> None:
    module, tokenizer = tiny("llama")
    model = TextModel.of(module, tokenizer)
    model.linear(model.site("down", 1)).to("meta")
    with pytest.raises(ModelError, match="meta device"):
        model.weight(model.site("down", 1))


def test_loading_with_a_device_map(tmp_path: Path) -> None:
    module, tokenizer = tiny("llama")
    path = tmp_path / "model"
    module.save_pretrained(path)
    tokenizer.save_pretrained(path)
    whole = load(path, device="cpu")
    everywhere = load(path, device_map={"": "cpu"})
    assert torch.equal(everywhere.next_logprobs(PROMPTS), whole.next_logprobs(PROMPTS))
    assert everywhere.live.parameter(everywhere.site("down", 1).parameter).device.type == "cpu"
    some = load(path, device_map=table(module, "model.layers", "disk"))
    assert away(some.live.parameter(some.site("down", AWAY).parameter))
    assert torch.equal(some.next_logprobs(PROMPTS), whole.next_logprobs(PROMPTS))
    auto = load(path, device_map="auto", side_path=True)
    assert auto.side_path
    torch.testing.assert_close(
        auto.next_logprobs(PROMPTS), whole.next_logprobs(PROMPTS), rtol=1e-4, atol=1e-4
    )


def test_what_makes_no_sense_is_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="Both device='cpu' and a device_map"):
        load("atlas", device="cpu", device_map="auto")
    with pytest.raises(InputError, match="dispatch_model"):
        load(tiny("llama"), device_map="auto")
    with pytest.raises(InputError, match="not a int"):
        load("atlas", device_map=3)  # type: ignore[arg-type]
    model = spread("llama", tmp_path)
    with pytest.raises(ModelError, match="stays as it is"):
        load((model.module, model.tokenizer), device="cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"corrigenda\[large\]"):
        load("atlas", device_map="auto")


def test_a_forward_pass_that_another_library_put_there_comes_back(tmp_path: Path) -> None:
    block = spread("llama", tmp_path).block(AWAY)
    theirs = block.forward
    assert "forward" in vars(block)
    with replaced_forward(block, lambda hidden: hidden):
        assert block(3) == 3
    assert block.forward is theirs


def test_a_change_beside_goes_to_the_device_of_the_output() -> None:
    """Devices that are none, for which only places and shapes are computed: what enters a map may
    still be on the device before, since accelerate moves it inside."""
    change = LowRank(torch.ones(4, 1), torch.ones(1, 3))
    with FakeTensorMode(allow_non_fake_inputs=True):
        entered = torch.empty(2, 3, device="cuda:0", dtype=torch.bfloat16)
        left = torch.empty(2, 4, device="cuda:1", dtype=torch.bfloat16)
        with pytest.raises(RuntimeError, match="same device"):
            left.T @ entered
        hook, module = _beside(change, "weight"), nn.Linear(3, 4)
        new = hook(module, (entered,), {}, left)
        assert new.device == left.device and new.dtype == left.dtype and new.shape == left.shape
        assert _beside(Dense(torch.ones(4)), "bias")(module, (), {}, left).device == left.device
