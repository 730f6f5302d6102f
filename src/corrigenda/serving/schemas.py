"""What goes over the wire between the server and the studio's page, once for both.

Requests refuse fields that they do not know, so that a mistyped name is told rather than ignored.
Numbers are finite: JSON has no NaN. The wire format of /v1 is OpenAI's and stands in `openai.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answered",
    "Axis",
    "Card",
    "Choice",
    "DiffPlace",
    "Differences",
    "Edit",
    "EditorInfo",
    "Entries",
    "Entry",
    "Error",
    "ErrorBody",
    "EvaluateRequest",
    "ExportFormat",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "Guess",
    "GuessRequest",
    "Job",
    "JobRef",
    "Lens",
    "LensCell",
    "LensRequest",
    "NamedSet",
    "Neuron",
    "Neurons",
    "NeuronsRequest",
    "Norm",
    "OrderRequest",
    "Plan",
    "PlanRequest",
    "Probe",
    "ProbeGroup",
    "Proposed",
    "Remark",
    "Scorecard",
    "SetRequest",
    "SolveRequest",
    "Solved",
    "Status",
    "Tally",
    "Trace",
    "TraceRequest",
]

Text = Field(max_length=20_000)
Name = Field(max_length=500)
Axis = Literal["efficacy", "generalization", "portability", "locality"]
Choice = Literal["fast", "careful", "no weights changed"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class Request(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What the server sends."""

    model_config = ConfigDict(ser_json_inf_nan="null")


# -- errors -----------------------------------------------------------------------------------


class ErrorBody(Answer):
    """What went wrong and what to do next."""

    message: str
    type: str = Field(description="invalid_request_error, not_found, conflict, server_error, ...")
    param: str | None = None
    code: str | None = None


class Error(Answer):
    """The form of every error, that of OpenAI."""

    error: ErrorBody


# -- the model and the methods ----------------------------------------------------------------


class Status(Answer):
    """What is being served."""

    model: str
    kind: str = Field(description="causal, encoder-decoder or masked")
    layers: int
    parameters: int
    dtype: str
    device: str
    version: str
    atlas: bool = Field(description="the model is one of the embedded worlds'")
    world: bool = Field(description="its facts are at hand, for guesses, scorecards and the graph")
    edits: int = Field(description="active edits")
    states: list[str]
    read_only: bool = False
    proxy: bool = False
    chat_template: bool = False


class EditorInfo(Answer):
    """A method, and whether it can edit this model."""

    name: str
    title: str
    paper: str
    family: str
    summary: str
    speed: Choice
    supported: bool
    why_not: str | None = None
    batches: bool
    streams: bool
    needs: list[str]
    schema_: dict[str, Any] = Field(
        alias="schema", description="JSON schema of the settings, with this model's defaults"
    )

    model_config = ConfigDict(populate_by_name=True, ser_json_inf_nan="null")


class Proposed(Answer):
    """Three methods for three wishes; null where none fits this model."""

    fast: str | None
    careful: str | None
    no_weights: str | None


# -- edits ------------------------------------------------------------------------------------


class Edit(BaseModel):
    """A fact: the prompt about the subject is to be answered with the target.

    The prompt holds {} where the subject stands, or the subject itself.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str = Text
    subject: str = Name
    target: str = Name


class GuessRequest(Request):
    text: str = Text


class Guess(Answer):
    """A sentence, read as an edit."""

    prompt: str = Field(description="the text before the object")
    subject: str
    target: str
    prompt_template: str = Field(description="the prompt with {} in place of the subject")
    known: bool = Field(description="the subject is one of the embedded world")
    now: str = Field(description="what the edited model answers to the prompt now")


class PlanRequest(Request):
    edits: list[Edit] = Field(min_length=1, max_length=1000)
    editor: str = Name
    settings: dict[str, Any] = {}


class Plan(Answer):
    """What an edit would touch and cost, before it is solved."""

    editor: str
    title: str
    layers: list[int]
    places: list[str]
    seconds: float
    bytes: int
    memory: int
    warnings: list[str]
    precompute: bool = Field(description="statistics have to be collected first")


class SolveRequest(Request):
    """Solve edits; with `apply`, record and activate them, without it preview them."""

    edits: list[Edit] = Field(min_length=1, max_length=1000)
    editor: str = Name
    settings: dict[str, Any] = {}
    apply: bool = False
    who: str = Field(default="", max_length=200)
    note: str = Field(default="", max_length=5000)


class Remark(Request):
    """Who undoes or redoes an edit, and why."""

    note: str = Field(default="", max_length=5000)
    who: str = Field(default="", max_length=200)


class Norm(Answer):
    """How large the change at one place is; `relative` to the norm of what it changes."""

    place: str
    kind: str
    norm: float | None
    relative: float | None


class Probe(Answer):
    """One question, asked without and with the edit."""

    prompt: str
    wanted: str
    before: str
    after: str
    passed: bool


class ProbeGroup(Answer):
    axis: Axis
    kind: str
    title: str
    probes: list[Probe]


class Tally(Answer):
    passed: int
    asked: int


class Scorecard(Answer):
    """What an edit did to what should change and to what should stay."""

    summary: dict[str, Tally]
    groups: list[ProbeGroup]
    note: str


class Entry(Answer):
    """A recorded edit."""

    number: int
    id: str
    state: Literal["active", "undone"]
    when: str
    who: str
    note: str
    editor: str
    title: str
    edits: list[dict[str, Any]]
    took: list[bool | None]
    answers: list[str]
    norms: list[Norm]
    bytes: int
    seconds: float
    scorecard: Scorecard | None = None
    undone_when: str | None = None
    undone_note: str | None = None


class Card(Entry):
    """A recorded edit with its card and where it came from."""

    card: str
    provenance: dict[str, Any]


class Entries(Answer):
    edits: list[Entry] = Field(description="active edits in order of application, then undone ones")
    head: int = Field(description="number of the ledger's last record")


class Solved(Answer):
    """The result of the job that solves edits."""

    preview: bool
    edit: Entry | None
    preview_id: str | None
    took: list[bool | None]
    answers: list[str]
    scorecard: Scorecard


class OrderRequest(Request):
    numbers: list[int] = Field(max_length=100_000)


class DiffPlace(Answer):
    """Two edits at one place."""

    place: str
    cosine: float | None
    norm_a: float
    norm_b: float
    overlap: float | None


class Differences(Answer):
    a: int
    b: int
    places: list[DiffPlace]


class ExportFormat(Answer):
    format: Literal["delta", "peft", "merged", "gguf"]
    possible: bool
    why_not: str | None = None
    command: str = Field(description="what to run with it, to be copied as it stands")


class SetRequest(Request):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    numbers: list[int] = Field(max_length=100_000)


class NamedSet(Answer):
    """A name for some of the recorded edits, applied together in this order."""

    name: str
    numbers: list[int]


# -- jobs -------------------------------------------------------------------------------------


class JobRef(Answer):
    job: str


class Job(Answer):
    """Long work. `interrupted` says that the server died during it; it can be started again."""

    id: str
    kind: str
    state: JobState
    progress: float = Field(ge=0, le=1)
    message: str
    result: dict[str, Any] | None = None
    error: ErrorBody | None = None
    created: str
    interrupted: bool = False


# -- insight ----------------------------------------------------------------------------------


class TraceRequest(Request):
    prompt: str = Text
    subject: str = Name
    answer: str | None = Field(default=None, max_length=500)
    state: str = Field(default="edited", max_length=64)
    window: int | None = Field(default=None, ge=1, le=1000)
    noise: float | None = Field(default=None, gt=0, le=1000)


class Trace(Answer):
    """Causal trace: the answer's probability with one state restored; tokens × layers."""

    tokens: list[str]
    layers: list[int]
    kinds: dict[str, list[list[float | None]]]
    subject_tokens: list[int]
    clean: float
    corrupted: float
    answer: str


class LensRequest(Request):
    prompt: str = Text
    state: str = Field(default="edited", max_length=64)
    top: int = Field(default=5, ge=1, le=50)


class LensCell(Answer):
    token: str
    p: float


class Lens(Answer):
    """What each layer would say after each token: cells[token][layer] lists the most probable."""

    tokens: list[str]
    layers: list[int]
    cells: list[list[list[LensCell]]]


class NeuronsRequest(Request):
    prompt: str = Text
    layer: int = Field(ge=0)
    state: str = Field(default="edited", max_length=64)
    top: int = Field(default=10, ge=1, le=200)


class Neuron(Answer):
    index: int
    activation: float
    promotes: list[str]


class Neurons(Answer):
    layer: int
    neurons: list[Neuron]


class EvaluateRequest(Request):
    """A recorded edit by its number, or a preview by its id."""

    number: int | None = None
    preview_id: str | None = Field(default=None, max_length=64)
    edits: list[Edit] | None = Field(default=None, max_length=1000)


class GraphNode(Answer):
    id: str
    label: str
    kind: Literal["subject", "object", "other"]


class GraphEdge(Answer):
    id: str
    source: str
    target: str
    relation: str
    prompt: str
    status: Literal["changed", "follow", "stay", "leaked", "plain"]
    wanted: str
    answer: str


class Graph(Answer):
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    note: str


class Answered(Answer):
    """A plain acknowledgement."""

    ok: bool = True
