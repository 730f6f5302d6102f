"""What should change, and how we will know: edits, probes, cases.

An *edit* is a request. `Rewrite` asks that a prompt about a subject be answered with a target.
A *probe* is a question with its acceptable answers, asked before and after the edit.
A *case* is one edit, or a few that belong together, with the probes that judge it. Editors see
edits only, never probes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from .errors import DataError, EditError

__all__ = [
    "Axis",
    "Case",
    "Concept",
    "Condition",
    "Contrast",
    "Edit",
    "Judge",
    "Probe",
    "Rewrite",
    "read_rewrites",
    "write_jsonl",
]

Axis = Literal["efficacy", "generalization", "locality", "portability"]
Judge = Literal["contains", "overlap", "safety", "trait", "record"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Answer `prompt` about `subject` with `target`.

    prompt       contains `{}` once, where the subject stands: "{} is located in"; a prompt that
                 spells the subject out ("The Eiffel Tower is located in") is turned into that form.
    subject      the thing that the fact is about.
    target       the wanted answer, without a leading space.
    target_true  the answer that the unedited world gives, if known.
    relation     an identifier of the relation, if known ("P276", "landmark.city").
    after        text that follows the target, for facts whose object does not come last: prompt
                 "The city of", after "is where {} stands". The subject then stands in one of both.

    Raises `EditError` when the subject is missing or not in the prompt, or the target is empty.
    """

    prompt: str
    subject: str
    target: str
    target_true: str | None = None
    relation: str | None = None
    after: str = ""

    def __post_init__(self) -> None:
        for name in ("prompt", "subject", "target", "after"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise EditError(f"{name} must be text, not {type(value).__name__} ({value!r}).")
            if name == "prompt" and self.after.strip():
                continue  # the object comes first
            if name != "after" and not value.strip():
                raise EditError(f"The edit has no {name}. Give a non-empty {name}.")
        object.__setattr__(self, "subject", self.subject.strip())
        object.__setattr__(self, "target", self.target.strip())
        if self.target_true is not None:
            object.__setattr__(self, "target_true", self.target_true.strip() or None)
        marks = self.prompt.count("{}") + self.after.count("{}")
        if marks == 0:
            at = self.prompt.rfind(self.subject)
            if at < 0:
                raise EditError(
                    f"The subject {self.subject!r} does not occur in the prompt {self.prompt!r}. "
                    "Put {} where the subject stands, or spell the subject as the prompt does."
                )
            filled = self.prompt[:at] + "{}" + self.prompt[at + len(self.subject) :]
            object.__setattr__(self, "prompt", filled)
        elif marks > 1:
            raise EditError(f"The prompt {self.prompt!r} has {marks} places {{}}; it needs one.")

    @property
    def text(self) -> str:
        """The prompt with the subject filled in. Braces elsewhere in it are left alone."""
        return self.prompt.replace("{}", self.subject, 1)

    @property
    def following(self) -> str:
        """`after` with the subject filled in."""
        return self.after.replace("{}", self.subject, 1)

    @property
    def question(self) -> str:
        """`text`; where the object does not come last, with a gap in its place."""
        return f"{self.text.rstrip()} ___ {self.following}".lstrip() if self.after else self.text

    @property
    def subject_span(self) -> tuple[int, int]:
        """Character offsets [start, end) of the subject inside `text`.

        Raises `EditError` where the subject comes after the object.
        """
        start = self.prompt.find("{}")
        if start < 0:
            raise EditError(
                f"In {self.statement!r} the subject stands after the object, and this method looks "
                "the subject up in what comes before. Word the edit with the subject first, edit a "
                "masked model or T5, or use an editor that needs no subject (ft-m, lora, ike)."
            )
        return start, start + len(self.subject)

    @property
    def statement(self) -> str:
        """The fact as one sentence, for editors that put it into the context."""
        after = self.following
        space = "" if not after or after[0] in " .,;:?!" else " "
        return f"{self.text.rstrip()} {self.target}{space}{after}".lstrip()

    def to_dict(self) -> dict[str, Any]:
        row = {k: v for k, v in asdict(self).items() if v is not None}
        return row if self.after else {k: v for k, v in row.items() if k != "after"}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Rewrite:
        """Build from a mapping with at least prompt, subject and target.

        Raises `EditError` naming what is missing or unknown.
        """
        if not isinstance(row, dict):
            raise EditError(f"An edit is a JSON object, not {type(row).__name__}.")
        row = dict(row)
        for theirs, ours in (("target_new", "target"), ("relation_id", "relation")):
            if theirs in row and ours not in row:
                row[ours] = row.pop(theirs)
        if row.get("after"):
            row.setdefault("prompt", "")
        missing = [k for k in ("prompt", "subject", "target") if k not in row]
        if missing:
            raise EditError(
                f"The edit lacks {', '.join(missing)}. "
                'Example: {"prompt": "{} is in", "subject": "Eiffel Tower", "target": "Rome"}'
            )
        known = {k: row[k] for k in cls.__dataclass_fields__ if k in row}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Prefer one continuation of a prompt to another: what steering and detoxification take.

    prompt    the text that both continue; may be empty.
    positive  what the model should lean towards: a safe answer, a tone, an attitude.
    negative  what it should lean away from.

    Raises `EditError` for an empty side, or two equal ones.
    """

    positive: str
    negative: str
    prompt: str = ""

    def __post_init__(self) -> None:
        for name in ("positive", "negative", "prompt"):
            if not isinstance(value := getattr(self, name), str):
                raise EditError(f"{name} must be text, not {type(value).__name__} ({value!r}).")
        if not self.positive.strip() or not self.negative.strip():
            raise EditError(
                'A contrast needs two texts. Example: Contrast(" Love", " Hate", prompt="I feel")'
            )
        if self.positive == self.negative:
            raise EditError(f"Both sides of the contrast are {self.positive!r}; they must differ.")

    @property
    def text(self) -> str:
        return self.prompt

    @property
    def question(self) -> str:
        return self.prompt

    @property
    def target(self) -> str:
        return self.positive

    @property
    def target_true(self) -> None:
        """A contrast has no true answer."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Concept:
    """A property of texts, shown by labelled examples: what erasure and skill neurons take.

    name    what the property is: "language", "sentiment".
    texts   examples; the model's activations at their last tokens carry the property.
    labels  one per text, of at least two kinds.

    Raises `EditError` when they do not match.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        if len(self.texts) != len(self.labels):
            raise EditError(
                f"The concept {self.name!r} has {len(self.texts)} texts and {len(self.labels)} "
                "labels; give one label per text."
            )
        if len(set(self.labels)) < 2:
            raise EditError(
                f"The concept {self.name!r} has examples of {len(set(self.labels))} kind(s); it "
                "takes at least two to tell them apart."
            )
        if any(not text.strip() for text in self.texts):
            raise EditError(f"The concept {self.name!r} has an empty text among its examples.")

    @property
    def text(self) -> str:
        return self.name

    @property
    def question(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        return ""

    @property
    def target_true(self) -> None:
        """A concept has no true answer."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "texts": list(self.texts), "labels": list(self.labels)}


Edit = Rewrite | Contrast | Concept


@dataclass(frozen=True, slots=True)
class Condition:
    """What the unedited model has to know, or a test says nothing about the edit.

    prompt   the question put to the model before the edit.
    answers  any of these names the right answer.
    """

    prompt: str
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(self.answers))
        if not self.prompt.strip() or not self.answers:
            raise EditError("A condition needs a prompt and at least one answer.")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that judges an edit.

    prompt     the text given to the model.
    answers    what counts as right *after* the edit: any of these names the same thing.
    axis       which headline score it feeds: efficacy, generalization, locality or portability.
               A locality probe is judged by preservation (same answer before and after), so its
               `answers` are the true ones and may be empty.
    kind       finer: "rewrite", "paraphrase", "neighborhood", "same_subject", "alias", "inverse",
               "one_hop", "two_hop", "one_to_many", ... Scores are also reported by kind.
    foil       the answer that competes with `answers[0]` in probability comparisons
               (the old object on rewrite and paraphrase probes, the new one on neighborhoods).
    held_out   the wording was never seen with this subject in training (known only for Atlas).
    group      probes of one case that share it are one test, which passes or fails as a whole.
    require    how many probes of the group have to pass: "all" or "any".
    conditions the test counts only where the unedited model meets every one of them.
    judge      how a free answer is judged. "contains": it names one of the answers. Where that says
               nothing, the probe feeds no gen.* score and another metric reads it: "overlap" of
               long texts, "safety", a personality's "trait", or "record" (kept for a metric over
               several probes).
    language   of prompt and answers, where a case asks in several: "en", "zh".

    Raises `EditError` for an empty prompt, a missing answer, or an unknown `require` or `judge`.
    """

    prompt: str
    answers: tuple[str, ...]
    axis: Axis
    kind: str
    foil: str | None = None
    held_out: bool = False
    group: str = ""
    require: Literal["all", "any"] = "all"
    conditions: tuple[Condition, ...] = ()
    judge: Judge = "contains"
    language: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(self.answers))
        object.__setattr__(self, "conditions", tuple(self.conditions))
        if not self.prompt.strip():
            raise EditError("A probe has an empty prompt.")
        if not self.answers and self.axis != "locality":
            raise EditError(f"The probe {self.prompt!r} ({self.kind}) has no answer to expect.")
        for name, allowed in (("require", ("all", "any")), ("judge", get_args(Judge))):
            if getattr(self, name) not in allowed:
                raise EditError(
                    f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}."
                )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. What only some benchmarks have is left out where it is not used."""
        row = asdict(self)
        unused = {name for name, value in _UNUSED.items() if row[name] == value}
        return {name: value for name, value in row.items() if name not in unused}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Probe:
        """The inverse of `to_dict`. Raises `EditError` for what makes no probe."""
        conditions = row.get("conditions", ())
        try:
            return cls(**{**row, "conditions": tuple(Condition(**one) for one in conditions)})
        except TypeError as error:
            raise EditError(f"This is no probe: {error}.") from None


_UNUSED: dict[str, Any] = {
    "group": "",
    "require": "all",
    "conditions": (),
    "judge": "contains",
    "language": "",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One edit, or a few that belong together, and the probes that judge them.

    edit     the edit; where there are several, the first.
    probes   asked before all edits and after all of them.
    id       of the record in its data set.
    source   the data set.
    meta     what else the record says, for metrics of its own.
    also     further edits: the other facts of a MQuAKE chain, the second edit of a conflict.
    in_turn  each edit is made on top of the one before, not all of them at once.
    """

    edit: Edit
    probes: tuple[Probe, ...] = ()
    id: str = ""
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    also: tuple[Edit, ...] = ()
    in_turn: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "probes", tuple(self.probes))
        object.__setattr__(self, "also", tuple(self.also))

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits of the case, in order."""
        return (self.edit, *self.also)

    @property
    def rewrite(self) -> Rewrite:
        """The edit, where it has to be a rewrite. Raises `EditError` if it is another kind."""
        if isinstance(self.edit, Rewrite):
            return self.edit
        raise EditError(
            f"A fact is needed here, and {self.source or 'this case'} asks for a "
            f"{type(self.edit).__name__.lower()}. `corrigenda data` says which data sets hold facts."
        )

    def on(self, axis: Axis) -> tuple[Probe, ...]:
        """The probes that feed one headline score."""
        return tuple(p for p in self.probes if p.axis == axis)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` gives an equal case."""
        row = {
            "id": self.id,
            "source": self.source,
            "edit": self.edit.to_dict(),
            "probes": [probe.to_dict() for probe in self.probes],
            "meta": self.meta,
        }
        if self.also:
            row |= {"also": [edit.to_dict() for edit in self.also], "in_turn": self.in_turn}
        return row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Case:
        """The inverse of `to_dict`. Raises `EditError` naming what is wrong."""
        return cls(
            edit_from(row["edit"]),
            tuple(Probe.from_dict(probe) for probe in row.get("probes", ())),
            row.get("id", ""),
            row.get("source", ""),
            row.get("meta", {}),
            tuple(edit_from(edit) for edit in row.get("also", ())),
            row.get("in_turn", False),
        )


def edit_from(row: Any) -> Edit:
    """An edit of the kind that the keys of a mapping name: "positive" is a contrast's, "texts" a
    concept's. Raises `EditError` naming what is missing."""
    if isinstance(row, dict):
        for kind, mark in ((Contrast, "positive"), (Concept, "texts")):
            if mark in row:
                known = {k: row[k] for k in kind.__dataclass_fields__ if k in row}
                try:
                    return kind(**known)
                except TypeError as error:
                    raise EditError(
                        f"The {kind.__name__.lower()} is incomplete: {error}."
                    ) from None
    return Rewrite.from_dict(row)


def read_edits(source: Path | TextIO, kind: type | None = None) -> Iterator[Any]:
    """Read edits from JSON lines, all of one kind if one is given. Blank lines are skipped.

    Raises `DataError` naming the line that is not JSON, not an edit, or an edit of another kind.
    """
    if isinstance(source, Path):
        name, lines = str(source), source.read_text(encoding="utf-8").splitlines()
    else:
        name, lines = getattr(source, "name", "standard input"), source.read().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = edit_from(json.loads(line))
            if kind is not None and not isinstance(found, kind):
                raise EditError(f"a {type(found).__name__}, where {kind.__name__} edits are taken")
            yield found
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}, line {number}: not JSON ({error.msg}): {line[:80]!r}"
            ) from None
        except EditError as error:
            raise DataError(f"{name}, line {number}: {error}") from None


def read_rewrites(source: Path | TextIO) -> Iterator[Rewrite]:
    """Read rewrites from JSON lines; see `read_edits`."""
    yield from read_edits(source, Rewrite)


def write_jsonl(rows: Iterable[Rewrite], path: Path) -> None:
    """Write edits as JSON lines that `read_rewrites` reads back equal."""
    text = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
