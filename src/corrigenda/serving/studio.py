"""/api: what the studio's page asks for. Edits, jobs, and a look inside.

Everything here waits for disks or for the model, so it runs in threads beside the event loop; what
takes long is a job. The work itself stands in the modules that are named here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from .. import __version__
from ..models.text import TextModel
from . import exports, insight, methods, schemas
from .edits import Edits, rewrites
from .jobs import Jobs, Progress
from .refusals import Conflict
from .states import EDITED, Bench, States

__all__ = ["Looks", "job_routes", "routes"]

LOOK, ALIVE = 0.1, 15.0
"""Seconds between two looks at a job, and between signs of life of a stream."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error} for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}
Number = Annotated[int, Path(ge=0, lt=2**53)]


class Looks:
    """Looking into states, on a bench of its own."""

    def __init__(self, states: States) -> None:
        self._states, self._bench = states, Bench(states.tree())

    def on(self, state: str) -> Any:
        return self._bench.on(self._states.of(state))

    def on_tree(self, tree: TextModel) -> Any:
        return self._bench.on(tree)

    def trace(self, progress: Progress, asked: dict[str, Any]) -> dict[str, Any]:
        """The work of a job."""
        request = schemas.TraceRequest(**asked)
        with self.on(request.state) as model:
            return insight.trace(model, request, progress.tell).model_dump(mode="json")


def routes(
    states: States,
    edits: Edits,
    jobs: Jobs,
    looks: Looks,
    costs: methods.Costs,
    read_only: bool,
) -> APIRouter:
    root = states.root
    router = APIRouter(prefix="/api", tags=["Studio"], responses=_ERRORS)
    size = sum(p.numel() for p in root.module.parameters())
    catalogue = methods.catalogue(root)
    forward: list[float] = []

    @router.get("/status")
    def status() -> schemas.Status:
        """What is being served."""
        return schemas.Status(
            model=root.id,
            kind=root.kind,
            layers=root.n_layers,
            parameters=size,
            dtype=str(root.dtype).removeprefix("torch."),
            device=str(root.device),
            version=__version__,
            atlas=root.is_atlas,
            world=insight.world_for(root) is not None,
            edits=edits.active,
            states=states.names,
            read_only=read_only,
            chat_template=bool(getattr(root.tokenizer, "chat_template", None)),
        )

    # -- methods ------------------------------------------------------------------------------

    @router.get("/editors")
    def editors(proposed: bool = False) -> list[schemas.EditorInfo] | schemas.Proposed:
        """All methods with their settings, or three that are proposed."""
        return methods.proposed(root) if proposed else catalogue

    @router.post("/guess")
    def guess(asked: schemas.GuessRequest) -> schemas.Guess:
        """A sentence read as an edit."""

        def ask(prompt: str) -> str:
            with looks.on(EDITED) as model:
                return insight.answers(model)([prompt])[prompt]

        return insight.guess(root, asked.text, ask)

    @router.post("/plan")
    def plan(asked: schemas.PlanRequest) -> schemas.Plan:
        """What an edit would touch and cost."""
        editor = methods.chosen(root, asked.editor, asked.settings)
        with looks.on(EDITED) as model:
            if not forward:
                forward.append(methods.forward_seconds(model))
            return methods.plan(model, editor, rewrites(asked.edits), costs, forward[0])

    # -- edits --------------------------------------------------------------------------------

    @router.get("/edits")
    def listed() -> schemas.Entries:
        """The ledger: active edits in order, then those that were undone."""
        return edits.entries()

    @router.post("/edits", status_code=202)
    def solve(asked: schemas.SolveRequest) -> schemas.JobRef:
        """Solve edits as a job; with `apply` they are recorded and act, otherwise previewed."""
        edits.check(asked)
        return schemas.JobRef(job=jobs.start("edit", asked.model_dump()))

    @router.post("/edits/preview/{preview}/apply")
    def apply(preview: str) -> schemas.Entry:
        """Record an edit that was previewed."""
        return edits.apply_preview(preview)

    @router.delete("/edits/preview/{preview}", status_code=204)
    def discard(preview: str) -> None:
        edits.discard_preview(preview)

    @router.post("/edits/order")
    def order(asked: schemas.OrderRequest) -> schemas.Entries:
        """Let the active edits apply in another order."""
        return edits.order(asked.numbers)

    @router.get("/edits/diff")
    def diff(a: Annotated[int, Query(ge=0)], b: Annotated[int, Query(ge=0)]) -> schemas.Differences:
        """Where two edits change the same."""
        return edits.diff(a, b)

    @router.get("/edits/export")
    def formats(numbers: str | None = None) -> list[schemas.ExportFormat]:
        """What edits can be written as; all active ones unless numbers are given (1,2)."""
        return exports.formats(root, edits.deltas(_numbers(numbers)))

    @router.get("/edits/export/{form}", response_class=StreamingResponse)
    def export(form: str, numbers: str | None = None) -> StreamingResponse:
        """A zip archive."""
        path = exports.archive(root, edits.deltas(_numbers(numbers)), form)
        return StreamingResponse(
            exports.pieces(path),
            media_type="application/zip",
            headers={
                "content-disposition": f'attachment; filename="{path.name}"',
                "content-length": str(path.stat().st_size),
            },
        )

    @router.get("/edits/{number}")
    def entry(number: Number) -> schemas.Card:
        """One edit with its card and provenance."""
        return edits.entry(number)

    @router.post("/edits/{number}/undo")
    def undo(number: Number, asked: schemas.Remark) -> schemas.Entry:
        return edits.undo(number, asked.note, asked.who)

    @router.post("/edits/{number}/redo")
    def redo(number: Number, asked: schemas.Remark) -> schemas.Entry:
        """Apply an undone edit again: a new entry."""
        return edits.redo(number, asked.note, asked.who)

    @router.get("/sets")
    def sets() -> list[schemas.NamedSet]:
        return edits.sets()

    @router.post("/sets")
    def put_set(asked: schemas.SetRequest) -> schemas.NamedSet:
        """Name some of the edits; the name becomes a state."""
        return edits.put_set(asked.name, asked.numbers)

    @router.delete("/sets/{name}", status_code=204)
    def drop_set(name: str) -> None:
        edits.drop_set(name)

    # -- insight ------------------------------------------------------------------------------

    @router.post("/trace", status_code=202)
    def trace(asked: schemas.TraceRequest) -> schemas.JobRef:
        """Causal traces, as a job."""
        states.of(asked.state)
        return schemas.JobRef(job=jobs.start("trace", asked.model_dump()))

    @router.post("/lens")
    def lens(asked: schemas.LensRequest) -> schemas.Lens:
        """What each layer would say after each token."""
        with looks.on(asked.state) as model:
            return insight.lens(model, asked.prompt, asked.top)

    @router.post("/neurons")
    def neurons(asked: schemas.NeuronsRequest) -> schemas.Neurons:
        """The neurons that write most at the prompt's last token."""
        if asked.layer >= root.n_layers:
            raise Conflict(f"{root.id} has the layers 0 to {root.n_layers - 1}.")
        with looks.on(asked.state) as model:
            return insight.neurons(model, asked.prompt, asked.layer, asked.top)

    @router.post("/evaluate", status_code=202)
    def evaluate(asked: schemas.EvaluateRequest) -> schemas.JobRef:
        """Ask a scorecard's questions anew, as a job."""
        if (asked.number is None) == (asked.preview_id is None):
            raise Conflict("Give the number of an edit, or a preview_id, and not both.")
        return schemas.JobRef(job=jobs.start("evaluate", asked.model_dump()))

    @router.get("/graph")
    def graph(
        subject: Annotated[str, Query(min_length=1, max_length=500)],
        number: Annotated[int | None, Query(ge=0)] = None,
    ) -> schemas.Graph:
        """The facts around a subject, and what an edit did to them."""
        facts = edits.facts_of(number) if number is not None else []
        if number is None:
            before = after = states.of(EDITED)
        else:
            before, after = edits.around(number)

        def ask(tree: TextModel) -> Any:
            def answers(prompts: Any) -> dict[str, str]:
                with looks.on_tree(tree) as model:
                    return insight.answers(model)(prompts)

            return answers

        return insight.graph(root, subject, facts, ask(before), ask(after))

    return router


def job_routes(jobs: Jobs) -> APIRouter:
    """The routes of long work: also the proxy's."""
    router = APIRouter(prefix="/api", tags=["Jobs"], responses=_ERRORS)

    @router.get("/jobs")
    def all_jobs() -> list[schemas.Job]:
        """The newest first."""
        return jobs.list()

    @router.get("/jobs/{id}")
    def job(id: str) -> schemas.Job:
        return jobs.get(id)

    @router.delete("/jobs/{id}")
    def cancel(id: str) -> schemas.Job:
        """Let a job stop: at once if it waits, else at its next step."""
        return jobs.cancel(id)

    @router.post("/jobs/{id}/again", status_code=202)
    def again(id: str) -> schemas.JobRef:
        """Start a finished or interrupted job once more."""
        return schemas.JobRef(job=jobs.again(id))

    @router.get("/jobs/{id}/events", response_class=StreamingResponse)
    async def events(id: str) -> StreamingResponse:
        """Server-sent events: the job with every change; the last one says how it ended."""
        jobs.get(id)  # told before the stream begins
        return StreamingResponse(_followed(jobs, id), media_type="text/event-stream")

    return router


def _numbers(text: str | None) -> list[int] | None:
    """ "1,2" as numbers; None for all. Raises `Conflict` for anything else."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise Conflict(f"{text[:60]!r} is no list of numbers such as 1,2.")
    if any(len(part) > 15 for part in parts):
        raise Conflict("A number is too large.")
    return [int(part) for part in parts]


async def _followed(jobs: Jobs, id: str) -> AsyncIterator[str]:
    seen, silent = -1, 0.0
    while True:
        version = jobs.version(id)
        if version != seen:
            seen, silent = version, 0.0
            job = jobs.get(id)
            yield f"data: {job.model_dump_json()}\n\n"
            if job.state in ("done", "failed", "cancelled"):
                return
        elif silent >= ALIVE:
            silent = 0.0
            yield ": \n\n"
        await asyncio.sleep(LOOK)
        silent += LOOK
