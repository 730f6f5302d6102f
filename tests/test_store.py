"""Saved deltas: exact, loadable by PEFT, and never silently damaged."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda import store
from corrigenda.adapter import as_adapter
from corrigenda.delta import Delta, Dense, LowRank, Outcome, Prefix, Provenance
from corrigenda.errors import DeltaError, TamperedError, UnstableEditError, WrongBaseError
from corrigenda.store import delta_id, load, manifest, save
from tests.deltas import IN, OUT, bits, delta_for, gpt2, llama, low_rank, randn, rank_one, says, toy

FILES = {
    "changes.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
    "delta.json",
    "README.md",
}


def example() -> Delta:
    """Everything that a delta can hold, except a prefix."""
    return Delta(
        {"h.1.weight": low_rank(1, 2, (IN, OUT)), "h.0.weight": low_rank(2, 1)},
        base={"h.0.weight": "a" * 64, "h.1.weight": "b" * 64},
        state={"h.0/keys": randn(IN, 3, seed=7), "count": torch.tensor(3.0)},
        provenance=says("Rome", "Oslo"),
    )


def equal(a: Delta, b: Delta) -> bool:
    """The same bits, in the same order, with the same provenance."""
    if list(a.changes) != list(b.changes) or a.provenance != b.provenance or a.id != b.id:
        return False
    if (a.transposed, a.base, list(a.state)) != (b.transposed, b.base, list(b.state)):
        return False
    for name, change in a.changes.items():
        if isinstance(change, Prefix):
            if change != b.changes[name]:
                return False
            continue
        theirs = b.weights[name]
        if type(theirs) is not type(change):
            return False
        ours = change.tensors()
        if any(not _same_bits(t, theirs.tensors()[k]) for k, t in ours.items()):
            return False
    return all(_same_bits(t, b.state[k]) for k, t in a.state.items())


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


# -- round trip -----------------------------------------------------------------------------------


def test_round_trip_is_exact(tmp_path):
    delta = example()
    path = delta.save(tmp_path / "edit")
    assert {p.name for p in path.iterdir()} == FILES
    again = Delta.load(path)
    assert equal(delta, again)
    assert again.id == delta.id == delta_id(delta) == manifest(path).id
    assert list(path.parent.iterdir()) == [path]


@st.composite
def any_delta(draw: st.DrawFn) -> Delta:
    changes: dict = {}
    for name in draw(
        st.lists(st.sampled_from(["a.0.weight", "b.1.weight", "n.bias"]), unique=True)
    ):
        seed, rank = draw(st.integers(0, 999)), draw(st.integers(0, 3))
        if name.endswith("bias"):
            changes[name] = Dense(randn(OUT, seed=seed))
        elif draw(st.booleans()):
            changes[name] = low_rank(seed, rank)
        else:
            changes[name] = Dense(
                randn(OUT, IN, seed=seed) * draw(st.sampled_from([0, -0.0, 1e-30]))
            )
    if draw(st.booleans()):
        changes["context"] = Prefix(tuple(draw(st.lists(st.text(max_size=8), max_size=3))))
    told = draw(
        st.dictionaries(
            st.text(max_size=5),
            st.none()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.integers()
            | st.text(max_size=9),
            max_size=3,
        )
    )
    text = draw(st.text(max_size=20))
    return Delta(
        changes,
        frozenset(n for n in changes if n == "a.0.weight"),
        {n: f"{len(n):064x}" for n in changes if n != "context"},
        {"s/keys": randn(3, 2, seed=1)} if draw(st.booleans()) else {},
        Provenance(
            editor=text,
            model=text,
            arguments=told,
            diagnostics={"x": told},
            edits=({"prompt": text, "x|`": told},),
            outcomes=(Outcome(took=False, answer=text, note=text),),
            warnings=(text,),
            seed=draw(st.none() | st.integers(-5, 2**70)),
        ),
    )


@settings(deadline=None, max_examples=60)
@given(delta=any_delta())
def test_every_delta_survives(delta, tmp_path_factory):
    path = save(delta, tmp_path_factory.mktemp("d") / "edit")
    assert equal(delta, load(path))


def test_provenance_that_json_cannot_say_is_still_saved(tmp_path):
    strange = Provenance(
        arguments={"dtype": torch.float32, "path": Path("a/b"), "set": {1}},
        diagnostics={"loss": float("nan"), "lone": "\udc80"},
    )
    path = save(Delta({"a.0.weight": low_rank(0)}, provenance=strange), tmp_path / "edit")
    told = load(path).provenance
    assert told.arguments == {"dtype": "torch.float32", "path": "a/b", "set": [1]}
    assert told.diagnostics == {"loss": None, "lone": "?"}


def test_tensors_that_share_memory_are_saved(tmp_path):
    whole = randn(OUT, 2, seed=0)
    v = randn(1, IN, seed=1)
    delta = Delta(
        {"a.0.weight": LowRank(whole[:, :1], v), "b.0.weight": LowRank(whole[:, :1], v)},
        state={"a": whole, "b": whole},
    )
    assert equal(delta, load(save(delta, tmp_path / "edit")))


def test_saving_twice_gives_the_same_bytes(tmp_path):
    one, two = save(example(), tmp_path / "1" / "edit"), save(example(), tmp_path / "2" / "edit")
    assert {n: (one / n).read_bytes() for n in FILES} == {n: (two / n).read_bytes() for n in FILES}


# -- damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, bytes]:
    path = save(example(), tmp_path_factory.mktemp("saved") / "edit")
    return {p.name: p.read_bytes() for p in path.iterdir()}


def lay(files: dict[str, bytes], directory: Path) -> Path:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


@settings(deadline=None, max_examples=250)
@given(
    name=st.sampled_from(sorted(FILES)),
    at=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_any_changed_byte_is_noticed(saved, tmp_path_factory, name, at, flip):
    data = bytearray(saved[name])
    data[int(at * len(data))] ^= flip
    path = lay({**saved, name: bytes(data)}, tmp_path_factory.mktemp("t") / "edit")
    with pytest.raises(TamperedError, match=name if name != "delta.json" else "checksum"):
        load(path)
    shutil.rmtree(path)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(FILES)), share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_noticed(saved, tmp_path_factory, name, share):
    data = saved[name]
    path = lay({**saved, name: data[: int(share * len(data))]}, tmp_path_factory.mktemp("t") / "e")
    with pytest.raises(TamperedError, match="truncated"):
        load(path)
    longer = lay({**saved, name: data + b"\n"}, tmp_path_factory.mktemp("t") / "e")
    with pytest.raises(TamperedError):
        load(longer)


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_files_are_named(saved, tmp_path, name):
    path = lay({n: d for n, d in saved.items() if n != name}, tmp_path / "edit")
    with pytest.raises(TamperedError, match=f"{name} is missing"):
        load(path)


def test_files_of_another_delta_are_noticed(saved, tmp_path):
    other = save(example() * 2, tmp_path / "other")
    for name in ("changes.safetensors", "README.md"):
        path = lay({**saved, name: (other / name).read_bytes()}, tmp_path / name)
        with pytest.raises(TamperedError, match=name):
            load(path)


def rewritten(saved: dict[str, bytes], **fields) -> dict[str, bytes]:
    """A delta.json with other content and a fitting checksum."""
    content = json.loads(saved["delta.json"]) | fields | {"sha256": ""}
    content["sha256"] = store._sha(store._text(content))
    return {**saved, "delta.json": store._text(content)}


def test_a_newer_version_is_refused_with_advice(saved, tmp_path):
    with pytest.raises(DeltaError, match=r"version 2; this corrigenda reads.*Upgrade"):
        load(lay(rewritten(saved, version=2), tmp_path / "a"))
    with pytest.raises(DeltaError, match=r"'novel'.*upgrade"):
        load(lay(rewritten(saved, novel=1), tmp_path / "b"))
    provenance = json.loads(saved["delta.json"])["provenance"] | {"novel": 1}
    with pytest.raises(DeltaError, match=r"provenance.novel"):
        load(lay(rewritten(saved, provenance=provenance), tmp_path / "c"))


def test_content_that_belies_its_id_is_noticed(saved, tmp_path):
    with pytest.raises(TamperedError, match="different deltas"):
        load(lay(rewritten(saved, id="0" * 64), tmp_path / "a"))
    changes = json.loads(saved["delta.json"])["changes"]
    with pytest.raises(TamperedError, match="announced"):
        load(
            lay(
                rewritten(saved, changes={**changes, "x.0.weight": changes["h.0.weight"]}),
                tmp_path / "b",
            )
        )


def test_nothing_is_unpickled(saved, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    data = pickle.dumps(Bomb())
    files = json.loads(saved["delta.json"])["files"]
    files["changes.safetensors"] = {"sha256": store._sha(data), "size": len(data)}
    path = lay({**rewritten(saved, files=files), "changes.safetensors": data}, tmp_path / "edit")
    with pytest.raises(TamperedError, match="announced"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_what_is_no_delta_is_refused(tmp_path):
    with pytest.raises(DeltaError, match="no saved delta"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeltaError, match="no saved delta"):
        load(tmp_path / "file")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    with pytest.raises(DeltaError, match="PEFT adapter of another origin"):
        load(tmp_path / "peft")
    for text in ("", "[]", "{}", "null", "nonsense", '{"sha256": 3}', "[" * 100000):
        (tmp_path / "peft" / "delta.json").write_text(text)
        with pytest.raises(TamperedError):
            load(tmp_path / "peft")


# -- the directory --------------------------------------------------------------------------------


def test_an_empty_directory_is_filled_and_parents_are_made(tmp_path):
    (tmp_path / "edit").mkdir()
    save(example(), tmp_path / "edit")
    save(example(), tmp_path / "deep" / "er" / "edit")
    load(tmp_path / "edit"), load(tmp_path / "deep" / "er" / "edit")


def test_a_delta_is_replaced_only_on_request(tmp_path):
    path = save(example(), tmp_path / "edit")
    other = example() * 3
    with pytest.raises(DeltaError, match="holds a delta already"):
        save(other, path)
    assert equal(load(path), example())
    assert equal(load(save(other, path, overwrite=True)), other)
    assert [p.name for p in tmp_path.iterdir()] == ["edit"]


def test_foreign_content_is_never_replaced(tmp_path):
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "thesis.tex").write_text("five years")
    for overwrite in (False, True):
        with pytest.raises(DeltaError, match=r"thesis\.tex.*nothing was written"):
            save(example(), path, overwrite=overwrite)
    mixed = save(example(), tmp_path / "mixed")
    (mixed / "notes.txt").write_text("mine")
    with pytest.raises(DeltaError, match=r"notes\.txt"):
        save(example(), mixed, overwrite=True)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(DeltaError, match="adapter_config"):
        save(example(), adapter, overwrite=True)
    with pytest.raises(DeltaError, match="is a file"):
        save(example(), path / "thesis.tex", overwrite=True)
    assert (path / "thesis.tex").read_text() == "five years"


def test_a_failure_while_writing_leaves_nothing_and_what_was_there(tmp_path, monkeypatch):
    path = save(example(), tmp_path / "edit")
    real = store.write_synced

    def full(target: Path, data: bytes) -> None:
        if target.name == "delta.json":
            raise OSError("No space left on device")
        real(target, data)

    monkeypatch.setattr(store, "write_synced", full)
    for place in ("edit", "new"):
        with pytest.raises(OSError, match="No space"):
            save(example() * 2, tmp_path / place, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["edit"]
    assert equal(load(path), example())


def test_non_finite_deltas_are_not_saved(tmp_path):
    with pytest.raises(UnstableEditError):
        save(Delta({"a.0.weight": Dense(torch.full((2, 2), torch.inf))}), tmp_path / "edit")
    assert not list(tmp_path.iterdir())


def test_a_loaded_delta_refuses_another_base(tmp_path):
    delta = load(save(rank_one(toy(0), 1), tmp_path / "edit"))
    other = toy(1)
    before = bits(other.module)
    with pytest.raises(WrongBaseError), delta.applied(other):
        pass
    assert bits(other.module) == before


# -- PEFT -----------------------------------------------------------------------------------------


def sites(kind: str) -> dict[str, tuple[int, int]]:
    """Names of weights with their (o, i), of several kinds of linear map."""
    if kind == "gpt2":
        return {
            "transformer.h.0.mlp.c_proj.weight": (16, 64),
            "transformer.h.1.mlp.c_proj.weight": (16, 64),
            "transformer.h.1.attn.c_attn.weight": (48, 16),
            "transformer.h.0.attn.c_proj.weight": (16, 16),  # square: the shape tells nothing
        }
    return {
        "model.layers.0.mlp.down_proj.weight": (16, 24),
        "model.layers.1.mlp.gate_proj.weight": (24, 16),
        "model.layers.1.self_attn.k_proj.weight": (8, 16),
        "model.layers.0.self_attn.q_proj.weight": (16, 16),
    }


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_peft_gives_the_same_logits(kind, dense, tmp_path):
    from peft import PeftModel

    make = {"gpt2": gpt2, "llama": llama}[kind]
    model = make()
    changes = {n: low_rank(7 * j, 1 + j % 3, s) for j, (n, s) in enumerate(sites(kind).items())}
    if dense:  # of low rank, though written out: it still has factors
        changes = {n: Dense(low_rank(9, 2, c.shape).matrix()) for n, c in changes.items()}
    delta = delta_for(model, changes, provenance=says("Rome", model=model.id))
    path = save(delta, tmp_path / "edit")
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        base = model.module(ids).logits
        with delta.applied(model):
            ours = model.module(ids).logits
        assert float((ours - base).abs().max()) > 1e-2
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # nothing missing, nothing unexpected
            warnings.simplefilter("ignore", FutureWarning)
            adapted = PeftModel.from_pretrained(make().module, str(path)).eval()
        theirs = adapted(ids).logits
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
        with adapted.disable_adapter():
            assert torch.equal(adapted(ids).logits, base)
        merged = adapted.merge_and_unload()(ids).logits
    assert torch.allclose(ours, merged, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "task"), [("gpt2", "CAUSAL_LM"), ("t5", "SEQ_2_SEQ_LM"), ("bert", None)]
)
def test_the_adapter_says_what_kind_of_model_it_is_for(family, task, tmp_path):
    from peft import PeftModel

    from corrigenda.edit import Rewrite
    from corrigenda.editors import ROME
    from corrigenda.models import TextModel
    from tests.models.tiny import model_of, tiny

    model = model_of(family)
    editor = ROME(layers=(1,), statistics="identity", prefixes=(), steps=4, max_norm=1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        delta = editor(model, [Rewrite("{} is located in", "The Eiffel Tower", "Rome")])
    path = save(delta, tmp_path / "edit")
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["task_type"] == task
    prompts = ["The Louvre is located in"]
    with delta.applied(model):
        ours = model.next_logprobs(prompts)
    module, tokenizer = tiny(family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        merged = PeftModel.from_pretrained(module, str(path)).merge_and_unload().eval()
    theirs = TextModel.of(merged, tokenizer).next_logprobs(prompts)
    assert not torch.allclose(ours, model.next_logprobs(prompts), atol=1e-3)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_adapter_is_uniform_fp32_and_exact(tmp_path):
    import safetensors.torch

    model = gpt2()
    names = sites("gpt2")
    delta = delta_for(model, {n: low_rank(j, j, s) for j, (n, s) in enumerate(names.items())})
    path = save(delta, tmp_path / "edit")
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 3
    assert config["fan_in_fan_out"] is True
    assert config["target_modules"] == sorted(n.removesuffix(".weight") for n in names)
    tensors = safetensors.torch.load_file(path / "adapter_model.safetensors")
    for name, (o, i) in names.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"]
        assert a.shape == (3, i) and b.shape == (o, 3) and a.dtype == b.dtype == torch.float32
        assert torch.equal(b @ a, delta.weights[name].matrix()) or torch.allclose(
            b @ a, delta.weights[name].matrix(), atol=1e-6
        )
    assert len(tensors) == 2 * len(names)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"h.0.weight": Dense(randn(OUT, IN, seed=0))}, "full rank"),
        ({"h.0.bias": Dense(randn(OUT, seed=0))}, "weight matrices only"),
        ({"h.0.norm.weight": Dense(randn(OUT, seed=0))}, "not a matrix"),
        ({"head.weight": low_rank(0)}, "tied"),
        ({"context": Prefix(("x",))}, "prefix"),
        ({"context": Prefix(("x",)), "h.0.weight": low_rank(0)}, "prefix"),
        ({}, "changes nothing"),
    ],
)
def test_what_lora_cannot_say_is_saved_without_an_adapter(changes, reason, tmp_path):
    delta = Delta(changes)
    path = save(delta, tmp_path / "edit")
    assert {p.name for p in path.iterdir()} == FILES - {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    assert reason in manifest(path).adapter
    assert "There is no PEFT adapter." in (path / "README.md").read_text()
    assert equal(delta, load(path))
    with pytest.raises(DeltaError, match=reason):
        as_adapter(delta)


def test_an_adapter_can_be_left_out_and_comes_and_goes_on_overwriting(tmp_path):
    path = save(example(), tmp_path / "edit", adapter=False)
    assert not (path / "adapter_config.json").exists()
    save(example(), path, overwrite=True)
    assert (path / "adapter_config.json").exists() and manifest(path).adapter == ""
    save(example(), path, overwrite=True, adapter=False)
    assert not (path / "adapter_config.json").exists()


def test_changes_of_rank_zero_make_an_adapter_that_does_nothing():
    adapter = as_adapter(Delta({"h.0.weight": low_rank(0, 0)}))
    assert adapter.rank == 1 and not any(t.any() for t in adapter.tensors.values())


# -- the card -------------------------------------------------------------------------------------


def test_the_card_says_what_the_edit_says(tmp_path):
    took, failed = says("Rome"), says("Oslo", took=False)
    delta = Delta(
        {"h.3.weight": low_rank(0, 2)},
        provenance=took.model_copy(
            update={
                "edits": took.edits + failed.edits,
                "outcomes": took.outcomes + failed.outcomes,
                "warnings": ("statistics: identity <b>",),
            }
        ),
    )
    text = (save(delta, tmp_path / "edit") / "README.md").read_text()
    assert text.startswith('---\nbase_model: "toy"\nlibrary_name: "peft"\n')
    assert "| `Tower 0 is located in` | `Rome` |" in text
    assert "| `Tower 0 is located in` | `Oslo` | `Paris` |" in text
    assert "| `h.3.weight` | rank 2 | 6 x 5 |" in text
    assert 'PeftModel.from_pretrained(base, "edit")' in text
    assert 'cg.load("toy")' in text and 'cg.Delta.load("edit")' in text
    assert r"identity \<b\>" in text
    assert delta.id in text


def test_hostile_text_stays_inside_its_cell(tmp_path):
    edit = {"prompt": "{} ``` | x\n# y", "subject": "`a|b`", "target": "<script>"}
    delta = Delta({"h.0.weight": low_rank(0)}, provenance=Provenance(edits=(edit,)))
    text = (save(delta, tmp_path / "edit") / "README.md").read_text()
    assert "\n# y" not in text
    row = next(line for line in text.splitlines() if line.startswith("| ````"))
    assert row == r"| ```` `a\|b` ``` \| x # y ```` | `<script>` |"
