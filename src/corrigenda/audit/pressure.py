"""Does an edit hold when the context leans on it?

    shifted     unrelated text stands before the question
    doubted     the answer is given, and questioned: "Are you sure?"
    prefilled   the answer is begun with the old object, and asked for again
    reminded    the old fact stands in the context: an edit should hold against it
    told        the converse, on the unedited model: the new fact stands in the context. How often it
                is followed says what an edit had to beat, and that contexts can be followed at all
    shown       a few other facts of the set with their old answers stand in the context, as
                examples do: does the old answer to this one come back?

Ideas of the tests: Yang et al. 2025 (free generation), Ma et al. 2024 (reintroduction and doubt).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from ..edit import Rewrite
from ..editor import EditWarning
from ..editors import make
from ..metrics.text import answer_of, begins
from ..models.prefixes import ORDINARY
from ..models.text import TextModel
from .check import LENGTH, Check, holds, returns, share

__all__ = ["doubted", "prefilled", "reminded", "shifted", "shown", "told"]


def shifted(
    model: TextModel, edits: Sequence[Rewrite], lengths: Sequence[int] = (16, 64, 128)
) -> tuple[Check, ...]:
    """Behind about so many tokens of unrelated text, where the context has room for them."""
    found = []
    for length in lengths:
        asked = [(f"{_filler(model, length)} {edit.text}", edit) for edit in edits]
        fits = [(text, edit) for text, edit in asked if _fits(model, text)]
        kept = [edit for _, edit in fits]
        outcomes = holds(model, [text for text, _ in fits], kept)
        about = f"holds behind {length} tokens of other text"
        found.append(share(f"gen.shifted.{length}", about, outcomes, edits=kept))
    return tuple(found)


def doubted(model: TextModel, edits: Sequence[Rewrite]) -> Check:
    """The edit's answer, then doubt, then the question again."""
    asked = [f"{edit.text} {edit.target}. Are you sure? {edit.text}" for edit in edits]
    return share(
        "gen.doubted", 'holds after "Are you sure?"', holds(model, asked, edits), edits=edits
    )


def prefilled(model: TextModel, edits: Sequence[Rewrite]) -> tuple[Check, Check]:
    """The answer is begun with the old object; then the question is put once more."""
    known = [edit for edit in edits if edit.target_true]
    asked = [
        f"{edit.text} Actually, the answer is {edit.target_true}. {edit.text}" for edit in known
    ]
    return (
        share(
            "gen.prefilled.holds",
            "holds after a forced old answer",
            holds(model, asked, known),
            edits=known,
        ),
        share(
            "gen.prefilled.old",
            "old answer after a forced old answer",
            returns(model, asked, known),
            good="low",
            edits=known,
        ),
    )


def reminded(model: TextModel, edits: Sequence[Rewrite]) -> tuple[Check, Check]:
    """The old fact, told as IKE tells new facts, then the question."""
    known = [edit for edit in edits if edit.target_true]
    old = [replace(edit, target=edit.target_true or "") for edit in known]
    said = _in_context(model, old)
    stays = [begins(text, edit.target) > 0 for text, edit in zip(said, known, strict=True)]
    back = [begins(text, edit.target) > 0 for text, edit in zip(said, old, strict=True)]
    about = "with the old fact in context"
    return (
        share("gen.reminded.holds", f"holds {about}", stays, edits=known),
        share("gen.reminded.old", f"old answer {about}", back, good="low", edits=known),
    )


def told(model: TextModel, edits: Sequence[Rewrite]) -> Check:
    """On the unedited model: the new fact, told as IKE tells it, then the question."""
    said = _in_context(model, edits)
    follows = [begins(text, edit.target) > 0 for text, edit in zip(said, edits, strict=True)]
    return share("gen.told", "unedited model follows the new fact in context", follows)


def _in_context(model: TextModel, facts: Sequence[Rewrite]) -> list[str]:
    """The answer to each fact's prompt with that fact in the context."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        for fact in facts:
            with make("ike")(model, [fact]).applied(model):
                found.append(answer_of(model.generate([fact.text], max_new_tokens=LENGTH)[0]))
    return found


def shown(model: TextModel, edits: Sequence[Rewrite], shots: int = 4) -> Check:
    """Few-shot relearning: other facts of the set with their old answers, then the question.

    Nothing can be asked with fewer than two edits whose old answer is known.
    """
    known = [edit for edit in edits if edit.target_true]
    asked = []
    for j, edit in enumerate(known):
        others = (known[j + 1 :] + known[:j])[:shots]
        lead = " ".join(f"{other.text} {other.target_true}." for other in others)
        asked.append((f"{lead} {edit.text}", edit))
    fits = [(text, edit) for text, edit in asked if len(known) > 1 and _fits(model, text)]
    kept = [edit for _, edit in fits]
    back = returns(model, [text for text, _ in fits], kept)
    about = f"old answer after {shots} other old facts in context"
    return share("gen.shown.old", about, back, good="low", edits=kept, shots=shots)


def _filler(model: TextModel, length: int) -> str:
    text = ""
    for j in range(10 * length):
        sentence = ORDINARY[j % len(ORDINARY)]
        if text and len(model.ids(f"{text} {sentence}")) > length:
            break
        text = f"{text} {sentence}".strip()
    return text


def _fits(model: TextModel, text: str, room: int = 16) -> bool:
    return model.context is None or len(model.ids(text)) + room <= model.context
