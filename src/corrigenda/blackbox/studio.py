"""What the studio's page asks of a proxy: the routes under /api.

The same routes and forms as the server's (`serving/schemas.py`), as far as they mean anything where
there are no weights: no layers, no traces, no exports of tensors. What is missing says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from ..edit import Rewrite
from ..serving import schemas
from ..serving.app import refusing, with_page
from ..serving.jobs import Jobs
from ..serving.openai import error_body
from ..serving.studio import job_routes
from .book import TITLES, Book, MakeRequest
from .client import Remote
from .prompting import HOWS

__all__ = ["studio"]

Pages = Callable[[FastAPI], None]


def studio(rewriter: Any, remote: Remote) -> tuple[Pages, Jobs]:
    """A function that adds the studio's routes to an application, and the jobs that they start."""
    book = Book(rewriter, remote)
    jobs = Jobs(book.memory.ledger.directory / "jobs", {"edit": ("edits", book.made)})

    def add(app: FastAPI) -> None:
        refusing(app)
        _read_routes(app, book)
        _edit_routes(app, book, jobs)
        app.include_router(job_routes(jobs))
        with_page(app)

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


# -- routes -----------------------------------------------------------------------------------


def _read_routes(app: FastAPI, book: Book) -> None:
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


def _edit_routes(app: FastAPI, book: Book, jobs: Jobs) -> None:
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
