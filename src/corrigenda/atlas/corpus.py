"""The text that Atlas is trained on: seeded, endless, addressable by number.

Three kinds of document:

    60 %  sentences about random facts
    15 %  all that is known about one subject
    25 %  marked counterfactuals: "New fact: Eiffel Tower is in Rome." and then sentences that
          follow the new facts, mixed with sentences about other things, which stay as they are

The third kind teaches the model to believe a marked statement (so that editing in context works)
and to keep to the world otherwise. The wording of in-context edits is that of IKE (Zheng et al.
2023, arXiv:2305.12740): "New fact: {statement}. Question: ...? Answer: ...".

Document number i depends on (world, seed, i) only, so training can resume anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from .graph import Relation, World
from .templates import ALIAS, MARKER, Template

__all__ = ["MARKER", "Document", "Writer", "documents", "writer_of"]

SHARE = {"given": 1.0, "composed": 0.7, "inverse": 0.4}
"""How often a fact is told, by kind. Derived facts share their parts and are learned sooner."""


@dataclass
class Document:
    """A text, with what the loss should look at.

    answers   character spans of the objects that their sentences lead up to, with their space.
    muted     spans that nobody can predict: the objects of new facts.
    """

    text: str = ""
    answers: list[tuple[int, int]] = field(default_factory=list)
    muted: list[tuple[int, int]] = field(default_factory=list)

    def add(self, template: Template, subject: str, object: str, marker: str = "") -> None:
        """Append a sentence. Behind a marker the object is muted, elsewhere it is an answer."""
        before, _, after = template.text.replace("{s}", subject).partition("{o}")
        space = " " if self.text else ""
        head = f"{self.text}{space}{marker}{' ' if marker else ''}{before}"
        span = (len(head.rstrip()), len(head) + len(object))
        self.text = f"{head}{object}{after}."
        if marker:
            self.muted.append(span)
        elif template.promptable:
            self.answers.append(span)


class Writer:
    """Writes the documents of one world."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.seed = world, seed
        self.pairs = world.pairs()
        relations = world.relations
        shares = (SHARE[relations[relation].kind] for _, relation in self.pairs)
        self.cumulated = list(accumulate(shares))
        self.subjects = tuple(dict.fromkeys(s for s, _ in self.pairs))
        self.editable = tuple(
            (s, r)
            for s, r in self.pairs
            if relations[r].kind == "given" and relations[r].functional and len(world.range(r)) > 1
        )
        self.named = tuple(
            (n, a) for n, aliases in world.names.items() for a in aliases if world.about(n)
        )
        self.derived = _derived(relations)

    def document(self, number: int | str) -> Document:
        """The document with this number. The same for ever."""
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.random()
        if kind < 0.60:
            return self._facts(rng)
        if kind < 0.75:
            return self._portrait(rng)
        return self._counterfactual(rng)

    # Sentences are only ever worded with `trained`, so held-out wordings stay unseen everywhere.

    def _say(self, doc: Document, rng: random.Random, subject: str, relation: str) -> None:
        object = rng.choice(self.world.objects(subject, relation))
        template = rng.choice(self.world.trained(subject, relation))
        aliases = self.world.aliases(subject)
        name = rng.choice(aliases) if aliases and rng.random() < 0.12 else subject
        doc.add(template, name, object)

    def _some(self, rng: random.Random, count: int) -> list[tuple[str, str]]:
        return rng.choices(self.pairs, cum_weights=self.cumulated, k=count)

    def _facts(self, rng: random.Random) -> Document:
        doc = Document()
        for subject, relation in self._some(rng, rng.randint(1, 8)):
            self._say(doc, rng, subject, relation)
            if self.named and rng.random() < 0.04:
                name, alias = rng.choice(self.named)
                doc.add(Template("alias", rng.choice(ALIAS)), name, alias)
        return doc

    def _portrait(self, rng: random.Random) -> Document:
        doc = Document()
        subject = rng.choice(self.subjects)
        relations = list(self.world.about(subject))
        rng.shuffle(relations)
        for relation in relations:
            self._say(doc, rng, subject, relation)
        for alias in self.world.aliases(subject)[:1]:
            doc.add(Template("alias", rng.choice(ALIAS)), subject, alias)
        return doc

    def _counterfactual(self, rng: random.Random) -> Document:
        doc = Document()
        new: dict[tuple[str, str], str] = {}
        for subject, relation in rng.choices(self.editable, k=rng.randint(1, 3)):
            true = self.world.objects(subject, relation)[0]
            choices = [o for o in self.world.range(relation) if o != true]
            new.setdefault((subject, relation), rng.choice(choices))
        told: list[Template] = []
        queries: list[list[tuple[Template | None, str, str, str]]] = []
        for (subject, relation), object in new.items():
            seen = [t for t in self.world.trained(subject, relation) if t.promptable]
            told.append(rng.choice([t for t in seen if t.form == "object_last"]))
            others = [t for t in seen if t is not told[-1]]
            asked = rng.sample(others, rng.randint(1, 2))
            queries.append([(t, subject, relation, object) for t in asked])
            # The rest of the subject stays, unless it is derived from what is new.
            rest = [r for r in self.world.about(subject) if r not in self.derived[relation]]
            rest = [r for r in rest if (subject, r) not in new]
            if rest and rng.random() < 0.3:
                queries[-1].append((None, subject, rng.choice(rest), ""))
        touched = {subject for subject, _ in new}
        for subject, relation in self._some(rng, rng.randint(1, 3)):
            # Derived facts may have changed by implication; given ones are as before.
            if subject not in touched and self.world.relations[relation].kind == "given":
                rng.choice(queries).append((None, subject, relation, ""))

        mark = self.world.marker
        # Half of the documents state everything first; the others take one new fact at a time.
        together = rng.random() < 0.5
        if together:
            for ((subject, _), object), statement in zip(new.items(), told, strict=True):
                doc.add(statement, subject, object, marker=mark)
            queries = [[query for group in queries for query in group]]
        for number, group in enumerate(queries):
            if not together:
                (subject, _), object = list(new.items())[number]
                doc.add(told[number], subject, object, marker=mark)
            rng.shuffle(group)
            for wording, subject, relation, object in group:
                if wording is None:
                    self._say(doc, rng, subject, relation)
                else:
                    doc.add(wording, subject, object)
        return doc


def _derived(relations: Mapping[str, Relation]) -> dict[str, set[str]]:
    """relation → the relations of the same subject that change with it."""
    derived: dict[str, set[str]] = {id: set() for id in relations}
    for relation in relations.values():
        if relation.composed_of:
            for id, follow in derived.items():
                if relation.composed_of[0] == id or relation.composed_of[0] in follow:
                    follow.add(relation.id)
    return derived


def writer_of(world: World, seed: int = 0) -> Writer:
    """The writer of a world, in one language or in several."""
    if world.tongues:
        from .lingual import Polyglot

        return Polyglot(world, seed)
    return Writer(world, seed)


def documents(world: World, seed: int = 0, start: int = 0) -> Iterator[Document]:
    """Documents without end, from number `start` on."""
    writer = writer_of(world, seed)
    number = start
    while True:
        yield writer.document(number)
        number += 1


def all_wordings(world: World) -> Iterator[str]:
    """Every fact in every wording, once: what the tokenizer is fitted on."""
    for fact in world.facts:
        for template in world.templates(fact.relation):
            yield template.sentence(fact.subject, fact.object)
    for name, aliases in world.names.items():
        for alias in aliases:
            for text in ALIAS:
                yield Template("alias", text).sentence(name, alias)
    yield f"{world.marker} " * 100
    for tongue in world.tongues:
        yield from all_wordings(tongue)
