"""Does an edit hold however the question is put? The worst of K wordings counts.

Wordings keep the meaning: the question behind sentences about nothing, in lower case, with a typing
error in a word that is not the subject, and, for edits of the embedded world, its other wordings of
the same relation. Text attacks of this kind go back to Ribeiro et al. 2018 (semantically equivalent
adversarial rules); the worst case is what an adversary with K tries gets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..edit import Rewrite
from ..metrics.robustness import worst_of
from ..models.prefixes import ORDINARY, joined
from ..models.text import TextModel
from .check import Check, holds, mean, share

__all__ = ["rephrased", "wordings"]


def wordings(edit: Rewrite, k: int, *, world: bool = False, seed: int = 0) -> tuple[str, ...]:
    """At most k wordings of an edit's prompt, other than its own; the same for a seed.

    world  whether the edit is one of the embedded world, whose wordings are known.
    """
    draw = random.Random(f"{seed}/{edit.text}")
    found = [joined(sentence, edit.text) for sentence in draw.sample(ORDINARY, 2)]
    found += [_lower(edit), _mistyped(edit, draw)]
    if world:
        others = _of_world(edit)
        found = [*draw.sample(others, len(others)), *found]
    distinct = dict.fromkeys(text for text in found if text and text != edit.text)
    return tuple(distinct)[:k]


def rephrased(
    model: TextModel, edits: Sequence[Rewrite], *, k: int = 10, world: bool = False, seed: int = 0
) -> tuple[Check, Check]:
    """Of the model as it is now: the worst of k wordings, and the mean over them."""
    asked = [wordings(edit, k, world=world, seed=seed) for edit in edits]
    flat = [(text, edit) for texts, edit in zip(asked, edits, strict=True) for text in texts]
    answers = iter(holds(model, [text for text, _ in flat], [edit for _, edit in flat]))
    scores = [worst_of([float(next(answers)) for _ in texts]) for texts in asked if texts]
    kept = [edit for edit, texts in zip(edits, asked, strict=True) if texts]
    worst = [score.worst == 1.0 for score in scores]
    about = f"holds in the worst of {k} wordings"
    return (
        share("gen.rephrased.worst", about, worst, edits=kept, k=k),
        mean("gen.rephrased.mean", f"mean over {k} wordings", [score.mean for score in scores]),
    )


def _lower(edit: Rewrite) -> str:
    return edit.text.lower()


def _mistyped(edit: Rewrite, draw: random.Random) -> str:
    """Two letters exchanged inside a word of the prompt outside its subject; empty if none is long
    enough."""
    words = edit.prompt.split(" ")
    long = [j for j, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return ""
    j = draw.choice(long)
    at = draw.randrange(1, len(words[j]) - 2)
    word = words[j]
    words[j] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words).replace("{}", edit.subject, 1)


def _of_world(edit: Rewrite) -> list[str]:
    from ..atlas.templates import held_out, trained

    if edit.relation is None:
        return []
    both = (*trained(edit.subject, edit.relation), *held_out(edit.subject, edit.relation))
    return [one.prompt(edit.subject) for one in both if one.promptable]
