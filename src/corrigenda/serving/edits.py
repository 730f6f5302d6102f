"""Edits of the served model: solved, previewed, recorded, undone, redone, ordered, compared.

The ledger is the truth: what is active there is what the state `edited` says. A change is first
made ready on a new tree, which refuses what cannot be; then it is written down, and is on the disk;
then requests go to the new tree; then the answer is sent. So an acknowledged edit is never lost,
and one that the disk refuses never acts.

    ledger/                the record of edits (see `ledger.py`)
    previews/<id>/         an edit that was solved and not yet recorded: its delta and what came of it
    scorecards/<id>.json   the scorecard of a delta, by the delta's id
    sets.json              names for some of the recorded edits
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..attempt import size_of
from ..card import card
from ..delta import Delta
from ..disk import PART, new_directory, write_atomic, write_synced
from ..edit import Rewrite
from ..editor import Editor
from ..editors import editor_class
from ..editors._precompute import precompute
from ..errors import CorrigendaError, DeltaError, UnknownNameError
from ..ledger import Entry, Ledger
from ..models.text import TextModel
from ..store import load, save
from . import methods, schemas
from .jobs import Progress, finite
from .refusals import Conflict, Forbidden, Unknown
from .scorecard import scorecard
from .states import BASE, EDITED, States

__all__ = ["Edits", "rewrites", "shown"]

PREVIEWS, SETS = 20, 32
"""Previews that are kept, and named sets."""
_ID = re.compile(r"^[0-9a-f]{16}$")


def rewrites(edits: Sequence[schemas.Edit]) -> list[Rewrite]:
    """The edits of a request. Raises `EditError` for what makes no edit."""
    return [Rewrite(edit.prompt, edit.subject, edit.target) for edit in edits]


@dataclass(frozen=True, slots=True)
class _Solved:
    """An edit that was solved, with what is shown of it."""

    delta: Delta
    card: schemas.Scorecard
    who: str
    note: str


class Edits:
    """The edits of one model, on disk and live."""

    def __init__(
        self,
        states: States,
        ledger: Ledger,
        directory: Path,
        costs: methods.Costs,
        read_only: bool = False,
    ) -> None:
        self._states, self._ledger, self._costs = states, ledger, costs
        self._previews, self._cards = directory / "previews", directory / "scorecards"
        self._sets_file = directory / "sets.json"
        self._read_only = read_only
        self._lock = threading.RLock()
        self._bench = states.bench()
        self._facts: dict[str, dict[str, Any]] = {}
        for place in (self._previews, self._cards):
            place.mkdir(parents=True, exist_ok=True)
            for leftover in place.glob(f".*{PART}"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
        ledger.bind(states.root)
        self._sets = self._read_sets()
        self._activate(self._tree_of(ledger.active()))

    # -- reading ------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def active(self) -> int:
        return len(self._ledger.active())

    def entries(self) -> schemas.Entries:
        """Active edits in order of application, then those that were undone, the latest first."""
        with self._lock:
            records = self._ledger.entries()
            active = self._ledger.active()
            alive = {entry.seq for entry in active}
            applied = [e for e in records if e.kind == "apply" and e.seq not in alive]
            return schemas.Entries(
                edits=[self._entry(e) for e in [*active, *applied[::-1]]], head=len(records)
            )

    def entry(self, number: int) -> schemas.Card:
        """One edit with its card and provenance. Raises `Unknown`."""
        with self._lock:
            record = self._record(number)
            delta = self._ledger.delta(record)
            text = card(delta, delta.id, delta.id, None, "Export it as peft to get one.")
            return schemas.Card(
                **self._entry(record).model_dump(),
                card=text.partition("\n---\n")[2].lstrip() if text.startswith("---") else text,
                provenance=finite(delta.provenance.model_dump(mode="json")),
            )

    def diff(self, a: int, b: int) -> schemas.Differences:
        """Where two edits change the same, and whether they pull the same way."""
        with self._lock:
            found = self._ledger.diff(self._record(a), self._record(b))
            first, second = self._ledger.delta(self._record(a)), self._ledger.delta(self._record(b))
        places = []
        for name, (left, right) in found.norms.items():
            cosine = found.cosines.get(name)
            places.append(
                schemas.DiffPlace(
                    place=name,
                    cosine=cosine,
                    norm_a=left,
                    norm_b=right,
                    overlap=None if cosine is None else abs(cosine),
                )
            )
        for name in (first.acting.keys() & second.acting.keys()) - found.norms.keys():
            places.append(
                schemas.DiffPlace(place=name, cosine=None, norm_a=0.0, norm_b=0.0, overlap=None)
            )
        return schemas.Differences(a=a, b=b, places=places)

    def deltas(self, numbers: Sequence[int] | None = None) -> list[Delta]:
        """The deltas of some entries, or of the active ones, in order. Raises `Unknown`."""
        with self._lock:
            records = (
                self._ledger.active()
                if numbers is None
                else [self._record(number) for number in numbers]
            )
            return [self._ledger.delta(record) for record in records]

    def facts_of(self, number: int) -> list[Rewrite]:
        """The facts that an entry edits."""
        with self._lock:
            return _facts(self._ledger.delta(self._record(number)))

    def around(self, number: int) -> tuple[TextModel, TextModel]:
        """A state without an entry, and one with it: all that is active besides."""
        with self._lock:
            record = self._record(number)
            others = [e for e in self._ledger.active() if e.seq != number]
            own = self._ledger.delta(record)
            without = self._states.tree([self._ledger.delta(e) for e in others])
        try:
            with_it = self._states.tree([*without.live.deltas, own])
        except DeltaError as error:
            raise Conflict(f"The edit {number} cannot be live with the others: {error}") from None
        return without, with_it

    # -- solving ------------------------------------------------------------------------------

    def check(self, request: schemas.SolveRequest) -> None:
        """Raises at once what would make the job fail: bad edits, settings, a method that does not
        do this model, a server that may not edit."""
        if request.apply:
            self._may_write()
        editor = methods.chosen(self._states.root, request.editor, request.settings)
        editor.check(self._states.root, rewrites(request.edits))
        editor.resolved(self._states.root)

    def solve(self, progress: Progress, asked: dict[str, Any]) -> dict[str, Any]:
        """The work of a job: solve, ask the scorecard's questions, keep or record."""
        request = schemas.SolveRequest(**asked)
        edits = rewrites(request.edits)
        editor = methods.chosen(self._states.root, request.editor, request.settings)
        before = self._states.of(EDITED)
        expected = (self._costs.seconds(editor.name) or 2.0) * len(edits)
        with self._bench.on(before) as model:
            precompute(
                model,
                editor,
                lambda done, total: progress.tell(
                    0.3 * done / max(1, total), f"collecting statistics: {done} of {total} tokens"
                ),
            )
            delta, seconds = self._solve(model, editor, edits, progress, expected)
            with _interruptible(model, progress.check):
                model.live.adopt(before.live)
                card = scorecard(
                    model, delta, edits, lambda share, text: progress.tell(0.6 + 0.4 * share, text)
                )
        self._costs.put(editor.name, seconds / len(edits))
        progress.check()
        solved = _Solved(delta, card, request.who, request.note)
        # What did not take is not applied unasked: it waits as a preview.
        recorded = self._keep(solved) if request.apply and not delta.failed else None
        preview = None if recorded is not None else self._keep_preview(solved)
        about = delta.provenance
        return schemas.Solved(
            preview=recorded is None,
            edit=recorded,
            preview_id=preview,
            took=[outcome.took for outcome in about.outcomes],
            answers=[outcome.answer for outcome in about.outcomes],
            scorecard=card,
        ).model_dump(mode="json")

    def _solve(
        self,
        model: TextModel,
        editor: Editor,
        edits: list[Rewrite],
        progress: Progress,
        expected: float,
    ) -> tuple[Delta, float]:
        """The delta, and the seconds that it took."""
        started, passes = time.perf_counter(), 0

        def passed() -> None:
            nonlocal passes
            passes += 1
            spent = time.perf_counter() - started
            share = 0.3 + 0.3 * (1 - 2 ** -(spent / max(expected, 0.1)))
            progress.tell(share, f"{editor.title} is solving: {passes} passes")

        onto: Delta | None = None
        if editor.streams and model.live.deltas:
            # Its state (keys of earlier edits) goes on from the sum of all that is active.
            try:
                merged = model.live.deltas[0]
                for delta in model.live.deltas[1:]:
                    merged = merged + delta
            except DeltaError:
                pass  # changes of kinds that have no sum stay live one by one
            else:
                model.live.clear()
                onto = merged
        progress.tell(0.3, f"{editor.title} is solving")
        with _interruptible(model, passed):
            if editor.batches or len(edits) == 1:
                found = editor(model, edits, onto)
            else:
                found = editor(model, edits[:1], onto)
                for edit in edits[1:]:
                    found = found + editor(model, [edit], found if onto is None else onto + found)
        if not found:
            raise CorrigendaError(f"{editor.title} found no change to make for these edits.")
        return found, time.perf_counter() - started

    def evaluate(self, progress: Progress, asked: dict[str, Any]) -> dict[str, Any]:
        """The work of a job: the scorecard of an entry or a preview, asked anew and kept."""
        request = schemas.EvaluateRequest(**asked)
        if request.number is not None:
            with self._lock:
                record = self._record(request.number)
                others = [e for e in self._ledger.active() if e.seq != record.seq]
                delta = self._ledger.delta(record)
                before = self._tree_of(others)
        else:
            delta, before = self._preview(request.preview_id or "").delta, self._states.of(EDITED)
        edits = rewrites(request.edits) if request.edits else _facts(delta)
        if not edits:
            raise Conflict("This delta records no facts, so there is nothing to ask.")
        with self._bench.on(before) as model, _interruptible(model, progress.check):
            found = scorecard(model, delta, edits, progress.tell)
        self._write_card(delta.id, found)
        return found.model_dump(mode="json")

    # -- writing ------------------------------------------------------------------------------

    def apply_preview(self, id: str) -> schemas.Entry:
        """Record what was previewed. Raises `Unknown` for no such preview."""
        with self._lock:
            solved = self._preview(id)
            entry = self._keep(solved)
            shutil.rmtree(self._previews / id, ignore_errors=True)
            return entry

    def discard_preview(self, id: str) -> None:
        with self._lock:
            self._preview(id)
            shutil.rmtree(self._previews / id, ignore_errors=True)

    def undo(self, number: int, note: str, who: str) -> schemas.Entry:
        self._may_write()
        with self._lock:
            record = self._record(number)
            ready = self._tree_of([e for e in self._ledger.active() if e.seq != number])
            self._ledger.undo(record, note=note, who=who)
            self._activate(ready)
            return self._entry(record)

    def redo(self, number: int, note: str, who: str) -> schemas.Entry:
        """Apply an undone edit again: a new entry."""
        self._may_write()
        with self._lock:
            record = self._record(number)
            ready = self._ready(self._ledger.delta(record))
            again = self._ledger.redo(record, note=note, who=who)
            self._activate(ready)
            return self._entry(again)

    def order(self, numbers: Sequence[int]) -> schemas.Entries:
        """Let the active edits apply in this order."""
        self._may_write()
        with self._lock:
            records = [self._record(number) for number in numbers]
            active = {e.seq for e in self._ledger.active()}
            if len(set(numbers)) == len(numbers) and set(numbers) == active:
                ready = self._tree_of(records)
                self._ledger.order(records)
                self._activate(ready)
            else:
                self._ledger.order(records)  # raises, and says what is wrong
            return self.entries()

    def record(self, delta: Delta, note: str = "", who: str = "") -> None:
        """Record a delta from elsewhere, unless it is active already."""
        with self._lock:
            if any(e.delta == delta.id for e in self._ledger.active()):
                return
            ready = self._ready(delta)
            self._ledger.record(delta, note=note, who=who)
            self._activate(ready)

    def _keep(self, solved: _Solved) -> schemas.Entry:
        """Record an edit and let it act; its scorecard goes beside it."""
        self._may_write()
        with self._lock:
            for entry in self._ledger.active():
                if entry.delta == solved.delta.id:  # as after a crash that came before the answer
                    return self._entry(entry)
            ready = self._ready(solved.delta)
            self._write_card(solved.delta.id, solved.card)
            record = self._ledger.record(solved.delta, note=solved.note, who=solved.who)
            self._activate(ready)
            return self._entry(record)

    def _may_write(self) -> None:
        if self._read_only:
            raise Forbidden("This server was started with --read-only, so edits cannot be changed.")

    # -- states -------------------------------------------------------------------------------

    def _tree_of(self, records: Sequence[Entry]) -> TextModel:
        deltas = [self._ledger.delta(record) for record in records]
        return self._states.tree(deltas) if deltas else self._states.of(BASE)

    def _ready(self, delta: Delta) -> TextModel:
        """A tree with a further delta live."""
        active = [self._ledger.delta(entry) for entry in self._ledger.active()]
        return self._states.tree([*active, delta])

    def _activate(self, ready: TextModel) -> None:
        self._states.put(EDITED, ready)

    # -- named sets ---------------------------------------------------------------------------

    def sets(self) -> list[schemas.NamedSet]:
        with self._lock:
            return [schemas.NamedSet(name=n, numbers=k) for n, k in self._sets.items()]

    def put_set(self, name: str, numbers: Sequence[int]) -> schemas.NamedSet:
        """Name a set of recorded edits; it becomes a state. Raises `Conflict` for a taken name."""
        self._may_write()
        with self._lock:
            if name in (BASE, EDITED, self._states.root.id):
                raise Conflict(f"{name} is a state of its own. Choose another name.")
            if len(set(numbers)) != len(numbers):
                raise Conflict("An edit is named twice in this set. Name each once.")
            if name not in self._sets and len(self._sets) >= SETS:
                raise Conflict(f"There are {SETS} sets already. Delete one first.")
            ready = self._tree_of([self._record(number) for number in numbers])
            self._sets = {**self._sets, name: list(numbers)}
            self._write_sets()
            self._states.put(name, ready)
            return schemas.NamedSet(name=name, numbers=list(numbers))

    def drop_set(self, name: str) -> None:
        self._may_write()
        with self._lock:
            if name not in self._sets:
                raise Unknown(f"There is no set {name[:100]!r}. GET /api/sets lists them.")
            self._sets = {n: k for n, k in self._sets.items() if n != name}
            self._write_sets()
            self._states.drop([name])

    def _read_sets(self) -> dict[str, list[int]]:
        """The sets on disk, each made a state."""
        try:
            content = json.loads(self._sets_file.read_bytes())
        except FileNotFoundError:
            return {}
        found: dict[str, list[int]] = {}
        for name, numbers in content.items():
            self._states.put(name, self._tree_of([self._record(n) for n in numbers]))
            found[name] = numbers
        return found

    def _write_sets(self) -> None:
        write_atomic(self._sets_file, json.dumps(self._sets, indent=1).encode())

    # -- previews and cards -------------------------------------------------------------------

    def _keep_preview(self, solved: _Solved) -> str:
        """Put an edit aside on disk; the oldest ones go when there are many."""
        id = secrets.token_hex(8)
        about = {"who": solved.who, "note": solved.note, "card": solved.card.model_dump()}
        with self._lock:
            with new_directory(self._previews / id) as part:
                save(solved.delta, part / "delta", adapter=False)
                write_synced(part / "preview.json", json.dumps(finite(about)).encode())
            kept = sorted(self._previews.iterdir(), key=lambda p: p.stat().st_mtime)
            for old in kept[: max(0, len(kept) - PREVIEWS)]:
                shutil.rmtree(old, ignore_errors=True)
        return id

    def _preview(self, id: str) -> _Solved:
        place = self._previews / id
        if not _ID.match(id) or not place.is_dir():
            raise Unknown(
                f"There is no preview {id[:40]!r}; the last {PREVIEWS} are kept. Solve it again."
            )
        about = json.loads((place / "preview.json").read_bytes())
        card = schemas.Scorecard(**about["card"])
        return _Solved(load(place / "delta"), card, about["who"], about["note"])

    def _write_card(self, id: str, found: schemas.Scorecard) -> None:
        data = json.dumps(finite(found.model_dump()), ensure_ascii=False).encode()
        write_atomic(self._cards / f"{id}.json", data)

    def _card(self, id: str) -> schemas.Scorecard | None:
        try:
            return schemas.Scorecard(**json.loads((self._cards / f"{id}.json").read_bytes()))
        except (OSError, ValueError, TypeError, ValidationError):
            return None  # it can be asked again

    # -- inside -------------------------------------------------------------------------------

    def _record(self, number: int) -> Entry:
        """The entry of that number. Raises `Unknown` where there is none."""
        for entry in self._ledger.entries():
            if entry.seq == number and entry.kind == "apply":
                return entry
        known = [str(e.seq) for e in self._ledger.entries() if e.kind == "apply"][-8:]
        hint = f"There are {', '.join(known)}." if known else "None was made yet."
        raise Unknown(f"There is no edit {number}. {hint}")

    def _entry(self, record: Entry) -> schemas.Entry:
        undone = next(
            (e for e in self._ledger.entries() if e.kind == "undo" and e.target == record.seq), None
        )
        about = self._about(record.delta)
        return shown(record, undone, **about, scorecard=self._card(record.delta))

    def _about(self, id: str) -> dict[str, Any]:
        """What is shown of a delta; it never changes."""
        if id not in self._facts:
            delta = self._ledger.delta(id)
            about = delta.provenance
            try:
                title = editor_class(about.editor).title
            except UnknownNameError:  # a sum of several, or a method of another version
                title = about.editor or "a change from elsewhere"
            self._facts[id] = {
                "editor": about.editor,
                "title": title,
                "edits": finite(list(about.edits)),
                "took": [outcome.took for outcome in about.outcomes],
                "answers": [outcome.answer.strip() for outcome in about.outcomes],
                "norms": self._norms(delta),
                "bytes": size_of(delta),
                "seconds": round(about.seconds, 3),
            }
        return self._facts[id]

    def _norms(self, delta: Delta) -> list[schemas.Norm]:
        live = self._states.root.live
        found = []
        for place, change in delta.changes.items():
            norm = relative = None
            if place in delta.weights:
                norm = delta.weights[place].norm()
                whole = float(live.pristine(place).float().norm())
                relative = norm / whole if whole else None
            kind = type(change).__name__
            found.append(schemas.Norm(place=place, kind=kind, norm=norm, relative=relative))
        return found


def shown(record: Entry, undone: Entry | None, **about: Any) -> schemas.Entry:
    """A record of the ledger as the page sees it. about: what is told of its delta."""
    return schemas.Entry(
        number=record.seq,
        id=record.delta,
        state="undone" if undone else "active",
        when=record.time,
        who=record.who,
        note=record.note,
        undone_when=undone.time if undone else None,
        undone_note=undone.note if undone else None,
        **about,
    )


def _facts(delta: Delta) -> list[Rewrite]:
    """The facts that a delta was solved for."""
    return [Rewrite.from_dict(e) for e in delta.provenance.edits if "subject" in e]


@contextmanager
def _interruptible(model: TextModel, passed: Callable[[], None]) -> Iterator[None]:
    """Call `passed` before every forward pass inside the block. What it raises ends the work there:
    editors are pure and a bench is cleared, so nothing is left of it."""

    def hook(*_: Any) -> None:
        passed()

    handle = model.module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
