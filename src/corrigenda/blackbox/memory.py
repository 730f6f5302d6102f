"""The edit memory: edits as texts, in the same ledger as edits of weights.

An entry is a delta whose one change is of the prompt (`context.Prefix`), so `corrigenda log`,
`show` and `undo` work on it, and a local model can take it too. An edit that was undone is never
looked at again. Of several edits that answer the same prompt about the same subject the newest
counts: told both, a model would have to guess.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ..delta import Delta, Outcome, Prefix, Provenance
from ..edit import Rewrite
from ..editor import versions
from ..errors import EditError, InputError
from ..ledger import Entry, Ledger, Ref

__all__ = ["EditMemory", "Remembered"]

LIMIT = 3  # passages at once where a local model is given the entry itself


@dataclass(frozen=True, slots=True)
class Remembered:
    """One edit of the memory.

    number   of its entry in the ledger.
    aliases  other names of its subject.
    """

    number: int
    edit: Rewrite
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.edit.subject, *self.aliases)


class EditMemory:
    """The active edits of a ledger as texts."""

    def __init__(self, ledger: Ledger, *, model: str = "", fact: str = "{}. ") -> None:
        """model: whose edits these are, for the record; fact: how one is told, with its `{}`."""
        if fact.count("{}") != 1:
            raise InputError(
                f"How a fact is told needs {{}} once, where the fact stands: {fact!r}."
            )
        self.ledger = ledger
        self._model, self._fact = model, fact
        self._seen: tuple[int, ...] | None = None
        self._edits: tuple[Remembered, ...] = ()
        self.lock = threading.RLock()
        """Held around whatever reads or writes the ledger: requests and jobs do both at once."""

    def active(self) -> tuple[Remembered, ...]:
        """The edits that hold now, oldest first; also those that other processes have made."""
        with self.lock:
            entries = self.ledger.active()
            seen = tuple(entry.seq for entry in entries)
            if seen != self._seen:
                found = [one for entry in entries for one in self.of(entry)]
                last = {_fact(one.edit): one for one in found}
                self._edits = tuple(one for one in found if last[_fact(one.edit)] is one)
                self._seen = seen
            return self._edits

    def of(self, entry: Entry) -> list[Remembered]:
        """The edits of one entry; those that are no rewrites cannot be told as facts."""
        about = self.ledger.delta(entry).provenance
        listed = about.arguments.get("aliases") or []
        found = []
        for j, row in enumerate(about.edits):
            try:
                edit = Rewrite.from_dict(row)
            except EditError:
                continue
            names = listed[j] if j < len(listed) and isinstance(listed[j], list | tuple) else ()
            found.append(Remembered(entry.seq, edit, tuple(map(str, names))))
        return found

    def delta(
        self,
        edits: Sequence[Rewrite],
        aliases: Sequence[Sequence[str]] = (),
        *,
        how: str = "definitions",
        outcomes: Sequence[Outcome] = (),
    ) -> Delta:
        """Edits as a change of the prompt. Raises `InputError` where there are none."""
        if not edits:
            raise InputError(
                "There is no edit to remember. Give at least one, such as "
                '{"prompt": "{} is in", "subject": "Eiffel Tower", "target": "Rome"}'
            )
        told = tuple(self._fact.replace("{}", edit.statement.rstrip(" ."), 1) for edit in edits)
        names = [[n.strip() for n in one if n.strip()] for one in aliases]
        about = Provenance(
            editor=how,
            arguments={"how": how, "fact": self._fact, "aliases": names},
            edits=tuple(edit.to_dict() for edit in edits),
            outcomes=tuple(outcomes),
            model=self._model,
            versions=versions(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        return Delta({"context": Prefix(told, limit=LIMIT)}, provenance=about)

    def make(
        self,
        edits: Sequence[Rewrite],
        aliases: Sequence[Sequence[str]] = (),
        *,
        how: str = "definitions",
        outcomes: Sequence[Outcome] = (),
        note: str = "",
        who: str = "",
    ) -> Entry:
        """Remember edits, together as one entry. When this returns, they are on the disk."""
        with self.lock:
            delta = self.delta(edits, aliases, how=how, outcomes=outcomes)
            return self.ledger.record(delta, note=note, who=who)

    def undo(self, ref: Ref, *, note: str = "", who: str = "") -> Entry:
        """Forget an entry, in any order. Raises `LedgerError` if no active entry is meant."""
        with self.lock:
            return self.ledger.undo(ref, note=note, who=who)

    def redo(self, ref: Ref, *, note: str = "", who: str = "") -> Entry:
        """Remember a forgotten entry again, as a new one. Raises `LedgerError` if it is active."""
        with self.lock:
            return self.ledger.redo(ref, note=note, who=who)


def _fact(edit: Rewrite) -> tuple[str, str, str]:
    """What an edit is about: its subject and the words around it."""
    return edit.subject.casefold(), edit.prompt.strip().casefold(), edit.after.strip().casefold()
