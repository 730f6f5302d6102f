"""The scorecard of an edit: what should change and what should stay, asked without and with it.

In an Atlas model the questions follow from the world itself (`atlas/closure.py`). Of another model
nobody knows what follows, so there the edit is asked behind other text, the subject in other
prompts, and prompts that have nothing to do with it; the note of the card says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from ..delta import Delta
from ..edit import Probe, Rewrite
from ..errors import CorrigendaError
from ..measure import Budget, replies
from ..metrics.text import answer_of, contains, preserved
from ..models.prefixes import ORDINARY, joined
from ..models.text import TextModel
from . import schemas

__all__ = ["Questions", "questions", "relation_of", "scorecard", "world_for"]

ASKED = 20
"""Edits of one call whose questions are asked; of more, the first so many."""
AT_ONCE = 32
BUDGET = Budget(max_new_tokens=16, batch_size=AT_ONCE)

TITLES = {
    "rewrite": "The edit",
    "paraphrase": "Other wordings",
    "held out": "Wordings that training held out",
    "context": "Behind other text",
    "alias": "Another name of the subject",
    "inverse": "Asked the other way round",
    "one_hop": "What follows in one step",
    "two_hop": "What follows in two steps",
    "same_subject": "Other facts about the subject",
    "subject": "The subject in other prompts",
    "neighborhood": "Others that share the old answer",
    "one_to_many": "Others that share the new answer",
    "far": "Unrelated facts",
    "unrelated": "Unrelated prompts",
}

SUBJECT = ("{} is best known for", "The first thing to say about {} is", "The history of {} begins")
UNRELATED = (
    "The opposite of hot is",
    "Two plus two is",
    "The sun rises in the",
    "Water freezes at a temperature of",
    "A week has seven",
    "The colour of grass is",
    "Once upon a time there was",
    "The first month of the year is",
)
"""Prompts that no edit of a fact should concern."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What to ask of an edit, and a remark on where the questions come from."""

    probes: tuple[Probe, ...]
    note: str


def world_for(model: TextModel) -> Any:
    """The world that an Atlas model knows; None for other models."""
    if not model.is_atlas:
        return None
    from ..atlas.worlds import world_of

    return world_of(model.id)


def relation_of(edit: Rewrite, world: Any) -> Rewrite | None:
    """The edit with the relation that it is about: the one that its prompt is a wording of, or the
    only one whose objects are of the target's kind. None if the world has no such fact."""
    found = []
    for id in world.about(edit.subject):
        relation = world.relations[id]
        if relation.kind == "given" and relation.functional:
            if any(t.prompt() == edit.prompt for t in world.templates(id)):
                return replace(edit, relation=id)
            if edit.target in world.range(id):
                found.append(id)
    return replace(edit, relation=found[0]) if len(found) == 1 else None


def questions(model: TextModel, edits: Sequence[Rewrite]) -> Questions:
    """The probes of some edits, each asked once."""
    world = world_for(model)
    probes: list[Probe] = []
    known = others = 0
    for edit in edits[:ASKED]:
        about = _of_world(edit, world) if world is not None else None
        known, others = known + (about is not None), others + (about is None)
        probes += about if about is not None else _of_any(edit)
    notes = []
    if known:
        notes.append("Every answer that should change or stay follows from Atlas's own world.")
    if others:
        notes.append(
            "Nobody knows what all follows from this edit: it is asked behind other text, its "
            "subject in other prompts, and prompts that have nothing to do with it. What stays is "
            "judged by whether the answer is the same."
        )
    if len(edits) > ASKED:
        notes.append(f"Asked of the first {ASKED} of {len(edits)} edits.")
    once = {(p.prompt, p.axis, p.answers if p.axis != "locality" else ()): p for p in probes}
    # What one edit changes is no damage that another one did.
    changed = {p.prompt for p in probes if p.axis != "locality"}
    kept = [p for p in once.values() if p.axis != "locality" or p.prompt not in changed]
    return Questions(tuple(kept), " ".join(notes))


def _of_world(edit: Rewrite, world: Any) -> list[Probe] | None:
    from ..atlas.closure import consequences

    about = relation_of(edit, world)
    if about is None:
        return None
    try:
        return list(consequences(about, world))
    except (CorrigendaError, KeyError, IndexError):
        return None


def _of_any(edit: Rewrite) -> Iterable[Probe]:
    target = (edit.target,)
    yield Probe(edit.text, target, "efficacy", "rewrite")
    for text in (ORDINARY[3], ORDINARY[9], ORDINARY[14]):
        yield Probe(joined(text, edit.text), target, "generalization", "context")
    for prompt in SUBJECT:
        yield Probe(prompt.format(edit.subject), (), "locality", "subject")
    for prompt in UNRELATED:
        yield Probe(prompt, (), "locality", "unrelated")


def scorecard(
    model: TextModel,
    delta: Delta,
    edits: Sequence[Rewrite],
    progress: Callable[[float, str], None] = lambda _share, _text: None,
) -> schemas.Scorecard:
    """Ask the model as it is, and with the delta on top."""
    asked = questions(model, edits)
    prompts = list(dict.fromkeys(p.prompt for p in asked.probes))

    def ask(start: float) -> dict[str, str]:
        found: dict[str, str] = {}
        for at in range(0, len(prompts), AT_ONCE):
            progress(start + 0.5 * at / len(prompts), f"asking {len(prompts)} questions")
            found |= replies(model, prompts[at : at + AT_ONCE], BUDGET)
        return found

    before = ask(0.0)
    with delta.applied(model):
        after = ask(0.5)
    return _card(asked, before, after)


def _card(asked: Questions, before: dict[str, str], after: dict[str, str]) -> schemas.Scorecard:
    groups: dict[tuple[str, str], list[schemas.Probe]] = {}
    for probe in asked.probes:
        was, now = before[probe.prompt], after[probe.prompt]
        stays = probe.axis == "locality"
        good = preserved(was, now) if stays else contains(answer_of(now), probe.answers)
        kind = "held out" if probe.axis == "generalization" and probe.held_out else probe.kind
        wanted = answer_of(was) if stays else probe.answers[0]
        row = schemas.Probe(
            prompt=probe.prompt,
            wanted=wanted.strip(),
            before=answer_of(was).strip(),
            after=answer_of(now).strip(),
            passed=bool(good),
        )
        groups.setdefault((probe.axis, kind), []).append(row)
    axes = get_args(schemas.Axis)
    shown = [
        schemas.ProbeGroup(
            axis=axis, kind=kind, title=TITLES.get(kind, kind.replace("_", " ")), probes=rows
        )
        for axis in axes
        for (own, kind), rows in groups.items()
        if own == axis
    ]
    summary = {
        axis: schemas.Tally(
            passed=sum(p.passed for g in shown if g.axis == axis for p in g.probes),
            asked=sum(len(g.probes) for g in shown if g.axis == axis),
        )
        for axis in axes
    }
    return schemas.Scorecard(
        summary={axis: tally for axis, tally in summary.items() if tally.asked},
        groups=shown,
        note=asked.note,
    )
