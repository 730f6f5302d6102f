"""The edit memory in the forms of the studio's page: entries, cards, and making edits as a job."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from .. import __version__
from ..card import card
from ..delta import Outcome
from ..edit import Rewrite
from ..errors import EndpointError, InputError
from ..ledger import Entry
from ..metrics.text import answer_of, begins
from ..serving import schemas
from ..serving.edits import shown
from ..serving.jobs import Progress
from ..serving.refusals import Unknown
from .client import Remote
from .memory import Remembered
from .prompting import HOWS, MultiHop, Telling

__all__ = ["TITLES", "Book", "MakeRequest"]

TITLES = {
    "definitions": ("Definitions", "Each fact as a sentence in front of the prompt.",
                    "Onoe et al. 2023, 2305.01651"),
    "demonstrations": ("IKE", "The facts after worked examples, in front of the prompt.",
                       "Zheng et al. 2023, 2305.12740"),
    "multi-hop": ("MeLLo", "The model takes the question apart; each step is looked up.",
                  "Zhong et al. 2023, 2305.14795"),
}  # fmt: skip
PREVIEWS = 64
"""Previews that are kept, the newest; an older one has to be made again."""
TOKENS = 16


class Edit(schemas.Edit):
    """A fact, and other names of its subject."""

    aliases: list[str] = Field(default=[], max_length=50)


class MakeRequest(schemas.SolveRequest):
    """Edits to remember. editor: the way that the proxy puts them into prompts, or nothing."""

    edits: list[Edit] = Field(min_length=1, max_length=1000)  # type: ignore[assignment]
    editor: str = Field(default="", max_length=500)


class Book:
    """The edit memory in the page's forms."""

    def __init__(self, rewriter: Any, remote: Remote) -> None:
        self.memory, self.prompting, self.remote = rewriter.memory, rewriter.prompting, remote
        self.scope = rewriter.scope
        self._previews: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def how(self) -> str:
        return self.prompting.name

    def status(self) -> schemas.Status:
        return schemas.Status(
            model=self.remote.id,
            kind="remote",
            layers=0,
            parameters=0,
            dtype="",
            device=self.remote.url,
            version=__version__,
            atlas=False,
            world=False,
            edits=len(self.entries(active=True)),
            states=["edited"],
            proxy=True,
        )

    def entries(self, active: bool = False) -> list[schemas.Entry]:
        with self.memory.lock:
            ledger = self.memory.ledger
            every, live = ledger.entries(), ledger.active()
            alive = {entry.seq for entry in live}
            undone = [e for e in every if e.kind == "apply" and e.seq not in alive]
            undoing = {e.target: e for e in every if e.kind == "undo"}
            chosen = live if active else [*live, *undone]
            return [self.shown(entry, undoing.get(entry.seq)) for entry in chosen]

    def entry(self, number: int) -> Entry:
        with self.memory.lock:
            for entry in self.memory.ledger.entries():
                if entry.seq == number and entry.kind == "apply":
                    return entry
        raise Unknown(f"There is no edit {number}. GET /api/edits lists those there are.")

    def one(self, number: int) -> schemas.Card:
        with self.memory.lock:
            entry = self.entry(number)
            undoing = [e for e in self.memory.ledger.entries() if e.target == number]
            delta = self.memory.ledger.delta(entry)
            shown = self.shown(entry, undoing[-1] if undoing else None)
            return schemas.Card(
                **shown.model_dump(),
                card=card(delta, delta.id, f"edit-{number}", None, "It acts on the prompt."),
                provenance=delta.provenance.model_dump(mode="json"),
            )

    def shown(self, entry: Entry, undoing: Entry | None) -> schemas.Entry:
        about = self.memory.ledger.delta(entry)
        told, source = about.context, about.provenance
        outcomes: Sequence[Outcome | None] = source.outcomes or [None] * len(source.edits)
        asked = source.diagnostics.get("asked", True)
        return shown(
            entry,
            undoing,
            editor=source.editor,
            title=TITLES.get(source.editor, (source.editor,))[0],
            edits=[dict(edit) for edit in source.edits],
            took=[one.took if one and asked else None for one in outcomes],
            answers=[one.answer if one else "" for one in outcomes],
            norms=[],
            bytes=len("".join(told.passages).encode()) if told is not None else 0,
            seconds=source.seconds,
        )

    # -- making ------------------------------------------------------------------------------

    def check(self, asked: MakeRequest) -> list[Rewrite]:
        if asked.editor not in ("", self.how):
            raise InputError(
                f"This proxy puts edits into prompts by {self.how!r}, not {asked.editor!r}. Start it "
                f"with --how to choose: {', '.join(HOWS)}."
            )
        return [Rewrite(edit.prompt, edit.subject, edit.target) for edit in asked.edits]

    def made(self, progress: Progress, request: dict[str, Any]) -> dict[str, Any]:
        """The work of a job: ask the upstream without and with the edits, then remember them."""
        asked = MakeRequest(**request)
        edits = self.check(asked)
        progress.tell(0.1, "asking the upstream")
        before, after, note = self._answers(edits)
        progress.tell(0.8, "writing it down")
        took = [
            None if answer is None else bool(begins(answer_of(answer), edit.target))
            for edit, answer in zip(edits, after, strict=True)
        ]
        answers = [answer or "" for answer in after]
        kept = {
            "aliases": [edit.aliases for edit in asked.edits],
            "outcomes": [
                Outcome(took=bool(ok), answer=text) for ok, text in zip(took, answers, strict=True)
            ]
            if None not in took
            else [],
            "who": asked.who,
            "note": asked.note,
        }
        entry, preview = None, None
        if asked.apply:
            entry = self.shown(self.memory.make(edits, how=self.how, **kept), None)
        else:
            preview = self.keep({"edits": edits, **kept})
        return schemas.Solved(
            preview=not asked.apply,
            edit=entry,
            preview_id=preview,
            took=took,
            answers=answers,
            scorecard=_scorecard(edits, before, after, took, note),
        ).model_dump(mode="json")

    def _answers(self, edits: Sequence[Rewrite]) -> tuple[list[str | None], list[str | None], str]:
        """What the upstream says without and with each edit; None where it could not be asked."""
        way = self.prompting.telling if isinstance(self.prompting, MultiHop) else self.prompting
        assert isinstance(way, Telling)
        told = [way.told([Remembered(0, edit)], edit.text).text or "" for edit in edits]
        try:
            texts = self.remote.generate(
                [*(edit.text for edit in edits), *told], max_new_tokens=TOKENS
            )
        except (EndpointError, InputError) as error:
            unknown: list[str | None] = [None] * len(edits)
            return unknown, unknown, f"The upstream was not asked: {error}"
        note = "Asked with the edit in front of its own prompt."
        return list(texts[: len(edits)]), list(texts[len(edits) :]), note

    def keep(self, preview: dict[str, Any]) -> str:
        name = secrets.token_hex(8)
        with self._lock:
            self._previews[name] = preview
            while len(self._previews) > PREVIEWS:
                self._previews.popitem(last=False)
        return name

    def taken(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name not in self._previews:
                raise Unknown(f"There is no preview {name[:80]!r}. Make it again.")
            return self._previews.pop(name)


def _scorecard(
    edits: Sequence[Rewrite],
    before: Sequence[str | None],
    after: Sequence[str | None],
    took: Sequence[bool | None],
    note: str,
) -> schemas.Scorecard:
    rows = zip(edits, before, after, took, strict=True)
    probes = [
        schemas.Probe(
            prompt=edit.text, wanted=edit.target, before=answer_of(a), after=answer_of(b), passed=ok
        )
        for edit, a, b, ok in rows
        if a is not None and b is not None and ok is not None
    ]
    group = schemas.ProbeGroup(axis="efficacy", kind="rewrite", title="The edit", probes=probes)
    tally = schemas.Tally(passed=sum(p.passed for p in probes), asked=len(probes))
    summary = {"efficacy": tally} if probes else {}
    return schemas.Scorecard(summary=summary, groups=[group] if probes else [], note=note)
