"""What follows from an edit: probes with known answers, read off the world itself.

An edit replaces one given fact. The world is derived again with the replacement, and the two
worlds are compared:

    what changed              portability: composed facts ("one_hop", "two_hop"), the "inverse",
                              the same fact asked about an "alias"
    what only might have      nothing: the continent of a tower that moves within Europe is asked
                              neither as a consequence nor as locality
    the edited fact itself    efficacy ("rewrite") and generalization ("paraphrase")
    what stayed               locality: "same_subject", "neighborhood" (other subjects with the old
                              object), "one_to_many" (other subjects with the new object, and
                              one-to-many facts of the subject), "far"

So a logical consequence of the edit can never be counted as damage, and nothing that stayed can be
counted as a ripple. Cohen et al. 2024 (arXiv:2307.12976) name the ripple effects; here their
answers are complete rather than sampled from a knowledge base.

Inverses are one-to-many as a rule ("A landmark in Rome is ..." has several right answers), so an
exact match with the subject is a lower bound. Their `foil` is something that stayed with the old
object: an edit that reads backwards makes the subject more probable than the foil.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from ..edit import Case, Probe, Rewrite
from ..errors import EditError, UnknownNameError
from .graph import RELATIONS, World
from .graph import world as shipped_world
from .templates import Template

__all__ = ["consequences", "counterfactual", "demo_case", "editable", "edits"]

SOURCE = "atlas"

NEIGHBORS, OTHERS, FAR, UPSTREAM = 8, 4, 4, 4
"""How many probes of the plentiful kinds an edit gets at most."""


def consequences(edit: Rewrite, world: World | None = None) -> tuple[Probe, ...]:
    """Every kind of probe for an edit of a given functional fact of the world.

    The same edit always gets the same probes. Raises `EditError` if the world has no such fact.
    """
    world = shipped_world() if world is None else world
    subject, relation, new = _identify(edit, world)
    old = world.objects(subject, relation)[0]
    after = world.replaced(subject, relation, new)
    rng = random.Random(f"consequences/{subject}/{relation}/{new}")
    return (
        *_same_fact(edit, world, subject, relation, old, new),
        *_aliases(world, rng, subject, relation, old, new),
        *_inverses(world, after, rng, subject, relation, old, new),
        *_hops(world, after, rng, subject, relation),
        *_same_subject(world, after, rng, subject, relation),
        *_neighborhood(world, rng, subject, relation, old, new),
        *_one_to_many(world, after, rng, subject, relation, old, new),
        *_far(world, after, rng, subject, relation, old, new),
    )


def edits(
    n: int, seed: int = 0, relations: Sequence[str] | None = None, world: World | None = None
) -> list[Case]:
    """`n` random counterfactual edits with their consequences; no fact is edited twice.

    The target has the type of the true object and differs from it. The prompt is a wording that
    the model was trained on with this subject, object last.
    """
    world = shipped_world() if world is None else world
    for id in relations or ():
        if id not in RELATIONS:
            raise UnknownNameError("relation", id, RELATIONS)
    facts = editable(world, relations)
    if n > len(facts):
        raise EditError(f"{n} edits asked for, but only {len(facts)} facts can be edited.")
    rng = random.Random(f"edits/{seed}")
    return [
        counterfactual(world, rng, subject, id, f"{SOURCE}-{seed}-{number:04d}")
        for number, (subject, id) in enumerate(rng.sample(facts, n))
    ]


def editable(world: World, relations: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """The facts that can be edited: (subject, relation) of given functional relations."""
    return [
        (subject, id)
        for id, relation in RELATIONS.items()
        if relation.kind == "given" and relation.functional and len(world.range(id)) > 1
        if relations is None or id in relations
        for subject, _ in world.pairs(id)
    ]


def counterfactual(world: World, rng: random.Random, subject: str, relation: str, id: str) -> Case:
    """A random edit of a fact, with its consequences."""
    true = world.objects(subject, relation)[0]
    target = rng.choice([o for o in world.range(relation) if o != true])
    wording = rng.choice(_statements(world, subject, relation))
    return _case(Rewrite(wording.prompt(), subject, target, true, relation), world, id)


def demo_case(world: World | None = None) -> Case:
    """The Eiffel Tower moves to Rome."""
    world = shipped_world() if world is None else world
    edit = Rewrite("{} is located in the city of", "Eiffel Tower", "Rome", "Paris", "landmark.city")
    return _case(edit, world, f"{SOURCE}-demo")


def _case(edit: Rewrite, world: World, id: str) -> Case:
    return Case(edit, consequences(edit, world), id, SOURCE, {"relation": edit.relation})


def _identify(edit: Rewrite, world: World) -> tuple[str, str, str]:
    """(subject, relation, new object); the relation is read off the prompt if not given."""
    if edit.relation is None:

        def meant(id: str) -> bool:
            return any(t.prompt() == edit.prompt for t in _wordings(world, edit.subject, id))
    else:

        def meant(id: str) -> bool:
            return id == edit.relation

    found = [id for id in world.about(edit.subject) if meant(id)]
    if not found:
        known = ", ".join(world.about(edit.subject)) or "nothing"
        asked = edit.relation or f"the prompt {edit.prompt!r}"
        raise EditError(
            f"Atlas knows no fact about {edit.subject!r} for {asked}. It knows: {known}. "
            "Name a subject of the world, and a relation or one of its wordings."
        )
    relation = RELATIONS[found[0]]
    if relation.kind != "given" or not relation.functional:
        raise EditError(
            f"{relation.id} follows from other facts or has several answers, so the consequences "
            "of changing it alone are not defined. Edit a given, functional relation."
        )
    return edit.subject, relation.id, edit.target


def _wordings(world: World, subject: str, relation: str) -> tuple[Template, ...]:
    """All promptable wordings of a fact."""
    seen = (t for t in world.trained(subject, relation) if t.promptable)
    return (*seen, *world.held_out(subject, relation))


def _statements(world: World, subject: str, relation: str) -> list[Template]:
    return [t for t in world.trained(subject, relation) if t.form == "object_last"]


def _same_fact(edit, world, subject, relation, old, new) -> Iterable[Probe]:
    answers = (new, *world.aliases(new))
    yield Probe(edit.text, answers, "efficacy", "rewrite", foil=old)
    unseen = world.held_out(subject, relation)
    for wording in _wordings(world, subject, relation):
        if wording.prompt() != edit.prompt:
            yield Probe(
                wording.prompt(subject),
                answers,
                "generalization",
                "paraphrase",
                foil=old,
                held_out=wording in unseen,
            )


def _aliases(world, rng, subject, relation, old, new) -> Iterable[Probe]:
    for alias in world.aliases(subject):
        prompt = rng.choice(_statements(world, subject, relation)).prompt(alias)
        yield Probe(prompt, (new, *world.aliases(new)), "portability", "alias", foil=old)


def _inverses(world, after, rng, subject, relation, old, new) -> Iterable[Probe]:
    inverse = RELATIONS[relation].inverse
    if inverse is None or not world.trained(new, inverse):
        return
    left = after.objects(old, inverse)
    prompt = rng.choice(_statements(world, new, inverse)).prompt(new)
    answers = (subject, *world.aliases(subject))
    yield Probe(prompt, answers, "portability", "inverse", foil=rng.choice(left) if left else None)


def _hops(world: World, after: World, rng, subject: str, relation: str) -> Iterable[Probe]:
    """Composed facts that the edit changes: of the subject, and of what lies upstream of it."""
    own, upstream = [], []
    for id, hops in _hops_through(relation).items():
        here = _subject_type(id) == _subject_type(relation)
        concerned = {subject} if here else _upstream(world, id, subject)
        for name in sorted(concerned):
            before, now = world.objects(name, id), after.objects(name, id)
            if now and now != before:
                (own if name == subject else upstream).append((name, id, hops, before, now))
    for name, id, hops, before, now in own + rng.sample(upstream, min(UPSTREAM, len(upstream))):
        prompt = rng.choice(_statements(world, name, id)).prompt(name)
        answers = tuple(a for o in now for a in (o, *world.aliases(o)))
        yield Probe(
            prompt,
            answers,
            "portability",
            "one_hop" if hops == 1 else "two_hop",
            foil=before[0] if before else None,
        )


def _subject_type(relation: str) -> str:
    return RELATIONS[relation].subject_type


def _hops_through(relation: str) -> dict[str, int]:
    """Composed relations that use `relation`, with how many other given facts each takes."""

    def parts(id: str) -> list[str]:
        chain = RELATIONS[id].composed_of
        return [id] if chain is None else [p for link in chain for p in parts(link)]

    return {
        id: len(parts(id)) - 1
        for id, r in RELATIONS.items()
        if r.composed_of and relation in parts(id)
    }


def _upstream(world: World, composed: str, subject: str) -> set[str]:
    """Subjects whose `composed` fact runs through `subject`."""
    first, then = RELATIONS[composed].composed_of or ("", "")
    middles = {subject} if _subject_type(then) == _type_of(world, subject) else set()
    if not middles and RELATIONS[then].composed_of:
        middles = _upstream(world, then, subject)
    if not middles and RELATIONS[first].composed_of:
        return _upstream(world, first, subject)
    return {s for middle in middles for s in world.subjects(first, middle)}


def _type_of(world: World, subject: str) -> str:
    return _subject_type(world.about(subject)[0])


def _same_subject(world: World, after: World, rng, subject: str, relation: str) -> Iterable[Probe]:
    # A composed fact that runs through the edit is never locality, even where it happens to stay.
    derived = _hops_through(relation)
    for id in world.about(subject):
        now = after.objects(subject, id)
        if id in derived or id == relation or not RELATIONS[id].functional:
            continue
        if now == world.objects(subject, id):
            yield _stays(world, rng, "same_subject", subject, id)


def _neighborhood(world, rng, subject, relation, old, new) -> Iterable[Probe]:
    others = [s for s in world.subjects(relation, old) if s != subject]
    for name in rng.sample(others, min(NEIGHBORS, len(others))):
        yield _stays(world, rng, "neighborhood", name, relation, foil=new)


def _one_to_many(world, after, rng, subject, relation, old, new) -> Iterable[Probe]:
    # What the new object already had, it keeps: the Colosseum is still in Rome.
    others = [s for s in world.subjects(relation, new) if s != subject]
    for name in rng.sample(others, min(OTHERS, len(others))):
        yield _stays(world, rng, "one_to_many", name, relation, foil=old)
    for id in world.about(subject):
        if not RELATIONS[id].functional and after.objects(subject, id) == world.objects(
            subject, id
        ):
            yield _stays(world, rng, "one_to_many", subject, id)


def _far(world, after, rng, subject, relation, old, new) -> Iterable[Probe]:
    pairs = world.pairs()
    found = 0
    while found < min(FAR, len(pairs) // 20):
        name, id = rng.choice(pairs)
        kind = RELATIONS[id]
        apart = not {name, *world.objects(name, id)} & {subject, old, new}
        unchanged = after.objects(name, id) == world.objects(name, id)
        if apart and unchanged and kind.functional and kind.subject_type != _subject_type(relation):
            found += 1
            yield _stays(world, rng, "far", name, id)


def _stays(
    world: World, rng, kind: str, name: str, relation: str, foil: str | None = None
) -> Probe:
    prompt = rng.choice(_statements(world, name, relation)).prompt(name)
    answers = tuple(a for o in world.objects(name, relation) for a in (o, *world.aliases(o)))
    return Probe(prompt, answers, "locality", kind, foil=foil)
