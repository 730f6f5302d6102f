"""What a change could be about: names to look up, ways to ask about them, and names of answers.

The tensors of an edit hold a key and a value, no words. Words come from outside: the world of Atlas
for its own models, a list of names and wordings for others, or text that the model writes itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..edit import Rewrite
from ..errors import DataError
from ..models.text import TextModel

__all__ = ["Candidates", "continuations", "of_atlas", "of_files", "with_objects"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Names and wordings to try.

    subjects  names of things that a fact may be about; empty: places in the model's own text.
    prompts   ways to ask about a subject, the subject filled in; None: the model's own words.
    objects   names of answers: an answer is cut to the longest that it begins with.
    """

    subjects: tuple[str, ...] = ()
    prompts: Callable[[str], tuple[str, ...]] | None = None
    objects: frozenset[str] = frozenset()


def of_atlas() -> Candidates:
    """Every subject of the embedded world, with every wording that can be prompted."""
    from ..atlas.graph import world
    from ..atlas.templates import held_out, trained

    whole = world()

    def prompts(subject: str) -> tuple[str, ...]:
        return tuple(
            wording.prompt(subject)
            for relation in whole.about(subject)
            for wording in (*trained(subject, relation), *held_out(subject, relation))
            if wording.promptable
        )

    names = {fact.subject for fact in whole.given}
    return Candidates(
        tuple(sorted(names)), prompts, frozenset(names | {fact.object for fact in whole.given})
    )


def with_objects(edits: Sequence[Rewrite], each: int = 12, seed: int = 0) -> list[Rewrite]:
    """Facts of the embedded world, as they are, that have the old objects of edits and their relation:
    at most so many per object, about other subjects than the edits', in wordings drawn at random."""
    from ..atlas.graph import world
    from ..atlas.templates import trained

    whole, draw, found = world(), random.Random(seed), []
    taken = {edit.subject for edit in edits}
    wanted = dict.fromkeys(
        (e.relation, e.target_true) for e in edits if e.relation and e.target_true
    )
    for relation, object in wanted:
        others = [s for s in whole.subjects(relation, object) if s not in taken]
        for name in draw.sample(others, min(each, len(others))):
            texts = [t for t in trained(name, relation) if t.form == "object_last"]
            found.append(Rewrite(draw.choice(texts).prompt(), name, object, object, relation))
    return found


def of_files(
    subjects: Path | None = None, prompts: Path | None = None, objects: Path | None = None
) -> Candidates:
    """Candidates from text files, one per line; a prompt has {} where the subject stands.

    Raises `DataError` for a file that is missing or empty, and for a prompt without {}.
    """
    wordings = _lines(prompts) if prompts else ()
    for number, line in enumerate(wordings, start=1):
        if line.count("{}") != 1:
            raise DataError(
                f"{prompts}, prompt {number}: {line!r} has {line.count('{}')} places {{}}; it needs "
                "one, where the subject stands."
            )

    def asked(subject: str) -> tuple[str, ...]:
        return tuple(line.replace("{}", subject) for line in wordings)

    return Candidates(
        _lines(subjects) if subjects else (),
        asked if wordings else None,
        frozenset(_lines(objects) if objects else ()),
    )


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. Give a text file with one per line.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    found = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not found:
        raise DataError(f"{path} is empty. Give one per line.")
    return found


@torch.no_grad()
def continuations(
    model: TextModel, texts: Sequence[str], *, each: int, tokens: int, seed: int = 0
) -> list[list[int]]:
    """What a causal model writes after each of `texts`, sampled at temperature 1: `each` rows of
    token ids per text, the text's own included."""
    generator = torch.Generator().manual_seed(seed)
    rows = [model.ids(text) for text in texts for _ in range(each)]
    for _ in range(tokens):
        padded = model.batch(rows)
        last = torch.full((len(rows),), padded.ids.shape[1] - 1)
        shares = model.logits_at(padded, torch.arange(len(rows)), last).softmax(-1).cpu()
        drawn: Iterable[int] = torch.multinomial(shares, 1, generator=generator)[:, 0].tolist()
        rows = [[*row, token] for row, token in zip(rows, drawn, strict=True)]
    return rows
