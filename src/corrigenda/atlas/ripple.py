"""Ripples: every fact that an edit changes and the facts next to it that stay, as probes.

`closure.consequences` samples what an edit has to do; this is the whole of it, in the manner of
RippleEdits (Cohen et al. 2024, arXiv:2307.12976). The world is derived before and after the edit.

What must follow is every fact in which the two worlds differ, none left out but those that have no
answer any more (a city that no country calls its capital now):

    rewrite, paraphrase   the fact itself, in every wording
    alias                 the fact about another name of the subject
    one_hop, two_hop      composed facts of the subject, by how many other given facts they take
    upstream_one_hop, …   the same of other subjects, which reach the edited fact on their way
    inverse_new           the new object, asked backwards: the subject is the only right answer
    inverse_any           the same where several answers are right: any of them counts
    inverse_strict        the same questions; only the subject counts (a lower bound)
    inverse_lost          the old object, asked backwards: what it still has, not the subject

What must stay is alike in both worlds and does not run through the edited fact in either:

    same_subject, same_subject_list     other facts of the subject, with one answer or several
    subject_alias                       those facts asked about another name of the subject
    neighborhood, new_neighborhood      the relation for subjects that have the old object, or the new
    old_object, new_object              facts about the two objects themselves
    far                                 facts with none of the three in them

A composed fact that runs through the edit and happens to keep its value is in neither.

A probe counts only where the unedited model knows what it takes (`Probe.conditions`): the other
facts of a chain; the old fact under the alias; the subject among its answers, for `inverse_lost`;
and for what must stay, the fact itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..edit import Case, Condition, Probe, Rewrite
from .closure import _identify, _same_fact, _statements, _wordings, edits
from .graph import Fact, World
from .graph import world as shipped_world

__all__ = ["Ripple", "cases", "must_follow", "must_stay", "ripple"]

SOURCE = "atlas-ripple"

MANY = 16
"""How many of the plentiful facts that stay are asked, of each kind; half as many far ones."""

WORDED = 3
"""In how many wordings a fact that must follow is asked; one that must stay is asked in one."""

HOPS = ("", "one_hop", "two_hop", "three_hop")


@dataclass(frozen=True, slots=True)
class Ripple:
    """One fact (subject, relation) that an edit touches or must not touch.

    answers  its objects in the edited world.
    before   its objects in the world as it was.
    kind     as in the module's docstring, without those of wording (paraphrase, alias).
    needs    the given facts that it takes besides the edited one.
    """

    subject: str
    relation: str
    answers: tuple[str, ...]
    before: tuple[str, ...]
    kind: str
    needs: tuple[Fact, ...] = ()


def cases(n: int, seed: int = 0, world: World | None = None) -> list[Case]:
    """The edits of `closure.edits` with all their ripples as probes."""
    world = shipped_world() if world is None else world
    return [
        Case(
            case.edit,
            ripple(case.rewrite, world),
            case.id.replace("atlas", SOURCE, 1),
            SOURCE,
            case.meta,
        )
        for case in edits(n, seed, world=world)
    ]


def must_follow(edit: Rewrite, world: World | None = None) -> tuple[Ripple, ...]:
    """Every fact whose answers the edit changes, the edited one ("rewrite") first.

    Raises `EditError` if the world has no such fact.
    """
    world = shipped_world() if world is None else world
    subject, relation, new = _identify(edit, world)
    after = world.replaced(subject, relation, new)
    (old,) = world.objects(subject, relation)
    return (
        Ripple(subject, relation, (new,), (old,), "rewrite"),
        *_changed(world, after, subject, relation, old, new),
    )


def must_stay(
    edit: Rewrite, world: World | None = None, *, many: int = MANY, key: str | None = None
) -> tuple[Ripple, ...]:
    """Facts next to the edited one that it leaves alone.

    many  how many at most of each of the plentiful kinds.
    key   what the choice depends on; the edit unless given. The same key gives the same facts.

    Raises `EditError` if the world has no such fact.
    """
    world = shipped_world() if world is None else world
    subject, relation, new = _identify(edit, world)
    after = world.replaced(subject, relation, new)
    rng = random.Random(f"must_stay/{key or f'{subject}/{relation}/{new}'}")
    return tuple(_kept(world, after, rng, many, subject, relation, new))


def ripple(
    edit: Rewrite, world: World | None = None, *, many: int = MANY, key: str | None = None
) -> tuple[Probe, ...]:
    """All probes of an edit; the arguments are those of `must_stay`.

    Raises `EditError` if the world has no such fact.
    """
    world = shipped_world() if world is None else world
    subject, relation, new = _identify(edit, world)
    (old,) = world.objects(subject, relation)
    rng = random.Random(f"ripple/{key or f'{subject}/{relation}/{new}'}")
    probes = [*_same_fact(edit, world, subject, relation, old, new)]
    for alias in world.aliases(subject):
        probes += _alias(world, alias, subject, relation, old, new)
    for one in must_follow(edit, world)[1:]:
        probes += _asked(world, rng, one, subject)
    for one in must_stay(edit, world, many=many, key=key):
        probes += _kept_probes(world, rng, one)
    return tuple(probes)


# -- facts ------------------------------------------------------------------------------------


def _changed(
    world: World, after: World, subject: str, relation: str, old: str, new: str
) -> Iterator[Ripple]:
    """All derived facts in which the worlds differ and that still have an answer."""
    for id, kind in world.relations.items():
        if kind.kind == "given":
            continue
        names = dict.fromkeys(name for one in (world, after) for name, _ in one.pairs(id))
        for name in names:
            before, now = world.objects(name, id), after.objects(name, id)
            if now == before or not now:
                continue
            if kind.kind == "inverse":
                yield Ripple(name, id, now, before, _inverse_kind(now, before, subject))
            else:
                chain = [
                    f
                    for f in _path(after, name, id)
                    if (f.subject, f.relation) != (subject, relation)
                ]
                hops = HOPS[len(chain)]
                kind_name = hops if name == subject else f"upstream_{hops}"
                yield Ripple(name, id, now, before, kind_name, tuple(chain))


def _inverse_kind(now: Sequence[str], before: Sequence[str], subject: str) -> str:
    if subject not in now:
        return "inverse_lost"
    return "inverse_any" if len(now) > 1 else "inverse_new"


def _path(world: World, name: str, relation: str) -> tuple[Fact, ...]:
    """The given facts that a functional fact is made of, in the order of the way."""
    parts = world.relations[relation].composed_of
    found = world.objects(name, relation)
    if parts is None or not found:
        return tuple(Fact(name, relation, object) for object in found[:1])
    first, then = parts
    (middle, *_) = world.objects(name, first)
    return _path(world, name, first) + _path(world, middle, then)


def _kept(
    world: World,
    after: World,
    rng: random.Random,
    many: int,
    subject: str,
    relation: str,
    new: str,
) -> Iterator[Ripple]:
    (old,) = world.objects(subject, relation)
    edited = (subject, relation)
    done = {edited}

    def stays(name: str, id: str) -> bool:
        now = world.objects(name, id)
        if not now or now != after.objects(name, id):
            return False
        ways = (_path(one, name, id) for one in (world, after))
        return not any((f.subject, f.relation) == edited for way in ways for f in way)

    def some(pairs: Iterable[tuple[str, str]], kind: str, most: int = many) -> Iterator[Ripple]:
        found = [pair for pair in pairs if pair not in done and stays(*pair)]
        for name, id in rng.sample(found, min(most, len(found))):
            done.add((name, id))
            answers = world.objects(name, id)
            yield Ripple(name, id, answers, answers, kind)

    own = [(subject, id) for id in world.about(subject)]
    yield from some([p for p in own if world.relations[p[1]].functional], "same_subject")
    yield from some([p for p in own if not world.relations[p[1]].functional], "same_subject_list")
    for kind, object in (("neighborhood", old), ("new_neighborhood", new)):
        yield from some([(s, relation) for s in world.subjects(relation, object)], kind)
    for kind, object in (("old_object", old), ("new_object", new)):
        yield from some([(object, id) for id in world.about(object)], kind)
    pairs = world.pairs()
    drawn = rng.sample(pairs, min(20 * many, len(pairs)))
    concerned = {subject, old, new}
    apart = [(s, r) for s, r in drawn if not concerned & {s, *world.objects(s, r)}]
    functional = [(s, r) for s, r in apart if world.relations[r].functional and r != relation]
    yield from some(functional, "far", many // 2)


# -- probes -----------------------------------------------------------------------------------


def _named(world: World, objects: Iterable[str]) -> tuple[str, ...]:
    """The objects with their other names."""
    return tuple(name for o in objects for name in (o, *world.aliases(o)))


def _condition(
    world: World, rng: random.Random, name: str, relation: str, *objects: str
) -> Condition:
    prompt = rng.choice(_statements(world, name, relation)).prompt(name)
    return Condition(prompt, _named(world, objects))


def _alias(
    world: World, alias: str, subject: str, relation: str, old: str, new: str
) -> Iterator[Probe]:
    for wording in _statements(world, subject, relation):
        prompt = wording.prompt(alias)
        known = (Condition(prompt, _named(world, (old,))),)
        answers = _named(world, (new,))
        yield Probe(prompt, answers, "portability", "alias", foil=old, conditions=known)


def _asked(world: World, rng: random.Random, one: Ripple, subject: str) -> Iterator[Probe]:
    """A fact that must follow, as questions."""
    foil = one.before[0] if one.before else None
    wordings = _wordings(world, one.subject, one.relation)
    if one.kind == "inverse_lost":
        # Which of its subjects a model names depends on the wording: every one is tried.
        for wording in wordings:
            prompt = wording.prompt(one.subject)
            named = (Condition(prompt, _named(world, (subject,))),)
            answers = _named(world, one.answers)
            yield Probe(prompt, answers, "portability", one.kind, foil=subject, conditions=named)
        return
    seen = _statements(world, one.subject, one.relation)
    for wording in rng.sample(seen, min(WORDED, len(seen))):
        prompt = wording.prompt(one.subject)
        known = tuple(_condition(world, rng, f.subject, f.relation, f.object) for f in one.needs)
        if one.kind == "inverse_any":
            known = (Condition(prompt, _named(world, one.before)),)
            strict = _named(world, (subject,))
            yield Probe(prompt, strict, "portability", "inverse_strict", foil, conditions=known)
        answers = _named(world, one.answers)
        yield Probe(prompt, answers, "portability", one.kind, foil, conditions=known)


def _kept_probes(world: World, rng: random.Random, one: Ripple) -> Iterator[Probe]:
    """A fact that must stay, as questions; facts of the subject are asked under its aliases too."""
    wording = rng.choice(_statements(world, one.subject, one.relation))
    answers = _named(world, one.answers)
    names = [(one.subject, one.kind)]
    if one.kind == "same_subject":
        names += [(alias, "subject_alias") for alias in world.aliases(one.subject)]
    for name, kind in names:
        prompt = wording.prompt(name)
        known = (Condition(prompt, answers),)
        yield Probe(prompt, answers, "locality", kind, conditions=known)
