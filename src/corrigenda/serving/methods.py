"""The methods as the studio offers them: what each can do with this model, and what an edit costs.

Estimates start from the size of the model and the steps of the method, in units of one measured
forward pass; once a method has been used, from what its edits took here.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from ..disk import write_atomic
from ..edit import Rewrite
from ..editor import Editor, plain
from ..editors import TABLE, editor_class
from ..editors._about import settings as settings_of
from ..editors._about import summary
from ..editors._precompute import precomputed
from ..editors._settings import configured
from ..errors import CorrigendaError
from ..models.text import TextModel
from .jobs import finite
from .schemas import Choice, EditorInfo, Plan, Proposed

__all__ = ["Costs", "catalogue", "chosen", "plan", "proposed"]

PROPOSALS: dict[str, tuple[str, ...]] = {
    "fast": ("ft-m", "lora", "rome"),
    "careful": ("rome", "memit", "alphaedit", "locft-bf", "lora"),
    "no_weights": ("rag-ike", "ike", "definition", "grace"),
}
"""For each wish the methods that serve it, the best first; the model decides which can be used."""

STEPS = 20
"""Steps of a method that does not say how many it takes."""


def catalogue(model: TextModel) -> list[EditorInfo]:
    """Every method, those that can edit this model first."""
    found = [_info(editor_class(name), model) for name in TABLE]
    return sorted(found, key=lambda one: not one.supported)


def proposed(model: TextModel) -> Proposed:
    """A method for each of three wishes."""

    def first(names: Sequence[str]) -> str | None:
        return next((n for n in names if _why_not(editor_class(n), model) is None), None)

    return Proposed(**{wish: first(names) for wish, names in PROPOSALS.items()})


def chosen(model: TextModel, name: str, settings: Mapping[str, Any]) -> Editor:
    """A method with these settings. Raises what is wrong with them, or with the model."""
    editor = configured(editor_class(name), settings)
    editor.check(model, [])
    return editor


def _info(cls: type[Editor], model: TextModel) -> EditorInfo:
    why_not = _why_not(cls, model)
    return EditorInfo(
        name=cls.name,
        title=cls.title,
        paper=cls.paper,
        family=cls.family,
        summary=summary(cls),
        speed=_speed(cls),
        supported=why_not is None,
        why_not=why_not,
        batches=cls.batches,
        streams=cls.streams,
        needs=list(cls.needs),
        schema=_schema(cls, model),
    )


def _speed(cls: type[Editor]) -> Choice:
    if cls.change not in ("LowRank", "Dense"):
        return "no weights changed"
    closed = cls.family in ("locate-then-edit", "unstructured") or "statistics" in cls.needs
    return "careful" if closed else "fast"


def _why_not(cls: type[Editor], model: TextModel) -> str | None:
    """Why a method cannot make edits of facts in this model; None if it can."""
    if cls.takes is not Rewrite:
        return f"It takes {cls.takes.__name__.lower()} edits, which are made on the command line."
    if model.kind not in cls.kinds:
        return f"It does not edit {model.kind} models."
    try:
        cls().resolved(model)
    except CorrigendaError as error:
        return str(error)
    except TypeError as error:
        return f"It has settings without a default: {error}."
    if "training" in cls.needs and not model.is_atlas:
        return f"Its network has to be trained for this model first: corrigenda fit {model.id}."
    return None


def _schema(cls: type[Editor], model: TextModel) -> dict[str, Any]:
    """JSON schema of the settings, with the defaults that hold for this model."""
    editor: Any = None
    with contextlib.suppress(CorrigendaError, TypeError):
        editor = cls().resolved(model)
    meaning = {row["name"]: row["meaning"] for row in settings_of(cls)}
    types = get_type_hints(cls)
    properties = {}
    for field in fields(cls):
        try:
            one = TypeAdapter(types[field.name]).json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError):
            continue  # an editor inside another: set by its name on the command line
        value = getattr(editor, field.name) if editor is not None else None
        properties[field.name] = {
            "title": field.name.replace("_", " "),
            **one,
            "description": meaning.get(field.name, ""),
            "default": finite(plain(value)),
        }
    return {
        "type": "object",
        "title": cls.title,
        "properties": properties,
        "additionalProperties": False,
    }


# -- what an edit costs -----------------------------------------------------------------------


class Costs:
    """Seconds per edit of each method on this model, as they were measured; kept on disk."""

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model = path, model
        self._lock = threading.Lock()
        try:
            self._known: dict[str, dict[str, float]] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self._known = {}

    def seconds(self, editor: str) -> float | None:
        """Per edit; None for a method that was not used yet."""
        found = self._known.get(self._model, {}).get(editor)
        return float(found) if isinstance(found, int | float) else None

    def put(self, editor: str, seconds: float) -> None:
        """A further measurement, which counts half."""
        with self._lock:
            known = self.seconds(editor)
            mean = seconds if known is None else (known + seconds) / 2
            self._known.setdefault(self._model, {})[editor] = round(mean, 4)
            write_atomic(self._path, json.dumps(self._known, indent=1).encode())


@torch.no_grad()
def forward_seconds(model: TextModel) -> float:
    """How long one forward pass over a short text takes."""
    model.next_logprobs(["The first pass"])  # it sets up what later ones find ready
    started = time.perf_counter()
    model.next_logprobs(["The quick brown fox jumps over the lazy dog and"])
    return time.perf_counter() - started


def plan(
    model: TextModel, editor: Editor, edits: Sequence[Rewrite], costs: Costs, forward: float
) -> Plan:
    """What an edit would touch and cost. forward: seconds of one pass."""
    editor.check(model, edits)
    resolved: Any = editor.resolved(model)
    layers = [int(layer) for layer in getattr(resolved, "layers", None) or ()]
    sites = resolved.sites(model) if layers and hasattr(resolved, "sites") else []
    shapes = [(site.parameter, tuple(model.weight(site).shape)) for site in sites]
    n = len(edits)
    needs_statistics = not precomputed(model, editor)
    seconds = costs.seconds(editor.name)
    if seconds is None:
        # Forward and backward are about three passes; contexts and prompts make several rows.
        weightless = editor.change not in ("LowRank", "Dense")
        steps = getattr(resolved, "steps", None) or getattr(resolved, "epochs", None)
        steps = int(steps) if isinstance(steps, int) else STEPS
        looks = 4 if weightless and editor.family == "in-context" else 6 * steps
        seconds = looks * forward
    total = seconds * n
    if needs_statistics:
        total += resolved.tokens / 200 * forward
    if editor.change == "LowRank":
        size = sum(4 * (o + i) * min(n, o, i) for _, (o, i) in shapes)
    elif editor.change == "Dense":
        size = sum(4 * o * i for _, (o, i) in shapes)
    elif editor.change == "Prefix":
        size = sum(len(e.statement.encode()) + 2 for e in edits)
    else:
        size = 8 * model.width * n
    touched = sum(o * i for _, (o, i) in shapes) * model.dtype.itemsize
    return Plan(
        editor=editor.name,
        title=editor.title,
        layers=layers,
        places=[name for name, _ in shapes] or [_place(editor, layers)],
        seconds=round(total, 2),
        bytes=size,
        memory=touched + size,
        warnings=_warnings(model, editor, edits),
        precompute=needs_statistics,
    )


def _place(editor: Editor, layers: Sequence[int]) -> str:
    if editor.change == "Prefix":
        return "the prompt"
    if layers:
        return f"activations of layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
    return "found while solving"


def _warnings(model: TextModel, editor: Editor, edits: Sequence[Rewrite]) -> list[str]:
    """What is worth knowing before, in sentences."""
    found = []
    if len(edits) > 1 and not editor.batches:
        found.append(f"{editor.title} makes one edit after another; {len(edits)} take as long.")
    said = model.live.deltas
    if said and not editor.streams:
        found.append(f"{editor.title} was not made for edits on top of others, and there are some.")
    told: dict[tuple[str, str], str] = {}
    for edit in edits:
        known = told.setdefault((edit.subject, edit.prompt), edit.target)
        if known != edit.target:
            found.append(f"Two edits contradict each other: {edit.text!r} is {known} in one.")
    for edit in edits:
        words = model.ids(edit.text)
        if model.context is not None and len(words) + 16 > model.context:
            found.append(f"{edit.text[:60]!r}… hardly fits into the model's context.")
    return list(dict.fromkeys(found))
