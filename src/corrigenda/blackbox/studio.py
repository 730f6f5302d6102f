"""What the studio's page asks of a proxy: the edit memory, read and changed.

The same routes and forms as the server's (`serving/schemas.py`), as far as they mean anything where
there are no weights: no layers, no traces, no exports of tensors. What is missing says so.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field
from starlette.exceptions import HTTPException

from .. import __version__
from ..card import card
from ..delta import Outcome
from ..edit import Rewrite
from ..errors import CorrigendaError, EndpointError, InputError
from ..ledger import Entry
from ..metrics.text import answer_of, begins
from ..serving import schemas
from ..serving.app import WEB
from ..serving.jobs import Jobs, Progress
from ..serving.openai import error_body, event
from ..serving.refusals import Unknown, status_of
from .client import Remote
from .prompting import HOWS, MultiHop, Telling

__all__ = ["studio"]

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
POLL = 0.2  # seconds between two looks at a job that is watched


class Edit(schemas.Edit):
    """A fact, and other names of its subject."""

    aliases: list[str] = Field(default=[], max_length=50)


class MakeRequest(schemas.SolveRequest):
    """Edits to remember. editor: the way that the proxy puts them into prompts, or nothing."""

    edits: list[Edit] = Field(min_length=1, max_length=1000)  # type: ignore[assignment]
    editor: str = Field(default="", max_length=500)


Pages = Callable[[FastAPI], None]


def studio(rewriter: Any, remote: Remote) -> tuple[Pages, Jobs]:
    """A function that adds the studio's routes to an application, and the jobs that they start."""
    book = _Book(rewriter, remote)
    jobs = Jobs(book.memory.ledger.directory / "jobs", {"edit": ("edits", book.made)})

    def add(app: FastAPI) -> None:
        _errors(app)
        _read_routes(app, book)
        _edit_routes(app, book, jobs)
        _job_routes(app, jobs)
        if WEB.is_dir():
            app.add_api_route("/", lambda: FileResponse(WEB / "index.html"), methods=["GET"])
            app.mount("/static", StaticFiles(directory=WEB), name="static")

        @app.api_route(
            "/api/{path:path}", methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False
        )
        def missing(path: str) -> Response:
            text = (
                f"/api/{path} needs the model itself, and a proxy has only its answers. Use "
                "`corrigenda serve` with a model whose weights are at hand."
            )
            return JSONResponse(error_body(text, code="not_on_a_proxy"), 404)

    return add, jobs


# -- the memory as the page sees it -----------------------------------------------------------


class _Book:
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
        return schemas.Entry(
            number=entry.seq,
            id=entry.delta,
            state="undone" if undoing else "active",
            when=entry.time,
            who=entry.who,
            note=entry.note,
            editor=source.editor,
            title=TITLES.get(source.editor, (source.editor,))[0],
            edits=[dict(edit) for edit in source.edits],
            took=[one.took if one and asked else None for one in outcomes],
            answers=[one.answer if one else "" for one in outcomes],
            norms=[],
            bytes=len("".join(told.passages).encode()) if told is not None else 0,
            seconds=source.seconds,
            undone_when=undoing.time if undoing else None,
            undone_note=undoing.note if undoing else None,
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
        from .memory import Remembered

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


# -- routes -----------------------------------------------------------------------------------


def _read_routes(app: FastAPI, book: _Book) -> None:
    @app.get("/api/status")
    def status() -> schemas.Status:
        return book.status()

    @app.get("/api/editors")
    def editors(proposed: bool = False) -> Any:
        if proposed:
            return schemas.Proposed(fast=None, careful=None, no_weights=book.how)
        return [_about(name, book.how) for name in (book.how, *(n for n in HOWS if n != book.how))]

    @app.get("/api/sets")
    def sets() -> list[schemas.NamedSet]:
        return []  # the names of models are the upstream's

    @app.get("/api/edits")
    def edits() -> schemas.Entries:
        with book.memory.lock:
            every = book.memory.ledger.entries()
            return schemas.Entries(edits=book.entries(), head=every[-1].seq if every else 0)

    @app.get("/api/edits/export")
    def export() -> list[schemas.ExportFormat]:
        place = book.memory.ledger.directory
        formats: list[schemas.ExportFormat] = []
        for name in ("delta", "peft", "merged", "gguf"):
            formats.append(
                schemas.ExportFormat(
                    format=name,
                    possible=False,
                    why_not="These edits are texts. To have them in weights, consolidate them.",
                    command=f"corrigenda consolidate {place} MODEL -o consolidated",
                )
            )
        return formats

    @app.get("/api/edits/{number}")
    def edit(number: int) -> schemas.Card:
        return book.one(number)


def _edit_routes(app: FastAPI, book: _Book, jobs: Jobs) -> None:
    @app.post("/api/plan")
    def plan(asked: schemas.PlanRequest) -> schemas.Plan:
        edits = [Rewrite(e.prompt, e.subject, e.target) for e in asked.edits]
        return schemas.Plan(
            editor=book.how,
            title=TITLES[book.how][0],
            layers=[],
            places=["the prompt"],
            seconds=0.0,
            bytes=sum(len(edit.statement.encode()) for edit in edits),
            memory=0,
            warnings=[],
            precompute=False,
        )

    @app.post("/api/edits", status_code=202)
    def make(asked: MakeRequest) -> schemas.JobRef:
        book.check(asked)
        return schemas.JobRef(job=jobs.start("edit", asked.model_dump(mode="json")))

    @app.post("/api/edits/preview/{name}/apply")
    def apply(name: str) -> schemas.Entry:
        kept = book.taken(name)
        return book.shown(book.memory.make(how=book.how, **kept), None)

    @app.delete("/api/edits/preview/{name}", status_code=204)
    def drop(name: str) -> Response:
        book.taken(name)
        return Response(status_code=204)

    @app.post("/api/edits/{number}/undo")
    def undo(number: int, remark: schemas.Remark | None = None) -> schemas.Entry:
        entry = book.entry(number)
        said = remark or schemas.Remark()
        return book.shown(entry, book.memory.undo(number, note=said.note, who=said.who))

    @app.post("/api/edits/{number}/redo")
    def redo(number: int, remark: schemas.Remark | None = None) -> schemas.Entry:
        said = remark or schemas.Remark()
        entry = book.entry(number)
        return book.shown(book.memory.redo(entry, note=said.note, who=said.who), None)


def _job_routes(app: FastAPI, jobs: Jobs) -> None:
    @app.get("/api/jobs")
    def every() -> list[schemas.Job]:
        return jobs.list()

    @app.get("/api/jobs/{name}")
    def job(name: str) -> schemas.Job:
        return jobs.get(name)

    @app.delete("/api/jobs/{name}")
    def cancel(name: str) -> schemas.Job:
        return jobs.cancel(name)

    @app.get("/api/jobs/{name}/events")
    async def events(name: str) -> StreamingResponse:
        jobs.get(name)  # unknown ones are refused before the stream begins

        async def told() -> AsyncIterator[str]:
            seen = -1
            while True:
                version, now = jobs.version(name), jobs.get(name)
                if version != seen:
                    yield event(now.model_dump(mode="json"))
                    seen = version
                if now.state in ("done", "failed", "cancelled"):
                    return
                await asyncio.sleep(POLL)

        return StreamingResponse(told(), media_type="text/event-stream")


def _about(name: str, how: str) -> schemas.EditorInfo:
    title, summary, paper = TITLES[name]
    return schemas.EditorInfo(
        name=name,
        title=title,
        paper=paper,
        family="in-context",
        summary=summary,
        speed="no weights changed",
        supported=name == how,
        why_not=None if name == how else f"This proxy runs with --how {how}.",
        batches=True,
        streams=True,
        needs=[],
        schema={"type": "object", "properties": {}},
    )


def _errors(app: FastAPI) -> None:
    """Every error in OpenAI's form."""

    @app.exception_handler(CorrigendaError)
    def refused(_request: Any, error: CorrigendaError) -> JSONResponse:
        status, kind, code = status_of(error)
        return JSONResponse(error_body(str(error), kind, code=code), status)

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        text = f"{where or 'The body'}: {first['msg']}."
        return JSONResponse(error_body(text, param=where or None, code="malformed"), 422)

    @app.exception_handler(HTTPException)
    def unusual(_request: Any, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), error.status_code, error.headers)
