"""The ledger: nothing acknowledged is lost, nothing damaged is believed, any edit comes out."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.delta import Delta, Dense, Prefix
from corrigenda.errors import (
    DeltaError,
    LedgerError,
    TamperedError,
    UnstableEditError,
    WrongBaseError,
)
from corrigenda.journal import Journal
from corrigenda.ledger import AdapterWarning, Ledger
from corrigenda.store import load, save
from tests.deltas import IN, OUT, bits, delta_for, gpt2, low_rank, randn, rank_one, toy

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model():
    return toy()


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger.open(tmp_path / "ledger")


# -- opening --------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty_and_reopens(tmp_path):
    ledger = Ledger.open(tmp_path / "a" / "ledger")
    assert ledger.entries() == [] and ledger.active() == []
    assert not ledger.merge()
    again = Ledger.open(tmp_path / "a" / "ledger", create=False)
    assert again.entries() == []


def test_what_is_no_ledger_is_refused(tmp_path, model):
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    with pytest.raises(LedgerError, match="holds other files"):
        Ledger.open(tmp_path / "notes")
    with pytest.raises(LedgerError, match="is a saved delta, not a ledger"):
        Ledger.open(save(rank_one(model, 1), tmp_path / "delta"))
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(tmp_path / "notes" / "a.txt")
    assert sorted(p.name for p in (tmp_path / "notes").iterdir()) == ["a.txt"]


def test_a_crash_while_starting_is_no_obstacle(tmp_path):
    for stage in ("", ".lock", "deltas"):
        directory = tmp_path / f"after{stage}"
        directory.mkdir()
        if stage == ".lock":
            (directory / stage).touch()
        elif stage:
            (directory / stage).mkdir()
            (directory / ".HEAD.7.part").touch()
        assert Ledger.open(directory).entries() == []


# -- recording and undoing ------------------------------------------------------------------------


def test_records_say_what_when_and_why(ledger, model):
    delta = rank_one(model, 3)
    entry = ledger.record(delta, note="asked for by Ada", who="Bo")
    assert (entry.seq, entry.kind, entry.delta) == (1, "apply", delta.id)
    assert (entry.note, entry.who) == ("asked for by Ada", "Bo")
    assert entry.summary == "Tower 0 is located in → City 3"
    assert entry.time.endswith("+00:00")
    again = Ledger.open(ledger.directory)
    assert again.entries() == [entry] == again.active()
    assert again.delta(entry).id == delta.id
    detail = again.show(1)
    assert detail.active and detail.manifest.provenance == delta.provenance


def test_undo_in_any_order_by_any_name(ledger, model):
    deltas = [rank_one(model, j) for j in range(5)]
    entries = [ledger.record(d) for d in deltas]
    ledger.undo(entries[3])
    ledger.undo(1)
    ledger.undo(deltas[2].id[:10])
    ledger.undo(deltas[4])
    ledger.undo(f"#{entries[1].seq}")
    assert ledger.active() == []
    assert [e.kind for e in ledger.entries()] == ["apply"] * 5 + ["undo"] * 5
    assert [e.target for e in ledger.entries()[5:]] == [4, 1, 3, 5, 2]
    assert ledger.show(4).undone == ledger.entries()[5]
    assert all((ledger.directory / "deltas" / d.id / "delta.json").exists() for d in deltas)


def test_an_undone_edit_can_be_recorded_again(ledger, model):
    delta = rank_one(model, 1)
    ledger.record(delta)
    with pytest.raises(LedgerError, match="recorded and active already, as entry 1"):
        ledger.record(delta)
    ledger.undo(delta)
    third = ledger.record(delta)
    assert ledger.active() == [third] and third.seq == 3
    assert ledger.show(delta.id[:8]).entry == third
    assert ledger.show(1).undone is not None
    ledger.undo(delta.id)
    assert ledger.active() == []


def test_redo_is_one_more_entry_with_the_same_delta(ledger, model):
    delta = rank_one(model, 1)
    first = ledger.record(delta, note="why")
    with pytest.raises(LedgerError, match="active already"):
        ledger.redo(first)
    ledger.undo(first)
    ledger.record(rank_one(model, 2))
    again = ledger.redo(first.seq, who="me")
    assert (again.kind, again.delta, again.note, again.who) == ("apply", delta.id, "why", "me")
    assert [e.seq for e in ledger.active()] == [3, 4]
    assert ledger.show(first.seq).undone is not None
    assert Ledger.open(ledger.directory).active() == ledger.active()


def test_an_order_holds_for_all_that_is_active_and_for_what_comes(ledger, model):
    ledger.bind(model)
    deltas = [rank_one(model, j) for j in range(3)]
    a, b, c = (ledger.record(d).seq for d in deltas)
    before = ledger.entries()
    for wrong in ([a, b], [a, b, c, c], [a, a, b], []):
        with pytest.raises(LedgerError, match="exactly once"):
            ledger.order(wrong)
    with pytest.raises(LedgerError, match="no entry 99"):
        ledger.order([a, b, 99])
    assert [e.seq for e in ledger.order([a, b, c])] == [a, b, c]
    assert ledger.entries() == before  # the order in force: nothing to write
    ledger.order([c, a, b], note="later first")
    assert ledger.entries()[: len(before)] == before  # the log only grows
    assert [e.seq for e in ledger.active()] == [c, a, b]
    last = ledger.entries()[-1]
    assert (last.kind, last.order, last.note, last.version) == (
        "order",
        (c, a, b),
        "later first",
        2,
    )
    d = ledger.record(rank_one(model, 9)).seq
    ledger.undo(a)
    again = Ledger.open(ledger.directory)
    assert [e.seq for e in again.active()] == [c, b, d]
    with pytest.raises(LedgerError, match="records an order"):
        again.show(last.seq)
    with pytest.raises(LedgerError, match="undone already"):
        again.order([a, b, c, d])


def test_a_model_in_another_order_is_recognised(ledger, model):
    """What the log says of the weights after an order is what they are."""
    ledger.bind(model)
    a, b, c = (ledger.record(rank_one(model, j)).seq for j in range(3))
    ledger.order([b, c, a])
    ledger.attach(model)
    assert ledger.verify(model).current
    ledger.order([c, b, a])
    ledger.undo(b)
    model.live.clear()
    ledger.attach(model)
    assert ledger.verify(model).current


def test_references_that_fail_say_what_there_is(ledger, model):
    with pytest.raises(LedgerError, match=r"no entry 7. It is empty"):
        ledger.undo(7)
    deltas = [rank_one(model, j) for j in range(40)]
    for delta in deltas:
        ledger.record(delta)
    firsts = [d.id[0] for d in deltas]
    shared = next(c for c in "abcdef0123456789" if firsts.count(c) > 1 and not c.isdecimal())
    with pytest.raises(LedgerError, match=r"beginning of several ids: .*City"):
        ledger.undo(shared)
    wrong = deltas[5].id[:9] + ("0" if deltas[5].id[9] != "0" else "1")
    with pytest.raises(LedgerError, match=f"Did you mean .*{deltas[5].id[:12]}"):
        ledger.show(wrong)
    with pytest.raises(LedgerError, match=r"There are .* 40 "):
        ledger.delta("zebra")
    with pytest.raises(LedgerError, match="no entry ''"):
        ledger.undo("")
    undo = ledger.undo(6)
    with pytest.raises(LedgerError, match=f"undone already, by entry {undo.seq}"):
        ledger.undo(6)
    with pytest.raises(LedgerError, match=r"undoes entry 6.*record its delta again"):
        ledger.undo(undo)


def test_the_record_of_the_base_is_no_edit(ledger, model):
    ledger.bind(model)
    with pytest.raises(LedgerError, match="Entry 1 records the base model"):
        ledger.undo(1)
    assert ledger.record(rank_one(model, 1)).seq == 2
    with pytest.raises(LedgerError, match="There are 2 "):
        ledger.undo(9)


def test_refusals_write_nothing(ledger, model):
    ledger.record(rank_one(model, 1))
    before = {p: p.read_bytes() for p in ledger.directory.rglob("*") if p.is_file()}
    with pytest.raises(LedgerError, match="changes nothing"):
        ledger.record(Delta())
    with pytest.raises(UnstableEditError):
        ledger.record(Delta({"h.0.weight": Dense(torch.full((OUT, IN), torch.nan))}))
    with pytest.raises(WrongBaseError, match="A ledger is for one model"):
        ledger.record(rank_one(toy(1), 2))
    ledger.bind(model)
    before = {p: p.read_bytes() for p in ledger.directory.rglob("*") if p.is_file()}
    with pytest.raises(WrongBaseError, match="not the tensor"):
        ledger.record(rank_one(toy(1), 2, "h.1.weight"))
    with pytest.raises(WrongBaseError, match="no parameter"):
        ledger.record(Delta({"h.7.weight": low_rank(0)}))
    unbound = Ledger.open(ledger.directory)
    with pytest.raises(WrongBaseError, match=r"no tensor h.7.weight"):
        unbound.record(Delta({"h.7.weight": low_rank(0)}))
    with pytest.raises(WrongBaseError, match="A ledger is for one model"):
        unbound.record(rank_one(toy(1), 2, "h.1.weight"))
    with pytest.raises(WrongBaseError, match="A ledger is for one model"):
        unbound.bind(toy(1))
    assert before == {p: p.read_bytes() for p in ledger.directory.rglob("*") if p.is_file()}


def test_text_of_any_kind_can_be_noted(ledger, model):
    entry = ledger.record(rank_one(model, 1), note='line\none\u2028"\\ \x00 é 東京', who="\udc80")
    assert Ledger.open(ledger.directory).entries() == [entry]
    assert entry.note == 'line\none\u2028"\\ \x00 é 東京' and entry.who == "?"


def test_two_ledgers_on_one_directory_see_each_other(ledger, model):
    other = Ledger.open(ledger.directory)
    ledger.record(rank_one(model, 1))
    other.record(rank_one(model, 2))
    ledger.undo(2)
    assert other.entries() == ledger.entries() and len(other.active()) == 1


# -- acting ---------------------------------------------------------------------------------------


def test_attach_is_bit_exact_and_idempotent(ledger, model):
    before = bits(model.module)
    deltas = [rank_one(model, j) for j in range(4)]
    for delta in deltas:
        ledger.record(delta)
    ledger.undo(2)
    handles = ledger.attach(model)
    assert list(handles) == [1, 3, 4]
    direct = toy()
    for j in (0, 2, 3):
        direct.live.push(deltas[j])
    assert bits(model.module) == bits(direct.module)
    assert ledger.attach(model) == {}
    for handle in handles.values():
        model.live.pop(handle)
    assert bits(model.module) == before


def test_attach_adds_all_or_nothing(ledger):
    half = toy(0, torch.float16)
    big = torch.full((OUT, IN), 4e4)
    ledger.record(delta_for(half, {"h.0.weight": Dense(big)}))
    ledger.record(delta_for(half, {"h.0.weight": Dense(big * 1.0001)}))
    before = bits(half.module)
    with pytest.raises(UnstableEditError, match="overflows"):
        ledger.attach(half)
    assert bits(half.module) == before
    with pytest.raises(WrongBaseError):
        ledger.attach(toy(1, torch.float16))


def test_merge_sums_and_diff_compares(ledger, model):
    a, b = rank_one(model, 1), rank_one(model, 2)
    c = delta_for(
        model,
        {
            "h.0.weight": a.weights["h.0.weight"].scaled(-2),
            "h.1.weight": low_rank(5, shape=(IN, OUT)),
        },
        provenance=a.provenance,
    )
    for delta in (a, b, c):
        ledger.record(delta)
    total = ledger.merge()
    wanted = sum(d.weights["h.0.weight"].matrix() for d in (a, b, c))
    assert torch.allclose(total.weights["h.0.weight"].matrix(), wanted, atol=1e-5)
    assert len(ledger.merge([1, 2]).provenance.edits) == 2
    ledger.undo(3)
    assert torch.allclose(
        ledger.merge().weights["h.0.weight"].matrix(),
        (a + b).weights["h.0.weight"].matrix(),
        atol=1e-5,
    )
    found = ledger.diff(1, 3)
    assert found.shared == ("h.0.weight",)
    assert found.cosines["h.0.weight"] == pytest.approx(-1)
    norm = a.norms()["h.0.weight"]
    assert found.norms["h.0.weight"] == pytest.approx((norm, 2 * norm))
    assert found.norms["h.1.weight"] == (0.0, pytest.approx(c.norms()["h.1.weight"]))
    assert -1 < found.cosine < 0
    assert found.common == a.provenance.edits and not found.only_a and not found.only_b
    ab = ledger.diff(a, b)
    x, y = (d.weights["h.0.weight"].matrix().flatten() for d in (a, b))
    assert ab.cosine == pytest.approx(float(torch.cosine_similarity(x, y, 0)), abs=1e-5)
    assert not ab.common and ab.only_a == a.provenance.edits
    assert "cosine" in str(ab) and json.dumps(ab.to_dict())
    assert ledger.diff(1, 1).cosine == pytest.approx(1)


def test_diff_mixes_forms(ledger, model):
    low = rank_one(model, 1)
    same = delta_for(model, {"h.0.weight": Dense(low.weights["h.0.weight"].matrix())})
    zero = delta_for(model, {"h.0.weight": Dense(torch.zeros(OUT, IN))})
    for delta in (low, same, zero):
        ledger.record(delta)
    assert ledger.diff(1, 2).cosine == pytest.approx(1)
    assert ledger.diff(2, 1).cosine == pytest.approx(1)
    assert ledger.diff(2, 2).cosine == pytest.approx(1)
    assert ledger.diff(1, 3).cosine == 0


# -- exporting ------------------------------------------------------------------------------------


def test_export_of_one_and_of_all(ledger, tmp_path, model):
    a, b = rank_one(model, 1), rank_one(model, 2)
    with pytest.raises(LedgerError, match="nothing to export"):
        ledger.export(None, tmp_path / "none")
    ledger.record(a)
    ledger.record(b)
    one = ledger.export(1, tmp_path / "one")
    assert load(one).id == a.id and (one / "adapter_config.json").exists()
    both = load(ledger.export(None, tmp_path / "both"))
    assert both.weights["h.0.weight"].rank == 2 and len(both.provenance.edits) == 2
    with pytest.raises(DeltaError, match="holds a delta already"):
        ledger.export(None, tmp_path / "both")


def test_export_says_when_there_is_no_adapter(ledger, tmp_path, model):
    ledger.record(delta_for(model, {"h.0.weight": Dense(randn(OUT, IN, seed=1))}))
    with pytest.warns(AdapterWarning, match=r"no PEFT adapter.*full rank"):
        ledger.export(1, tmp_path / "dense")
    assert load(tmp_path / "dense").weights["h.0.weight"].shape == (OUT, IN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_checkpoint_has_the_live_weights(dtype, ledger, tmp_path):
    from transformers import GPT2LMHeadModel

    model = gpt2()
    model.module.to(dtype)
    before = bits(model.module)
    name = "transformer.h.0.mlp.c_proj.weight"
    for seed in (1, 2):
        ledger.record(delta_for(model, {name: low_rank(seed, shape=(16, 64)).scaled(0.01)}))
    ledger.bind(model)
    ledger.attach(model)
    live = bits(model.module)
    path = ledger.export(None, tmp_path / "merged", merged_model=model)
    assert bits(model.module) == live
    model.live.clear()
    assert bits(model.module) == before
    read = GPT2LMHeadModel.from_pretrained(path, dtype=dtype)
    assert bits(read) == live
    told = json.loads((path / "merge.json").read_text())
    assert [e["id"] for e in told["edits"]] == [e.delta for e in ledger.active()]
    lost = told["tensors"][name]["lost"]
    assert lost < 1e-5 if dtype == torch.float32 else 1e-3 < lost < 1
    with pytest.raises(LedgerError, match="not empty"):
        ledger.export(1, path, merged_model=model)
    from tests.deltas import Fake

    found = ledger.verify(Fake(read))
    assert found.current and found.exact and len(found.contained) == 2


def test_prefixes_are_kept_and_not_merged(ledger, tmp_path, model):
    delta = Delta({"context": Prefix(("Rome has a tower. ",))})
    ledger.record(delta)
    ledger.attach(model)
    assert model.generate(["Q?"], max_new_tokens=99) == ["Rome has a tower. Q?"]
    with pytest.raises(DeltaError, match="cannot be merged into weights"):
        ledger.export(None, tmp_path / "x", merged_model=model)
    assert not (tmp_path / "x").exists()
    assert ledger.delta(1).prefix == delta.prefix
    assert ledger.verify(model).contextual == (delta.id,)


# -- damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict[str, bytes], Path]:
    """The log of six records, and the ledger that it belongs to."""
    model = toy()
    ledger = Ledger.open(tmp_path_factory.mktemp("written") / "ledger")
    ledger.bind(model)
    for j in range(3):
        ledger.record(rank_one(model, j), note=f"number {j}")
    ledger.undo(2)
    ledger.record(rank_one(model, 9))
    return {n: (ledger.directory / n).read_bytes() for n in ("ledger.jsonl", "HEAD")}, (
        ledger.directory
    )


@contextlib.contextmanager
def ledger_with(written, tmp_path_factory, **changed: bytes):
    files, directory = written
    place = tmp_path_factory.mktemp("l") / "ledger"
    place.mkdir()
    os.symlink(directory / "deltas", place / "deltas")
    for name, data in files.items():
        (place / name).write_bytes(changed.get(name.removesuffix(".jsonl"), data))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@settings(deadline=None, max_examples=150)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_of_the_log_is_named_by_its_line(written, tmp_path_factory, at, flip):
    data = bytearray(written[0]["ledger.jsonl"])
    place = int(at * len(data))
    line = data[:place].count(b"\n") + 1
    data[place] ^= flip
    with ledger_with(written, tmp_path_factory, ledger=bytes(data)) as directory:
        with pytest.raises(TamperedError, match=f"line {line}:"):
            Ledger.open(directory)
        assert (directory / "ledger.jsonl").read_bytes() == bytes(data)


@settings(deadline=None, max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_of_head_is_noticed(written, tmp_path_factory, at, flip):
    data = bytearray(written[0]["HEAD"])
    data[int(at * len(data))] ^= flip
    with (
        ledger_with(written, tmp_path_factory, HEAD=bytes(data)) as directory,
        pytest.raises(TamperedError),
    ):
        Ledger.open(directory)


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(1, 5000))
def test_acknowledged_records_that_are_cut_off_are_missed(written, tmp_path_factory, cut):
    data = written[0]["ledger.jsonl"]
    shorter = data[: max(0, len(data) - cut)]
    with (
        ledger_with(written, tmp_path_factory, ledger=shorter) as directory,
        pytest.raises(TamperedError, match=r"line|acknowledged"),
    ):
        Ledger.open(directory)


def test_removed_swapped_and_doubled_lines_are_noticed(written, tmp_path_factory):
    lines = written[0]["ledger.jsonl"].splitlines(keepends=True)
    for wrong in (
        lines[1:],
        [*lines[:2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines[:2], *lines[1:]],
        [*lines, lines[-1]],
        [*lines[:3], b"\n", *lines[3:]],
    ):
        with ledger_with(written, tmp_path_factory, ledger=b"".join(wrong)) as directory:
            if wrong[:-1] == lines:  # beyond HEAD and last: a record that was never acknowledged
                assert len(Ledger.open(directory).entries()) == len(lines)
            else:
                with pytest.raises(TamperedError, match=r"line [1-7]:"):
                    Ledger.open(directory)


@settings(deadline=None, max_examples=80)
@given(kept=st.integers(1, 5), share=st.floats(0, 1), hole=st.booleans())
def test_a_torn_record_is_cut_off_and_nothing_else(written, tmp_path_factory, kept, share, hole):
    """What a crash leaves: HEAD names the last acknowledged record, the next is half there."""
    lines = written[0]["ledger.jsonl"].splitlines(keepends=True)
    check = json.loads(lines[kept - 1])["check"]
    torn = lines[kept][: int(share * len(lines[kept]))]
    if hole:  # the length reached the disk before the bytes did
        torn = torn + bytes(len(lines[kept]) - len(torn))
    with ledger_with(
        written,
        tmp_path_factory,
        ledger=b"".join(lines[:kept]) + torn,
        HEAD=f"{kept} {check}\n".encode(),
    ) as directory:
        reader = Journal(directory)
        whole = torn == lines[kept]
        assert len(reader.refresh()) == kept + whole  # readers wait, and repair nothing
        assert (directory / "ledger.jsonl").read_bytes() == b"".join(lines[:kept]) + torn
        ledger = Ledger.open(directory)
        assert len(ledger.entries()) == kept + whole
        assert (directory / "ledger.jsonl").read_bytes() == b"".join(lines[: kept + whole])
        assert (directory / "HEAD").read_text().startswith(f"{kept + whole} ")


def test_a_lost_head_is_written_again(written, tmp_path_factory):
    with ledger_with(written, tmp_path_factory) as directory:
        (directory / "HEAD").unlink()
        assert len(Ledger.open(directory).entries()) == 6
        assert (directory / "HEAD").read_bytes() == written[0]["HEAD"]


def test_damaged_and_missing_deltas_are_noticed(ledger, model):
    first, second = ledger.record(rank_one(model, 1)), ledger.record(rank_one(model, 2))
    changes = ledger.directory / "deltas" / first.delta / "changes.safetensors"
    changes.write_bytes(changes.read_bytes()[:-1])
    shutil.rmtree(ledger.directory / "deltas" / second.delta)
    fresh = Ledger.open(ledger.directory)
    with pytest.raises(TamperedError, match=r"changes\.safetensors"):
        fresh.delta(1)
    with pytest.raises(TamperedError, match="missing or unreadable"):
        fresh.attach(model) if fresh.undo(1) else None
    assert not model.live.deltas
    save(rank_one(model, 7), ledger.directory / "deltas" / second.delta)
    with pytest.raises(TamperedError, match="holds another delta"):
        Ledger.open(ledger.directory).delta(2)


def test_recording_again_repairs_a_damaged_delta(ledger, model):
    delta = rank_one(model, 1)
    entry = ledger.record(delta)
    ledger.undo(entry)
    changes = ledger.directory / "deltas" / delta.id / "changes.safetensors"
    changes.write_bytes(b"")
    fresh = Ledger.open(ledger.directory)
    fresh.record(delta)
    assert Ledger.open(ledger.directory).delta(delta).id == delta.id


def test_a_newer_log_is_refused_with_advice(ledger):
    from corrigenda import journal

    content = {"version": 3, "seq": 1, "kind": "apply", "prev": "0" * 64, "time": ""}
    content["check"] = journal._check(content)
    (ledger.directory / "ledger.jsonl").write_bytes(journal._line(content))
    with pytest.raises(LedgerError, match=r"version 3; this corrigenda reads versions 1 and 2"):
        Ledger.open(ledger.directory)


def test_a_full_disk_adds_nothing(ledger, model, monkeypatch):
    ledger.record(rank_one(model, 1))
    log = ledger.directory / "ledger.jsonl"
    before, real = log.read_bytes(), os.write

    def half(handle: int, data: bytes) -> int:
        return real(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(LedgerError, match=r"cannot be extended.*Free some space"):
        ledger.record(rank_one(model, 2))
    monkeypatch.setattr(os, "write", real)
    assert log.read_bytes() == before
    real_replace = os.replace

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(LedgerError, match="No space left"):
        ledger.undo(1)
    monkeypatch.setattr(os, "replace", real_replace)
    assert log.read_bytes() == before and len(ledger.active()) == 1
    ledger.record(rank_one(model, 2))
    assert len(Ledger.open(ledger.directory).active()) == 2


# -- other processes ------------------------------------------------------------------------------


def test_a_lock_that_is_held_is_waited_for_and_then_named(ledger, model):
    impatient = Ledger.open(ledger.directory, wait=0.1)
    with Journal(ledger.directory).locked():
        start = time.monotonic()
        with pytest.raises(LedgerError, match=r"being written by another process.*0\.1 s"):
            impatient.record(rank_one(model, 1))
        with pytest.raises(LedgerError, match="another process"):
            Ledger.open(ledger.directory, wait=0)
        assert 0.1 <= time.monotonic() - start < 3
        assert impatient.entries() == []  # reading needs no lock
    impatient.record(rank_one(model, 1))


def test_concurrent_writers_take_turns(ledger, model):
    import threading

    def write(number: int) -> None:
        mine = Ledger.open(ledger.directory, wait=60)
        for j in range(4):
            mine.record(rank_one(model, 100 * number + j))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Ledger.open(ledger.directory).entries()
    assert [e.seq for e in entries] == list(range(1, 13))
    assert len({e.delta for e in entries}) == 12


class Writers:
    """The process of `kill_ledger.py`, which forks writers that die."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "kill_ledger.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            },
            text=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def write(self, directory: Path, seed: int, stop: int, kill: tuple[int, float] | None = None):
        """What a writer acknowledged before it died, and how it died.

        kill  kill it after so many acknowledgements and seconds.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{directory} {seed} {stop}\n")
        self.process.stdin.flush()
        said: list[tuple[str, int, str]] = []
        pid = 0
        while True:
            if kill and pid and len(said) >= kill[0]:
                time.sleep(kill[1])
                os.kill(pid, signal.SIGKILL)
                kill = None
            word, *rest = self.line().split()
            if word == "done":
                return said, int(rest[0])
            if word == "pid":
                pid = int(rest[0])
            else:
                said.append((word, int(rest[0]), rest[1]))


@pytest.fixture(scope="module")
def writers():
    writers = Writers()
    yield writers
    writers.process.kill()
    writers.process.wait()


def test_killed_at_any_instant_it_keeps_what_it_acknowledged(tmp_path, writers):
    chance = random.Random(5)
    directory = tmp_path / "ledger"
    applied: dict[int, str] = {}
    undone: set[int] = set()
    ordered: dict[int, str] = {}
    acknowledged = 0
    for seed in range(20):
        instant = chance.randrange(4), chance.random() * 0.06
        said, status = writers.write(directory, seed, 0, instant)
        assert os.WTERMSIG(status) == signal.SIGKILL
        acknowledged += len(said)
        for sign, seq, identity in said:
            if sign == "+":
                applied[seq] = identity
            elif sign == "=":
                ordered[seq] = identity
            else:
                assert applied[seq] == identity
                undone.add(seq)
        ledger = Ledger.open(directory)
        entries = {e.seq: e for e in ledger.entries()}
        found = {e.seq: e.delta for e in entries.values() if e.kind == "apply"}
        back = {e.target for e in entries.values() if e.kind == "undo"}
        orders = {e.seq: ",".join(map(str, e.order)) for e in entries.values() if e.kind == "order"}
        assert applied.items() <= found.items() and undone <= back
        assert ordered.items() <= orders.items()
        # At most one more than was acknowledged, and that one is whole.
        acted = len(applied) + len(undone) + len(ordered)
        assert len(found) + len(back) + len(orders) <= acted + 1
        assert {e.seq for e in ledger.active()} == found.keys() - back
        for seq, identity in found.items():
            assert ledger.delta(seq).id == identity
        assert not list(directory.rglob("*.part"))
        applied, undone, ordered = found, back, orders
    assert acknowledged >= 20 and ordered
    model = toy()
    final = Ledger.open(directory)
    final.bind(model)
    final.attach(model)
    assert final.verify(model).current


def test_death_at_each_system_call_loses_nothing(tmp_path, writers, model):
    ledger = Ledger.open(tmp_path / "ledger")
    ledger.bind(model)
    kept = [ledger.record(rank_one(model, j)) for j in (1, 2)]
    outcomes = []
    for stop in range(1, 60):
        directory = tmp_path / f"stop{stop}"
        shutil.copytree(ledger.directory, directory)
        said, status = writers.write(directory, 77, stop)
        again = Ledger.open(directory)
        active = again.active()
        assert active[:2] == kept and len(active) <= 3
        assert [(e.seq, e.delta) for e in active[2:]] == [s[1:] for s in said] or not said
        outcomes.append((len(active), bool(said)))
        # It goes on as if nothing had happened.
        if len(active) == 2:
            again.record(rank_one(model, 77))
        again.undo(kept[0])
        assert [again.delta(e).id for e in Ledger.open(directory).active()] == [
            kept[1].delta,
            rank_one(model, 77).id,
        ]
        assert not list(directory.rglob("*.part"))
        if said:
            assert status == 0
            break
    assert said, "the writer never came to its end"
    # Dead early: not recorded. Dead after the record reached the disk: there, unacknowledged.
    assert outcomes[0] == (2, False) and (3, False) in outcomes and outcomes[-1] == (3, True)
