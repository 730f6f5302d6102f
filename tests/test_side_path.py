"""Changes beside the weights: quantised layers, small changes of half-precision weights, undo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from corrigenda.acting import Affine, place
from corrigenda.delta import Change, Delta, Dense, LowRank
from corrigenda.edit import Rewrite
from corrigenda.editors.ft import FTM
from corrigenda.editors.rome import ROME
from corrigenda.errors import DeltaError, ModelError, WrongBaseError
from corrigenda.ledger import Ledger
from corrigenda.models.forced import whole
from corrigenda.models.linear import is_linear, matrix, shape, transposed
from corrigenda.models.load import load
from corrigenda.models.text import TextModel
from corrigenda.storage import dequantized, packed, tensor_hash

from .deltas import bits, randn
from .models.tiny import model_of, tiny

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

PROMPTS = ["The Eiffel Tower is located in", "Marie Curie was born in"]
EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
ROME_FAST = ROME(layers=(1,), steps=4, statistics="identity", prefixes=(), max_norm=9.0)


class Int8Linear(nn.Module):
    """A linear map in 8 bits with one scale per row, and its bias in full."""

    def __init__(self, linear: nn.Linear, *, scaled: float = 1.0) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.out_features, linear.in_features
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127  # (o, 1)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale * scaled)
        self.bias = linear.bias

    def dequantize(self) -> Tensor:
        return self.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.dequantize().to(x), self.bias)


class Int8Parameter(nn.Linear):
    """As bitsandbytes does: a subclass whose weight is a parameter of another dtype; this one
    cannot tell what it stands for."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False)
        other = Int8Linear(linear)
        self.weight = nn.Parameter(other.weight, requires_grad=False)  # type: ignore[arg-type]
        self.register_buffer("scale", other.scale)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale)


def quantised(pack: Callable[[nn.Linear], nn.Module] = Int8Linear) -> TextModel:
    """A tiny model with all linear maps of its blocks quantised."""
    module, tokenizer = tiny("llama")
    for path, part in list(module.named_modules()):
        if isinstance(part, nn.Linear) and ".layers." in path:
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, pack(part))
    return load((module, tokenizer))


def unpacked() -> TextModel:
    """The plain model whose weights are those that `quantised` stands for."""
    module, tokenizer = tiny("llama")
    with torch.no_grad():
        for path, part in quantised().module.named_modules():
            if packed(part):
                module.get_submodule(path).weight.copy_(dequantized(part))
    return load((module, tokenizer))


def changed(model: TextModel, layer: int = 1, seed: int = 0, dense: bool = False) -> Delta:
    """A random change of a down-projection, and of its bias if it has one."""
    site = model.site("down", layer)
    o, i = shape(model.linear(site))
    change = LowRank(0.3 * randn(o, 2, seed=seed), 0.3 * randn(2, i, seed=seed + 1))
    changes: dict[str, Change] = {site.parameter: Dense(change.matrix()) if dense else change}
    if getattr(model.linear(site), "bias", None) is not None:
        changes[f"{site.module}.bias"] = Dense(0.3 * randn(o, seed=seed + 2))
    flipped = frozenset({site.parameter} if site.transposed else ())
    return Delta(changes, flipped, {n: model.live.pristine_hash(n) for n in changes})


def logits(model: TextModel) -> Tensor:
    return model.next_logprobs(PROMPTS)


def hooks(model: TextModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


# -- quantised weights ------------------------------------------------------------------------


def test_a_quantised_map_is_read_as_what_it_stands_for() -> None:
    linear = nn.Linear(5, 3)
    small = Int8Linear(linear)
    assert packed(small) and is_linear(small) and not transposed(small) and shape(small) == (3, 5)
    torch.testing.assert_close(matrix(small), linear.weight.detach(), rtol=0, atol=0.01)
    other = Int8Parameter(linear)
    assert packed(other) and shape(other) == (3, 5)
    with pytest.raises(ModelError, match="dequantize"):
        matrix(other)
    assert not packed(linear) and not packed(nn.Embedding(3, 4)) and not packed(nn.LayerNorm(3))


@pytest.mark.parametrize("dense", [False, True])
def test_a_quantised_map_is_edited_as_the_plain_one_would_be(dense: bool) -> None:
    model, plain = quantised(), unpacked()
    before, stored = logits(model), bits(model.module)
    torch.testing.assert_close(before, logits(plain), rtol=1e-5, atol=1e-5)
    delta = changed(model, dense=dense)
    with delta.applied(model), replace(delta, base={}).applied(plain):
        assert bits(model.module) == stored, "what is stored stands still"
        assert not torch.allclose(logits(model), before, atol=1e-2)
        torch.testing.assert_close(logits(model), logits(plain), rtol=1e-4, atol=1e-4)
        assert model.generate(PROMPTS, max_new_tokens=4) == plain.generate(
            PROMPTS, max_new_tokens=4
        )
        site = model.site("down", 1)
        torch.testing.assert_close(model.weight(site), plain.weight(site))
        assert not model.live.touched and not model.live.acts and not whole(model)
    assert torch.equal(logits(model), before) and hooks(model) == 0


def test_a_map_that_cannot_be_read_can_still_be_edited() -> None:
    model, plain = quantised(Int8Parameter), unpacked()
    before, delta = logits(model), changed(model)
    with delta.applied(model), replace(delta, base={}).applied(plain):
        torch.testing.assert_close(logits(model), logits(plain), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model), before)


def test_in_any_order_as_if_the_others_had_never_been() -> None:
    model = quantised()
    deltas = [changed(model, seed=s) for s in (1, 2, 3)]
    seen = {}
    for j, delta in enumerate(deltas):
        with delta.applied(model):
            seen[j] = logits(model)
    handles = [model.live.push(delta) for delta in deltas]
    model.live.pop(handles[0])
    model.live.pop(handles[2])
    assert torch.equal(logits(model), seen[1])
    with model.live.suspended():
        assert hooks(model) == 0
    assert torch.equal(logits(model), seen[1])
    model.live.clear()
    assert hooks(model) == 0


def test_the_base_is_all_that_is_stored_scales_included() -> None:
    model, other = quantised(), quantised(lambda linear: Int8Linear(linear, scaled=1.5))
    delta = changed(model)
    name = model.site("down", 1).parameter
    assert torch.equal(model.live.parameter(name), other.live.parameter(name))
    with pytest.raises(WrongBaseError, match="sha256"):
        other.live.push(delta)
    assert hooks(other) == 0
    assert model.weights_hash() == quantised().weights_hash() != other.weights_hash()
    wrong = Delta({name: Dense(torch.zeros(3, 3))})
    with pytest.raises(WrongBaseError, match="shape"):
        model.live.push(wrong)


@pytest.mark.parametrize("editor", [ROME_FAST, FTM(layers=(1,), steps=5, lr=1e-2)])
def test_editors_solve_on_quantised_models(editor) -> None:
    model, plain = quantised(), unpacked()
    before = bits(model.module)
    first, same = editor(model, [EDIT]), editor(plain, [EDIT])
    assert bits(model.module) == before and hooks(model) == 0
    (name,) = first.weights
    torch.testing.assert_close(
        first.weights[name].matrix(), same.weights[name].matrix(), rtol=2e-2, atol=1e-4
    )
    # And a second edit on top of the first, whose change is beside the weights by then.
    second = Rewrite("{} was born in", "Marie Curie", "Berlin")
    more, as_plain = editor(model, [second], onto=first), editor(plain, [second], onto=same)
    torch.testing.assert_close(
        more.weights[name].matrix(), as_plain.weights[name].matrix(), rtol=2e-2, atol=1e-3
    )
    with first.applied(model), more.applied(model):
        assert (
            model.score([(second.text, second.target)])[0].mean
            > model.score([(second.text, "Paris")])[0].mean
        )


def test_quantised_weights_are_not_merged_and_what_cannot_act_is_refused(tmp_path: Path) -> None:
    model = quantised()
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    ledger.record(changed(model))
    ledger.attach(model)
    assert hooks(model) == 1
    with pytest.raises(DeltaError, match="quantised"):
        ledger.export(None, tmp_path / "merged", model)
    assert hooks(model) == 1
    model.live.clear()
    name = "model.embed_tokens.weight"
    codes = torch.zeros(model.live.parameter(name).shape, dtype=torch.int8)
    embedding = model.module.get_submodule("model.embed_tokens")
    embedding.weight = nn.Parameter(codes, requires_grad=False)
    with pytest.raises(ModelError, match="no weight or bias of a linear map"):
        model.live.push(Delta({name: Dense(torch.zeros(codes.shape))}))


# -- half precision ---------------------------------------------------------------------------


def test_a_small_change_is_lost_to_bfloat16_but_not_beside_it() -> None:
    """A change of 0.3 % of ‖W‖, as one edit's is."""
    model = model_of("llama")
    model.module.bfloat16()
    site = model.site("down", 1)
    linear, original = model.linear(site), model.weight(site).clone()
    noise = randn(*original.shape, seed=3)
    d = 0.003 * float(original.float().norm() / noise.norm()) * noise
    delta = Delta({site.parameter: Dense(d)})
    with delta.applied(model):
        got = model.weight(site).float() - original.float()
    lost = float((got - d).norm() / d.norm())
    assert 0.3 < lost < 0.9, f"bfloat16 was expected to lose about half; lost {lost:.2f}"
    model.side_path = True
    x = randn(7, original.shape[1], seed=4).bfloat16()
    with torch.no_grad():
        own = linear(x)
        with delta.applied(model):
            assert torch.equal(linear.weight, original)
            assert torch.equal(linear(x), (own.float() + x.float() @ d.T).bfloat16())
            # The sum is that of fp32: what is left is its own rounding, relative to W.
            got = model.weight(site) - original.float()
            assert float((got - d).norm() / d.norm()) < 1e-4
        assert torch.equal(linear(x), own)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "bloom", "mixtral", "bert", "t5"])
def test_beside_the_weights_or_in_them(family: str, dense: bool) -> None:
    written, beside = model_of(family), model_of(family)
    beside.side_path = True
    before, delta = bits(beside.module), changed(written, dense=dense)
    plain = logits(beside)
    with delta.applied(written), delta.applied(beside):
        assert bits(beside.module) == before != bits(written.module)
        torch.testing.assert_close(logits(beside), logits(written), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(beside), plain) and hooks(beside) == 0


def test_double_precision_stays_double() -> None:
    model = model_of("llama")
    model.module.double()
    model.side_path = True
    with changed(model).applied(model):
        assert model.weight(model.site("down", 1)).dtype is torch.float64
        assert float(logits(model).exp().sum()) == pytest.approx(len(PROMPTS), abs=1e-5)


def test_changes_of_activations_see_the_changed_map() -> None:
    written, beside = model_of("gpt2"), model_of("gpt2")
    beside.side_path = True
    site = written.site("down", 1)
    o = shape(written.linear(site))[0]
    erase = Affine(-randn(o, 1, seed=5), 0.1 * randn(1, o, seed=6), torch.zeros(o))
    acting = Delta({place(site.module): erase})
    with acting.applied(written), acting.applied(beside):  # the change of weights comes later
        delta = changed(written)
        with delta.applied(written), delta.applied(beside):
            torch.testing.assert_close(logits(beside), logits(written), rtol=1e-4, atol=1e-4)
            assert beside.live.acts


def test_tied_weights_and_norms_are_written_as_always() -> None:
    model = model_of("qwen2")
    model.side_path = True
    shapes = {n: model.live.parameter(n).shape for n in ("lm_head.weight", "model.norm.weight")}
    delta = Delta({n: Dense(0.1 * randn(*s, seed=7)) for n, s in shapes.items()})
    with delta.applied(model):
        assert model.live.touched == {"model.embed_tokens.weight", "model.norm.weight"}
        assert hooks(model) == 0
    assert not model.live.touched


def test_the_path_is_chosen_before_deltas_are_applied(tmp_path: Path) -> None:
    module, tokenizer = tiny("llama")
    model = load((module, tokenizer), side_path=True)
    assert model.side_path
    delta = changed(model)
    with delta.applied(model), pytest.raises(DeltaError, match="Remove them"):
        model.side_path = False
    with delta.applied(model):
        model.side_path = True  # no change
    model.side_path = False
    with delta.applied(model):
        assert model.live.touched


def test_merging_writes_whatever_the_path(tmp_path: Path) -> None:
    """A checkpoint holds the edits, and the ledger knows its tensors by their hashes."""
    hashes = []
    for side in (False, True):
        model = model_of("llama")
        model.module.bfloat16()
        model.side_path = side
        ledger = Ledger.open(tmp_path / f"ledger-{side}")
        ledger.bind(model)
        ledger.record(changed(model))
        ledger.attach(model)
        now = logits(model)
        path = ledger.export(None, tmp_path / f"merged-{side}", model)
        assert torch.equal(logits(model), now) and model.side_path is side
        merged = load(path, device="cpu")
        name = model.site("down", 1).parameter
        hashes.append(tensor_hash(merged.live.parameter(name).data))
        assert hashes[-1] != model.live.pristine_hash(name)
        assert ledger.entries()[-1].after == {name: hashes[-1]}
    assert hashes[0] == hashes[1]


# -- bitsandbytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("bits_", [8, 4])
def test_bitsandbytes(bits_: int) -> None:
    """On a machine that has it; it runs on CPUs too."""
    bnb = pytest.importorskip("bitsandbytes")

    def pack(linear: nn.Linear) -> nn.Module:
        if linear.in_features % 64:  # 4-bit blocks are of 64
            return linear
        made = (
            bnb.nn.Linear8bitLt(linear.in_features, linear.out_features, bias=False,
                                has_fp16_weights=False)
            if bits_ == 8
            else bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=False,
                                   quant_type="nf4")
        )  # fmt: skip
        made.load_state_dict(linear.state_dict())
        return made.to("cpu")

    model = quantised(pack)
    site, before = model.site("down", 1), logits(model)
    linear, name = model.linear(site), site.parameter
    assert packed(linear) and shape(linear) == shape(model_of("llama").linear(site))
    hashed = model.live.pristine_hash(name)
    assert hashed == quantised(pack).live.pristine_hash(name)
    x = randn(5, shape(linear)[1], seed=8)
    with torch.no_grad():
        # 8-bit kernels round the input too.
        torch.testing.assert_close(linear(x), x @ matrix(linear).T.float(), rtol=0.1, atol=0.1)
        own, delta = linear(x), changed(model)
        with delta.applied(model):
            wanted = own + x @ delta.weights[name].matrix().T
            torch.testing.assert_close(linear(x), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(model), before)
    solved = ROME_FAST(model, [EDIT])
    with solved.applied(model):
        assert not torch.equal(logits(model), before)
    assert torch.equal(logits(model), before) and model.live.pristine_hash(name) == hashed
