"""The ledger: which edits were made to a model, in which order, and what has become of them.

On disk it is a directory of one model's edits:

    ledger.jsonl, HEAD   the log, append-only and checksummed (see `journal.py`)
    deltas/<id>/         every delta that was ever recorded, content-addressed (see `store.py`)

A delta is on the disk before the log names it, and the log before `record` returns: killed at
any instant, the ledger reopens with every acknowledged entry. Nothing is ever removed; an undo, a
redo and another order of application are one more entry each.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .card import summary
from .compare import Difference, difference
from .delta import Delta
from .disk import PART, new_directory, write_synced
from .errors import DeltaError, LedgerError, TamperedError, WrongBaseError
from .journal import HEAD, LOCK, LOG, Entry, Journal
from .live import tensor_hash
from .store import Manifest, load, manifest, save
from .verify import Verification, named_tensors, verify

if TYPE_CHECKING:
    from torch import nn

    from .model import Model

__all__ = [
    "AdapterWarning",
    "Detail",
    "Entry",
    "Ledger",
    "Ref",
    "Verification",
    "verify",
    "write_merged",
]

DELTAS = "deltas"

WHAT = {"base": "the base model", "order": "an order"}

Ref = str | int | Entry | Delta
"""How an entry is named: its number, the beginning of its delta's id, the entry or the delta."""


class AdapterWarning(UserWarning):
    """An export holds no PEFT adapter, because none can express the delta."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One entry, what its delta holds, and the entry that undid it, if any."""

    entry: Entry
    manifest: Manifest
    undone: Entry | None

    @property
    def active(self) -> bool:
        return self.undone is None


class Ledger:
    """The edits of one model. Open one with `Ledger.open`."""

    def __init__(self, directory: Path, journal: Journal, wait: float) -> None:
        self.directory = directory
        self._journal = journal
        self._wait = wait
        self._model: Model | None = None
        self._deltas: dict[str, Delta] = {}

    def __repr__(self) -> str:
        return f"Ledger({str(self.directory)!r}, {len(self.active())} active)"

    @classmethod
    def open(cls, directory: str | Path, create: bool = True, *, wait: float = 5.0) -> Ledger:
        """Open a ledger, or start one where there is none.

        wait  seconds to wait for another process that is writing.

        A record that a crash left unfinished was never acknowledged, and is cut off.

        Raises `LedgerError` if there is no ledger and `create` is False, if the directory holds
        something else, or if another process does not let go of it; `TamperedError` naming the
        line if the log is damaged.
        """
        directory = Path(directory)
        journal = Journal(directory)
        if not journal.exists:
            found = {p.name for p in directory.iterdir()} if directory.is_dir() else set()
            ours = all(n in {LOG, HEAD, LOCK, DELTAS} or n.endswith(PART) for n in found)
            if not create or not ours or (directory.exists() and not directory.is_dir()):
                what = "holds no ledger" if ours else "holds other files"
                if "delta.json" in found:
                    what = "is a saved delta, not a ledger"
                raise LedgerError(
                    f"{directory} {what}. Give the directory of a ledger, or a new directory to "
                    "start one."
                )
            directory.mkdir(parents=True, exist_ok=True)
        with journal.locked(wait):
            (directory / DELTAS).mkdir(exist_ok=True)
            journal.create()
            journal.recover()
            for leftover in (directory / DELTAS).glob(f".*{PART}"):
                shutil.rmtree(leftover, ignore_errors=True)
        return cls(directory, journal, wait)

    # -- reading ------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Every record, oldest first, also those that other processes have added."""
        return list(self._journal.refresh())

    def active(self) -> list[Entry]:
        """The entries that were applied and not undone, in order."""
        return _active(self._journal.refresh())

    def show(self, ref: Ref) -> Detail:
        """An entry with the provenance of its delta. Raises `LedgerError` if there is none."""
        entry = self._resolve(ref, self._journal.refresh())
        undone = [e for e in self._journal.entries if e.kind == "undo" and e.target == entry.seq]
        return Detail(entry, manifest(self._place(entry.delta)), undone[0] if undone else None)

    def delta(self, ref: Ref) -> Delta:
        """The delta of an entry, read from disk and checked.

        Raises `LedgerError` for an unknown entry, `TamperedError` if its files are damaged.
        """
        return self._load(self._resolve(ref, self._journal.refresh()).delta)

    def merge(self, refs: Iterable[Ref] | None = None) -> Delta:
        """One delta in place of several: the sum of these entries, or of all active ones."""
        chosen = self.active() if refs is None else list(refs)
        deltas = [self.delta(ref) for ref in chosen]
        return reduce(lambda a, b: a + b, deltas) if deltas else Delta()

    def diff(self, a: Ref, b: Ref) -> Difference:
        """Where two edits overlap, and whether they pull the same way."""
        return difference(self.delta(a), self.delta(b))

    def verify(self, model: Model, *, base: Model | nn.Module | None = None) -> Verification:
        """Which of the recorded edits a checkpoint contains, and what else changed in it."""
        return verify(model, self, base=base)

    # -- writing ------------------------------------------------------------------------------

    def bind(self, model: Model) -> None:
        """Tie the ledger to a base model, so that later entries say what they do to its tensors.

        On the first call the hash of every pristine tensor is recorded; later, they are compared.

        Raises `WrongBaseError` if the model is not the one that the recorded edits were made for.
        """
        tensors, names = named_tensors(model.module)
        tensors.update({n: model.live.pristine(n) for n in model.live.touched})
        hashes = {name: model.live.stored_hash(name, t) for name, t in tensors.items()}
        hashes = {name: hashes[first] for name, first in names.items()}
        with self._journal.locked(self._wait):
            entries = self._journal.recover()
            base = _base(entries)
            if base is not None:
                _compare(base.tensors, hashes, f"the base of {self.directory}", base.model)
            deltas = [self._load(e.delta) for e in _active(entries)]
            for delta in deltas:
                model.live.check(delta)
            if base is None:
                touched = dict.fromkeys(n for d in deltas for n in d.weights)
                self._journal.append(
                    "base", model=model.id, tensors=hashes, after=_after(model, deltas, touched)
                )
        self._model = model

    def record(self, delta: Delta, *, note: str = "", who: str = "") -> Entry:
        """Write an edit down. When this returns, it is on the disk.

        The model is not touched; use `attach`, or `delta.applied`.

        Raises `LedgerError` if the delta is empty or active already, `WrongBaseError` if it was
        made for other weights than the rest, `UnstableEditError` if it is not finite.
        """
        if not delta:
            raise LedgerError("The delta changes nothing, so there is nothing to record.")
        delta.check_finite()
        with self._journal.locked(self._wait):
            entries = self._journal.recover()
            active = _active(entries)
            for entry in active:
                if entry.delta == delta.id:
                    raise LedgerError(
                        f"This delta is recorded and active already, as entry {entry.seq} of "
                        f"{entry.time}. To apply it more strongly, record a multiple of it."
                    )
            self._check_base(delta, entries)
            others = [self._load(e.delta) for e in active]
            self._keep(delta)
            after = _after(self._model, [*others, delta], delta.weights) if self._model else {}
            return self._journal.append(
                "apply",
                delta=delta.id,
                who=_plain(who),
                note=_plain(note),
                summary=_plain(summary(delta)),
                after=after,
            )

    def undo(self, ref: Ref, *, note: str = "", who: str = "") -> Entry:
        """Take an entry back, in any order. When this returns, that is on the disk.

        Raises `LedgerError` if no active entry is meant, or more than one.
        """
        with self._journal.locked(self._wait):
            entries = self._journal.recover()
            entry = self._resolve(ref, entries, active=True)
            others = [self._load(e.delta) for e in _active(entries) if e.seq != entry.seq]
            after = (
                _after(self._model, others, self._load(entry.delta).weights) if self._model else {}
            )
            return self._journal.append(
                "undo",
                delta=entry.delta,
                target=entry.seq,
                who=_plain(who),
                note=_plain(note),
                summary=entry.summary,
                after=after,
            )

    def redo(self, ref: Ref, *, note: str = "", who: str = "") -> Entry:
        """Apply an undone edit again, after all that is active: one more entry, of the same delta.

        note  empty: that of the entry that is applied again.

        Raises `LedgerError` if no entry is meant, or it is active.
        """
        entry = self._resolve(ref, self._journal.refresh())
        return self.record(self._load(entry.delta), note=note or entry.note, who=who)

    def order(self, refs: Iterable[Ref], *, note: str = "", who: str = "") -> list[Entry]:
        """Let the active entries apply in this order from now on, and return them in it. When this
        returns, that is on the disk. The order in force already adds no record.

        Sums of weight changes are rounded in another order then, and of changes of activations and
        of the prompt the later ones see what the earlier ones did.

        Raises `LedgerError` unless every active entry is named exactly once.
        """
        wanted = list(refs)
        with self._journal.locked(self._wait):
            entries = self._journal.recover()
            active = _active(entries)
            chosen = [self._resolve(ref, entries, active=True) for ref in wanted]
            numbers = [entry.seq for entry in chosen]
            if sorted(numbers) != sorted(entry.seq for entry in active):
                raise LedgerError(
                    "An order names every active entry exactly once. "
                    f"Active: {', '.join(str(e.seq) for e in active) or 'none'}; "
                    f"given: {', '.join(map(str, numbers)) or 'none'}."
                )
            if chosen == active:
                return chosen
            deltas = [self._load(e.delta) for e in chosen]
            touched = dict.fromkeys(n for d in deltas for n in d.weights)
            after = _after(self._model, deltas, touched) if self._model else {}
            self._journal.append(
                "order",
                order=tuple(numbers),
                who=_plain(who),
                note=_plain(note),
                summary=f"order {', '.join(map(str, numbers))}",
                after=after,
            )
            return chosen

    def attach(self, model: Model) -> dict[int, int]:
        """Make every active entry live on the model, in order; those live already are left.

        Returns {entry number: handle for `model.live.pop`} of what was added. If one is refused
        (`WrongBaseError`, `UnstableEditError`), none is added.
        """
        present = {d.id for d in model.live.deltas}
        handles: dict[int, int] = {}
        try:
            for entry in self.active():
                if entry.delta not in present:
                    handles[entry.seq] = model.live.push(self._load(entry.delta))
        except BaseException:
            for handle in handles.values():
                model.live.pop(handle)
            raise
        return handles

    def export(
        self, ref: Ref | None, directory: str | Path, merged_model: Model | None = None
    ) -> Path:
        """Write an entry (None: all that is active) for use elsewhere.

        Without `merged_model`, a delta directory with a PEFT adapter; an `AdapterWarning` says so
        where no adapter can express the change. With it, the model's checkpoint with the changes
        merged into the weights, rounded to their dtype, and in `merge.json` what rounding lost.

        Raises `LedgerError` if there is nothing to export or the directory is not empty, and
        `DeltaError` for a prefix, which no checkpoint can hold.
        """
        directory = Path(directory)
        entries = self.active() if ref is None else [self._resolve(ref, self.entries())]
        if not entries:
            raise LedgerError(f"{self.directory} has no active entries, so nothing to export.")
        if merged_model is not None:
            deltas = [self._load(e.delta) for e in entries]
            return write_merged(merged_model, deltas, directory)
        path = save(self.merge(entries), directory)
        if reason := manifest(path).adapter:
            warnings.warn(f"{path} has no PEFT adapter. {reason}", AdapterWarning, stacklevel=2)
        return path

    # -- inside -------------------------------------------------------------------------------

    def _place(self, identity: str) -> Path:
        return self.directory / DELTAS / identity

    def _load(self, identity: str) -> Delta:
        if identity not in self._deltas:
            try:
                delta = load(self._place(identity))
            except TamperedError:
                raise
            except DeltaError as error:
                raise TamperedError(
                    f"The delta {identity[:12]} is missing or unreadable: {error}"
                ) from None
            if delta.id != identity:
                raise TamperedError(
                    f"{self._place(identity)} holds another delta ({delta.id[:12]}). Restore it "
                    "from a copy."
                )
            self._deltas[identity] = delta
        return self._deltas[identity]

    def _keep(self, delta: Delta) -> None:
        """Put a delta among the others, unless it is there, whole."""
        place = self._place(delta.id)
        try:
            self._deltas[delta.id] = load(place)
        except DeltaError:
            save(delta, place, overwrite=True, adapter=False)
            self._deltas[delta.id] = delta

    def _check_base(self, delta: Delta, entries: list[Entry]) -> None:
        if self._model is not None:
            self._model.live.check(delta)
        base = _base(entries)
        if base is not None:
            if foreign := sorted(delta.weights.keys() - base.tensors.keys()):
                raise WrongBaseError(
                    f"The model of this ledger ({base.model}) has no tensor {foreign[0]}; the "
                    "delta was made for another architecture."
                )
            _compare(delta.base, base.tensors, f"the base of {self.directory}", base.model)
            return
        for entry in _active(entries):
            other = self._load(entry.delta)
            _compare(delta.base, other.base, f"entry {entry.seq}", other.provenance.model)

    def _resolve(self, ref: Ref, entries: list[Entry], active: bool = False) -> Entry:
        """The one entry that is meant; of several with one delta the active, or latest, one."""
        applied = [e for e in entries if e.kind == "apply"]
        live = _active(entries)
        key: str | int
        if isinstance(ref, Entry):
            key = ref.seq
        elif isinstance(ref, Delta):
            key = ref.id
        else:
            key = ref
        if isinstance(key, str):
            key = key.strip().removeprefix("#")
            if key.isdecimal() and len(key) < 7 and any(e.seq == int(key) for e in entries):
                key = int(key)
        if isinstance(key, int):
            found = [e for e in entries if e.seq == key]
            if found and found[0].kind != "apply":
                other = found[0]
                raise LedgerError(
                    f"Entry {key} undoes entry {other.target} and is no edit itself. To apply that "
                    "edit again, record its delta again."
                    if other.kind == "undo"
                    else f"Entry {key} records {WHAT[other.kind]} and is no edit."
                    + (f" Active: {_listed(live[-5:])}." if live else "")
                )
        else:
            found = [e for e in applied if key and e.delta.startswith(key.lower())]
        if len({e.delta for e in found}) > 1:
            raise LedgerError(
                f"{key!r} is the beginning of several ids: {_listed(found)}. Give more of it, or "
                "the entry's number."
            )
        if not found:
            ids = [e.delta[: max(len(str(key)), 8)] for e in applied]
            close = set(difflib.get_close_matches(str(key), ids, n=3, cutoff=0.6))
            near = [e for e, i in zip(applied, ids, strict=True) if i in close]
            known = near or live or applied
            hint = f"{'Did you mean' if near else 'There are'} {_listed(known[-5:])}"
            raise LedgerError(
                f"The ledger {self.directory} has no entry {key!r}. "
                + (f"{hint}{'?' if near else '.'}" if known else "It is empty.")
            )
        alive = {e.seq for e in live}
        still = [e for e in found if e.seq in alive]
        if active and not still:
            last = found[-1]
            undo = next(e for e in entries if e.kind == "undo" and e.target == last.seq)
            raise LedgerError(
                f"Entry {last.seq} ({last.delta[:12]}) was undone already, by entry {undo.seq} of "
                f"{undo.time}." + (f" Active: {_listed(live[-5:])}." if live else "")
            )
        return (still or found)[-1]


def _active(entries: Iterable[Entry]) -> list[Entry]:
    live: dict[int, Entry] = {}
    for entry in entries:
        if entry.kind == "apply":
            live[entry.seq] = entry
        elif entry.kind == "undo":
            live.pop(entry.target, None)
        elif entry.kind == "order":
            live = {seq: live[seq] for seq in entry.order}
    return list(live.values())


def _base(entries: Iterable[Entry]) -> Entry | None:
    return next((e for e in entries if e.kind == "base"), None)


def _after(model: Model, deltas: list[Delta], names: Iterable[str]) -> dict[str, str]:
    """Hashes of these parameters with exactly these deltas active."""
    live = model.live
    first = dict.fromkeys(live.first_name(name) for name in names)
    merged = (n for n in first if live.writable(n) is not None)
    return {name: tensor_hash(live.value(name, deltas, merged=True)) for name in merged}


def _compare(ours: Mapping[str, str], theirs: Mapping[str, str], what: str, model: str) -> None:
    wrong = [n for n in ours if n in theirs and ours[n] != theirs[n]]
    if wrong:
        raise WrongBaseError(
            f"{wrong[0]} is not the tensor of {what} (sha256 {theirs[wrong[0]][:12]}… there, "
            f"{ours[wrong[0]][:12]}… here{f', and {len(wrong) - 1} more' if wrong[1:] else ''}). "
            f"A ledger is for one model: use {model or 'the model that it was started with'} in "
            "the same dtype, or start another ledger."
        )


def _listed(entries: list[Entry]) -> str:
    return ", ".join(f"{e.seq} {e.delta[:12]} ({e.summary})" for e in entries)


def _plain(text: str) -> str:
    """Text that can be written as UTF-8: bytes that are none may come from a command line."""
    return text.encode("utf-8", "replace").decode("utf-8")


def write_merged(model: Model, deltas: list[Delta], directory: Path) -> Path:
    for delta in deltas:
        for name, change in delta.changes.items():
            if name not in delta.weights:
                where = "the prompt" if delta.context is change else f"activations ({name})"
                raise DeltaError(
                    f"A {type(change).__name__.lower()} acts on {where} and cannot be merged into "
                    "weights. Export the delta itself, or undo that entry first."
                )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LedgerError(f"{directory} is not empty. Name a new directory for the checkpoint.")
    with ExitStack() as stack:
        stack.enter_context(model.live.merging())
        for delta in deltas:
            stack.enter_context(model.live.pushed(delta))
        part = stack.enter_context(new_directory(directory))
        model.module.save_pretrained(part)  # type: ignore[operator]
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        record = {
            "base": model.id,
            "edits": [{"id": d.id, "summary": summary(d)} for d in deltas],
            "tensors": {n: _loss(model, n, deltas) for n in sorted(model.live.touched)},
        }
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_synced(part / "merge.json", text.encode())
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    return directory


def _loss(model: Model, name: str, deltas: list[Delta]) -> dict[str, Any]:
    """Norm of the change that was asked for, and the share of it that rounding lost."""
    original = model.live.pristine(name).double().cpu()
    keys = model.live.names(name)
    asked = torch.zeros_like(original)
    for delta in deltas:
        for key in (k for k in keys if k in delta.weights):
            asked += delta.stored(key, original.shape)
    got = model.live.parameter(name).data.double().cpu() - original
    norm = float(asked.norm())
    lost = float((got - asked).norm()) / norm if norm else 0.0
    return {"norm": norm, "lost": lost, "sha256": tensor_hash(model.live.parameter(name).data)}
