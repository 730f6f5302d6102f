"""What the contract says, on a CUDA device: every editor, in fp32 and bfloat16; blocks in memory.

Kernels of a GPU add in an order that is not fixed, so "the same seed, the same delta" holds there up
to rounding; that a model comes back bit for bit holds as everywhere.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from corrigenda.delta import Delta
from corrigenda.editors import TABLE, editor_class
from corrigenda.editors.ft import FTM
from corrigenda.editors.rome import ROME
from corrigenda.models.load import load
from corrigenda.models.text import TextModel
from corrigenda.storage import away

from .contract import EDITS, PROMPTS, bits, editor_of, logits, solve
from .models.test_placement import EDIT, WITH, table
from .models.tiny import KIND, model_of, some_text, tiny

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

FAMILIES = ("gpt2", "llama", "mixtral", "t5", "bert")
PAIRS = [
    (name, family)
    for name in sorted(TABLE)
    for family in FAMILIES
    if KIND[family] in editor_class(name).kinds
]

ABOVE = 1
"""A block in memory that is not the last: there an encoder's subject reaches no mask any more."""


@functools.cache
def on_gpu(family: str, dtype: str) -> TextModel:
    return load(tiny(family), device="cuda", dtype=dtype)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(some_text(600), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_contract(name: str, family: str, dtype: str, corpus: str, tmp_path: Path) -> None:
    model = on_gpu(family, dtype)
    assert model.device.type == "cuda"
    editor = editor_of(name, corpus)
    one, other = EDITS[type(editor).takes]
    before, plain = bits(model), logits(model)
    first = solve(editor, model, one)
    assert first and bits(model) == before
    with first.applied(model):
        edited = logits(model)
    assert torch.equal(logits(model), plain) and bits(model) == before
    second = solve(editor, model, other, onto=first)
    a, b = model.live.push(first), model.live.push(second)
    model.live.pop(a)
    model.live.pop(b)
    assert bits(model) == before
    with Delta.load(first.save(tmp_path / "delta")).applied(model):
        assert torch.equal(logits(model), edited)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_answers_as_on_a_cpu(family: str) -> None:
    here, there = model_of(family), on_gpu(family, "float32")
    torch.testing.assert_close(
        there.next_logprobs(PROMPTS).cpu(), here.next_logprobs(PROMPTS), rtol=1e-3, atol=1e-3
    )
    editor = ROME(layers=(1,), **WITH)
    (name, ours), (_, same) = (
        next(iter(editor(model, [EDIT]).weights.items())) for model in (there, here)
    )
    found, wanted = ours.matrix().cpu(), same.matrix()
    assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), 0) > 0.99, name


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "bert"])
@pytest.mark.parametrize("method", [ROME, FTM])
def test_blocks_in_memory_beside_a_gpu(family: str, method: type) -> None:
    accelerate = pytest.importorskip("accelerate")
    module, tokenizer = tiny(family)
    devices = table(module, TextModel.of(module, tokenizer).layout.blocks, "cpu")
    blocks = TextModel.of(module, tokenizer).layout.blocks
    upper = {p for p in devices if p.startswith(f"{blocks}.") and not p.endswith(".0")}
    devices = {path: "cpu" if path in upper else 0 for path in devices}
    model = load((accelerate.dispatch_model(module, devices, main_device=0), tokenizer))
    assert model.device.type == "cuda"
    assert away(model.live.parameter(model.site("down", ABOVE).parameter))
    before, plain = model.weights_hash(), model.next_logprobs(PROMPTS)
    for layer in (0, ABOVE):
        editor = method(layers=(layer,), **(WITH if method is ROME else {"steps": 4, "lr": 1e-2}))
        delta = editor(model, [EDIT])
        with delta.applied(model):
            assert not torch.equal(model.next_logprobs(PROMPTS), plain)
        assert torch.equal(model.next_logprobs(PROMPTS), plain)
        assert model.weights_hash() == before


@pytest.mark.parametrize("bits_", [8, 4])
def test_bitsandbytes_on_a_gpu(bits_: int, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    import transformers

    module, tokenizer = tiny("llama")
    module.save_pretrained(tmp_path)
    config = transformers.BitsAndBytesConfig(load_in_8bit=bits_ == 8, load_in_4bit=bits_ == 4)
    quantised = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config
    )
    model = load((quantised, tokenizer))
    plain, before = model.next_logprobs(PROMPTS), model.weights_hash()
    delta = ROME(layers=(1,), **WITH)(model, [EDIT])
    with delta.applied(model):
        assert not torch.equal(model.next_logprobs(PROMPTS), plain)
    assert torch.equal(model.next_logprobs(PROMPTS), plain) and model.weights_hash() == before
