"""IKE: in-context knowledge editing. The fact goes in front of the prompt; no weight changes.

Zheng, Li, Dong, Fan, Wu, Xu, Chang 2023, 2305.12740. The model is given

    demonstrations   New Fact: f   Prompt: q a      (of other facts, with their answers)
    the new facts    New Fact: f*
    the prompt       Prompt: q

Demonstrations are of three kinds, which teach what a new fact should and should not change: *copy*
asks the fact as it was told, *update* asks it in another wording, *retain* asks about something
else, whose answer stays. Without any, this is plain prepending ("PROMPT" in the paper).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from ..atlas.worlds import world_of
from ..delta import Delta, Prefix
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import EditError
from ..models.text import TextModel

if TYPE_CHECKING:
    from ..atlas.graph import World

__all__ = ["IKE"]

FORM = {"fact": "New Fact: {}\n", "query": "Prompt: {}", "end": "\n\n"}
"""The paper's wording."""

ATLAS_FORM = {"fact": "New fact: {}. ", "query": "{}", "end": ". "}
"""How new facts are told in the text that Atlas learned from."""

KINDS = ("copy", "update", "update", "update", "retain", "retain", "retain", "retain")
"""The paper's ratio 1 : 3 : 4."""


@dataclass(frozen=True)
class IKE(Editor):
    """Put new facts into the context. None means: the form for Atlas, or else the paper's.

    demonstrations  texts, or facts to be demonstrated as they are told. None: for Atlas models
                    `k` from its world, about other subjects than the edits'; else none.
    k               how many demonstrations of Atlas's world, if half of the context holds them.
                    Atlas knows the form from its training and is distracted by them.
    limit           at most this many facts are shown with a prompt, those that share most words
                    with it; 0: all.
    fact            how a new fact is told; `{}` is prompt and target as one sentence.
    query           how a prompt is written after the facts; `{}` is the prompt.
    end             what follows the answer in a demonstration.
    seed            of the choice of demonstrations.
    """

    demonstrations: tuple[str | Rewrite, ...] | None = None
    k: int = 0
    limit: int = 3
    fact: str | None = None
    query: str | None = None
    end: str | None = None
    seed: int = 0

    name: ClassVar[str] = "ike"
    title: ClassVar[str] = "IKE"
    paper: ClassVar[str] = "Zheng et al. 2023, 2305.12740"
    family: ClassVar[str] = "in-context"
    change: ClassVar[str] = "Prefix"
    streams: ClassVar[bool] = True

    def resolved(self, model: TextModel) -> IKE:
        form = ATLAS_FORM if model.is_atlas else FORM
        mine = {name: getattr(self, name) for name in form}
        return replace(self, **{n: form[n] if mine[n] is None else mine[n] for n in form})

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        fact, query = self.fact or "{}", self.query or "{}"
        if fact.count("{}") != 1:
            raise EditError(f"IKE's `fact` is how a fact is told; it needs {{}} once: {fact!r}.")
        shown = self._demonstrations(model, edits)
        if onto is not None and onto.prefix is not None and onto.prefix.head:
            shown = ()  # those of the earlier edits serve these too
        prefix = Prefix(
            tuple(fact.replace("{}", edit.statement) for edit in edits),
            query=query,
            limit=self.limit,
            head="".join(shown),
        )
        return Solution({"context": prefix}, diagnostics={"demonstrations": len(shown)})

    def _demonstrations(self, model: TextModel, edits: Sequence[Rewrite]) -> tuple[str, ...]:
        if self.demonstrations is None:
            if not model.is_atlas:
                return ()
            taken = {n for e in edits for n in (e.subject, e.target, e.target_true) if n}
            found = _of_world(world_of(model.id), self.k, taken, random.Random(self.seed))
            return _fitting(model, [self._told(*parts) for parts in found])
        return tuple(
            d if isinstance(d, str) else self._told(d.statement, d.text, d.target)
            for d in self.demonstrations
        )

    def _told(self, statement: str, prompt: str, answer: str) -> str:
        """One demonstration: the fact, a prompt, its answer."""
        fact, query = (self.fact or "{}"), (self.query or "{}")
        asked = query.replace("{}", prompt.rstrip(), 1)
        return f"{fact.replace('{}', statement)}{asked} {answer}{self.end or ''}"


def _fitting(model: TextModel, texts: Sequence[str]) -> tuple[str, ...]:
    """The first of the texts that together take no more than half of the model's context."""
    context = getattr(model.module.config.get_text_config(), "max_position_embeddings", None)
    room = context // 2 if context else float("inf")
    sizes = accumulate(len(model.ids(text)) for text in texts)
    return tuple(text for text, size in zip(texts, sizes, strict=True) if size <= room)


def _of_world(
    world: World, k: int, taken: set[str], rng: random.Random
) -> list[tuple[str, str, str]]:
    """(statement, prompt, answer) of k demonstrations from the world, none about `taken`."""
    relations = world.relations
    open_pairs = [
        (s, r)
        for s, r in world.pairs()
        if s not in taken
        and relations[r].kind == "given"
        and relations[r].functional
        and len(world.range(r)) > 2
    ]
    found = []
    for number in range(k):
        kind = KINDS[number % len(KINDS)]
        subject, relation = rng.choice(open_pairs)
        prompts = [t for t in world.trained(subject, relation) if t.promptable]
        told = rng.choice([t for t in prompts if t.form == "object_last"])
        old = world.objects(subject, relation)[0]
        new = rng.choice([o for o in world.range(relation) if o != old and o not in taken])
        statement = f"{told.prompt(subject)} {new}"
        if kind == "copy":
            found.append((statement, told.prompt(subject), new))
        elif kind == "update":
            asked = rng.choice([t for t in prompts if t is not told])
            found.append((statement, asked.prompt(subject), new))
        else:
            other, about = rng.choice([p for p in open_pairs if p[0] not in (subject, old, new)])
            asked = rng.choice([t for t in world.trained(other, about) if t.promptable])
            found.append((statement, asked.prompt(other), world.objects(other, about)[0]))
    return found
