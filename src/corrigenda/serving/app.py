"""The web application: the parts put together, errors in one form, the page's files.

DIR/ledger/       the record of edits, unless another one was named
DIR/jobs/         what was asked for and what came of it
DIR/previews/ ... see `edits.py`
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from .. import __version__
from ..delta import Delta
from ..errors import CorrigendaError
from ..ledger import Ledger
from ..models.text import TextModel
from . import completions, methods, studio
from .claim import Claim
from .edits import Edits
from .engine import Engine, Limits
from .jobs import Jobs
from .openai import error_body
from .refusals import status_of
from .security import Guard, Security
from .states import States

__all__ = ["WEB", "build", "refusing", "with_page"]

log = logging.getLogger("corrigenda.serving")
WEB = Path(__file__).parent / "web"


def build(
    model: TextModel,
    directory: Path,
    *,
    ledger: Path | None = None,
    deltas: Sequence[Delta] = (),
    security: Security | None = None,
    limits: Limits | None = None,
    read_only: bool = False,
) -> Any:
    """The application for a loaded model, with its data in `directory`; an ASGI callable.

    deltas  are recorded in the ledger, if they are not active there already.

    Raises `LedgerError` for a ledger of another model, `WrongBaseError` for a delta of one,
    `InputError` for a directory that another server works in.
    """
    directory.mkdir(parents=True, exist_ok=True)
    claim = Claim(directory)
    states, engine = States(model), Engine(limits)
    costs = methods.Costs(directory / "costs.json", model.id)
    book = Ledger.open(ledger or directory / "ledger")
    edits = Edits(states, book, directory, costs, read_only)
    for delta in deltas:
        edits.record(delta, note="given when the server started")
    looks = studio.Looks(states)
    jobs = Jobs(
        directory / "jobs",
        {
            "edit": ("edits", edits.solve),
            "evaluate": ("edits", edits.evaluate),
            "trace": ("looks", looks.trace),
        },
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            engine.stop()
            jobs.close()
            claim.release()

    app = FastAPI(
        title="Corrigenda",
        version=__version__,
        summary="A language model with and without its edits.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    refusing(app)
    app.include_router(completions.routes(states, engine, int(time.time())))
    app.include_router(studio.routes(states, edits, jobs, looks, costs, read_only))
    app.include_router(studio.job_routes(jobs))
    with_page(app)
    return Guard(app, security or Security())


def with_page(app: FastAPI) -> None:
    """Serve the studio's page and its files."""

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(WEB / "icon.svg", media_type="image/svg+xml")

    app.mount("/static", StaticFiles(directory=WEB, check_dir=False), name="static")


def refusing(app: FastAPI) -> None:
    """Answer every error in OpenAI's form, with what to do next."""

    def answer(status: int, body: dict[str, Any]) -> JSONResponse:
        headers = {"retry-after": "2"} if status == 503 else None
        return JSONResponse(body, status, headers)

    @app.exception_handler(CorrigendaError)
    async def refused(_: Request, error: CorrigendaError) -> JSONResponse:
        status, kind, code = status_of(error)
        return answer(status, error_body(str(error), kind, code=code))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first: Any = next(iter(error.errors()), {})
        place = ".".join(str(part) for part in first.get("loc", ())[1:])
        message = f"{place}: {first.get('msg', 'is not valid')}." if place else "No valid request."
        status = 400 if request.url.path.startswith("/v1/") else 422
        return answer(status, error_body(message, param=place or None, code="invalid"))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        code = "not_found" if error.status_code == 404 else None
        message = (
            f"There is nothing at {request.url.path[:200]!r}. GET /openapi.json lists what there is."
            if error.status_code == 404
            else str(error.detail)
        )
        found = answer(error.status_code, error_body(message, code=code))
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s failed", request.method, request.url.path)
        message = "The server failed at this request. Its log says more; nothing was changed by it."
        return answer(500, error_body(message, "server_error"))
