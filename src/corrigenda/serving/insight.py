"""Looking into the model for the studio: lens, neurons, causal trace, the graph around a subject,
and a sentence read as an edit.

What looks places hooks, so it runs on a bench (`states.py`) and never on a tree that answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..edit import Rewrite
from ..errors import CorrigendaError, InputError
from ..locate import lens_everywhere
from ..locate import trace as causal_trace
from ..measure import Budget, replies
from ..metrics.text import answer_of, contains, preserved
from ..models.hooks import captured
from ..models.text import TextModel
from . import schemas
from .jobs import finite
from .scorecard import relation_of, world_for

__all__ = ["answers", "graph", "guess", "lens", "neurons", "trace"]

SHORT = Budget(max_new_tokens=12, batch_size=32)
LONGEST = 256
"""Tokens of a prompt that is looked at token by token."""
KINDS = (("hidden", "block"), ("mlp", "mlp"), ("attention", "attention"))


def lens(model: TextModel, prompt: str, top: int) -> schemas.Lens:
    """What each layer would say after each token."""
    _check_length(model, prompt)
    ids, found = lens_everywhere(model, prompt)
    layers = list(found[0].layers)
    named = _names(model)
    cells = [
        [
            [schemas.LensCell(token=named(token), p=round(p, 6)) for token, p in row]
            for row in one.top(min(top, one.logprobs.shape[1]))
        ]
        for one in found
    ]
    return schemas.Lens(tokens=[named(token) for token in ids], layers=layers, cells=cells)


@torch.no_grad()
def neurons(model: TextModel, prompt: str, layer: int, top: int) -> schemas.Neurons:
    """The neurons of a layer that write most at the prompt's last token, and what they promote.

    A neuron is a column of the down-projection: with activation a it adds a·v to the residual
    stream. It promotes the tokens that the unembedding finds most in the direction of a·v.
    """
    _check_length(model, prompt)
    asked = model.opening(prompt.rstrip(" "))
    questions = model.force([asked])
    site = model.site("down", layer)
    with captured({"keys": (model.linear(site), "input")}) as seen:
        model.target_logits(questions)
    keys = seen["keys"].reshape(-1, seen["keys"].shape[-1])
    last = int(questions.ends[0]) if layer in model.prompt_layers else len(keys) - 1
    weight = model.weight(site).float()  # (o, i)
    if keys.shape[-1] != weight.shape[1]:
        raise InputError(
            f"Layer {layer} of {model.id} is a mixture of experts; its neurons are not shown."
        )
    activations = keys[min(last, len(keys) - 1)].float()
    written = activations.abs() * weight.norm(dim=0)
    best = written.topk(min(top, len(written))).indices
    directions = (weight[:, best] * activations[best].sign()).T  # (top, o)
    promoted = model.head(directions.to(model.dtype)).float().topk(5, dim=-1).indices.tolist()
    named = _names(model)
    return schemas.Neurons(
        layer=layer,
        neurons=[
            schemas.Neuron(
                index=index, activation=round(float(activations[index]), 6), promotes=words
            )
            for index, words in zip(
                best.tolist(), ([named(t) for t in row] for row in promoted), strict=True
            )
        ],
    )


def trace(
    model: TextModel,
    asked: schemas.TraceRequest,
    progress: Callable[[float, str], None],
) -> schemas.Trace:
    """Causal traces of hidden states, MLPs and attentions."""
    kinds: dict[str, Any] = {}
    found: Any = None
    for number, (name, kind) in enumerate(KINDS):

        def tell(done: int, total: int, number: int = number, name: str = name) -> None:
            progress((number + done / max(1, total)) / len(KINDS), f"restoring {name} states")

        found = causal_trace(
            model,
            asked.prompt,
            asked.subject,
            asked.answer or None,
            kind=kind,  # type: ignore[arg-type]
            window=None if kind == "block" else asked.window,
            **({} if asked.noise is None else {"noise": asked.noise}),
            progress=tell,
        )
        kinds[name] = finite([[round(x, 6) for x in row] for row in found.effect.tolist()])
    first, last = found.subject
    return schemas.Trace(
        tokens=list(found.tokens),
        layers=list(found.layers),
        kinds=kinds,
        subject_tokens=list(range(first, last + 1)),
        clean=found.clean,
        corrupted=found.corrupted,
        answer=found.answer,
    )


def _names(model: TextModel) -> Callable[[int], str]:
    """How a token is shown."""
    return lambda token: str(model.tokenizer.decode([token]))


def _check_length(model: TextModel, prompt: str) -> None:
    if not prompt.strip():
        raise InputError("The prompt is empty. Give some text to look at.")
    size = len(model.ids(prompt))
    most = min(LONGEST, model.context or LONGEST)
    if size >= most:
        raise InputError(f"The prompt has {size} tokens; fewer than {most} can be looked at.")


# -- a sentence, read as an edit --------------------------------------------------------------

_CAPITAL = re.compile(
    r"[^\W\d_a-z]\w*(?:[-'’]\w+)*(?: (?:(?:of|the|de|da|van|von) )?[^\W\d_a-z]\w*(?:[-'’]\w+)*)*"
)
_OPEN = {"a", "an", "the", "of", "in", "is", "was", "are", "by", "to", "at", "as", "on", "from"}
"""Words after which something must come: a text that ends in one names no object."""
_STARTS = {"the", "a", "an", "in", "who", "what", "where", "question", "when", "which"}
_VERB = re.compile(r" (?:is|was|are|were|has|lives|plays|works|speaks|belongs|comes)\b")


def guess(model: TextModel, text: str, ask: Callable[[str], str]) -> schemas.Guess:
    """Read a sentence as an edit. ask: what the model answers to a prompt now.

    In an Atlas model the names and wordings of its world are known; elsewhere names are what is
    written in capitals, and the object is what comes last.
    """
    text = " ".join(text.split())
    if not text:
        raise InputError(
            "There is no text. Write the fact as a sentence, such as “Rome is in Italy”."
        )
    sentence = text.rstrip(".!")
    world = world_for(model)
    found = _of_wording(sentence, world) if world is not None else None
    if found is None:
        found = _of_names(sentence, world)
    prompt, subject, target = found
    template = prompt
    if subject and (at := prompt.rfind(subject)) >= 0:
        template = prompt[:at] + "{}" + prompt[at + len(subject) :]
    return schemas.Guess(
        prompt=prompt,
        subject=subject,
        target=target,
        prompt_template=template,
        known=bool(world is not None and world.about(subject)),
        now=answer_of(ask(prompt)).strip() if prompt else "",
    )


def _of_wording(sentence: str, world: Any) -> tuple[str, str, str] | None:
    """A sentence in one of the world's own wordings, or the beginning of one."""
    best: tuple[str, str, str] | None = None
    for subject in _named(sentence, world):
        for id in world.about(subject):
            for wording in world.templates(id):
                if not wording.promptable:
                    continue
                prompt = wording.prompt(subject)
                whole = sentence == prompt or sentence.startswith(prompt + " ")
                if whole and (best is None or len(prompt) > len(best[0])):
                    rest = sentence[len(prompt) :].strip()
                    tail = wording.tail.rstrip(".")
                    best = prompt, subject, rest.removesuffix(tail).strip() if tail else rest
    return best


def _named(sentence: str, world: Any) -> list[str]:
    """Subjects of the world that are named in a sentence, the longest names first."""
    words = sentence.rstrip("?").replace(",", " ,").split(" ")
    found = dict.fromkeys(
        name
        for start in range(len(words))
        for end in range(start + 1, min(len(words), start + 8) + 1)
        for name in (" ".join(words[start:end]).replace(" ,", ","),)
        if world.about(name)
    )
    return sorted(found, key=len, reverse=True)


def _of_names(sentence: str, world: Any) -> tuple[str, str, str]:
    """(prompt, subject, target) by the names in a sentence; "" for a target that it lacks."""
    spans = [(m.start(), m.end()) for m in _CAPITAL.finditer(sentence)]
    spans = [span for span in (_trimmed(sentence, span) for span in spans) if span is not None]
    if world is not None:
        for name in _named(sentence, world):
            at = sentence.find(name)
            spans = [s for s in spans if s[1] <= at or s[0] >= at + len(name)]
            spans.append((at, at + len(name)))
        spans.sort()
    verb = _VERB.search(sentence)
    if spans and (verb is None or spans[0][0] < verb.start()):
        start, end = spans[0]
    elif verb is not None and _bare(head := sentence[: verb.start()]):
        start, end = (len(head) - len(_bare(head)), len(head))
    elif spans:
        start, end = spans[0]
    else:
        start, end = 0, len(sentence.split(" ")[0])
    subject = sentence[start:end]
    last = sentence.rsplit(" ", 1)[-1]
    if end >= len(sentence) or last.lower() in _OPEN or sentence.endswith("?"):
        return sentence, subject, ""
    later = [s for s in spans if s[0] >= end and s[1] == len(sentence)]
    at = later[0][0] if later else len(sentence) - len(last)
    if at <= end:
        return sentence, subject, ""
    return sentence[:at].rstrip(), subject, sentence[at:]


def _trimmed(sentence: str, span: tuple[int, int]) -> tuple[int, int] | None:
    """A span of capitals without a word that only begins the sentence."""
    start, end = span
    if start == 0:
        start = end - len(_bare(sentence[start:end]))
    return (start, end) if start < end else None


def _bare(text: str) -> str:
    """A text without the articles and question words that it begins with."""
    words = text.split(" ")
    while words and words[0].lower().rstrip(":") in _STARTS:
        words.pop(0)
    return " ".join(words)


# -- the graph around a subject ---------------------------------------------------------------

AROUND, NEAR = 24, 4
"""Facts of the subject that are shown, and of each kind of fact that must stay."""


def graph(
    model: TextModel,
    subject: str,
    edits: Sequence[Rewrite],
    before: Callable[[Sequence[str]], dict[str, str]],
    after: Callable[[Sequence[str]], dict[str, str]],
) -> schemas.Graph:
    """The facts around a subject of an Atlas world, and what an edit did to them.

    edits   those that are looked at; none shows the facts as the model tells them.
    before  answers to prompts without the edits, by prompt; after: with them.
    """
    world = world_for(model)
    if world is None:
        return schemas.Graph(
            nodes=[], edges=[], note="Only Atlas models have a world whose facts are known."
        )
    facts = list(_facts(world, subject, edits))
    if not facts:
        return schemas.Graph(
            nodes=[], edges=[], note=f"Atlas's world knows nothing about {subject[:80]!r}."
        )
    prompts = list(dict.fromkeys(prompt for *_, prompt in facts))
    was, now = (before(prompts), after(prompts)) if edits else ({}, after(prompts))
    nodes: dict[str, schemas.GraphNode] = {}
    edges = []

    def node(label: str, kind: str) -> str:
        known = nodes.get(label)
        if known is None or (known.kind == "other" and kind != "other"):
            nodes[label] = schemas.GraphNode(id=f"n:{label}", label=label, kind=kind)  # type: ignore[arg-type]
        return f"n:{label}"

    own = {subject, *(edit.subject for edit in edits)}
    for number, (name, relation, objects, role, prompt) in enumerate(facts):
        answer = answer_of(now[prompt]).strip()
        status = role
        if role == "stay" and not preserved(was[prompt], now[prompt]):
            status = "leaked"
        named = tuple(n for o in objects for n in (o, *world.aliases(o)))
        right = next((o for o in objects if contains(answer, (o, *world.aliases(o)))), objects[0])
        source = node(name, "subject" if name in own else "other")
        shown = right if contains(answer, named) or role != "leaked" else objects[0]
        target = node(shown, "object" if name in own else "other")
        edges.append(
            schemas.GraphEdge(
                id=f"e:{number}",
                source=source,
                target=target,
                relation=relation,
                prompt=prompt,
                status=status,  # type: ignore[arg-type]
                wanted=shown,
                answer=answer,
            )
        )
    note = (
        "Which facts change, follow and stay is derived from Atlas's world; the answers are the "
        "model's."
        if edits
        else "The facts are those of Atlas's world; the answers are the model's."
    )
    return schemas.Graph(nodes=list(nodes.values()), edges=edges, note=note)


_Drawn = tuple[str, str, tuple[str, ...], str, str]
"""Subject, relation, its objects, what an edit does to it, and the prompt that asks for it."""


def _facts(world: Any, subject: str, edits: Sequence[Rewrite]) -> Iterable[_Drawn]:
    from ..atlas.ripple import must_follow, must_stay

    def drawn(name: str, relation: str, objects: Sequence[str], role: str) -> Iterable[_Drawn]:
        wordings = [t for t in world.trained(name, relation) if t.form == "object_last"]
        if objects and wordings:
            yield name, relation, tuple(objects), role, wordings[0].prompt(name)

    done: set[tuple[str, str]] = set()
    for edit in edits:
        about = relation_of(edit, world)
        if about is None:
            continue
        try:
            follow, stay = must_follow(about, world), must_stay(about, world, many=NEAR)
        except (CorrigendaError, KeyError, IndexError, ValueError):
            continue
        for one, role in [*((r, "follow") for r in follow), *((r, "stay") for r in stay)]:
            if (one.subject, one.relation) in done or len(done) > 4 * AROUND:
                continue
            done.add((one.subject, one.relation))
            role = "changed" if one.kind == "rewrite" else role
            yield from drawn(one.subject, one.relation, one.answers, role)
    for relation in world.about(subject)[:AROUND]:
        if (subject, relation) not in done:
            yield from drawn(subject, relation, world.objects(subject, relation), "plain")


def answers(model: TextModel) -> Callable[[Sequence[str]], dict[str, str]]:
    """Short answers of a model, by prompt."""
    return lambda prompts: replies(model, prompts, SHORT)
