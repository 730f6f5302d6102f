"""How edits that a request is about enter its prompt. No weight changes; the model only reads more.

    definitions      each fact as a sentence in front       Onoe et al. 2023, 2305.01651
    demonstrations   the same after worked examples         IKE, Zheng et al. 2023, 2305.12740
    multi-hop        the model takes the question apart, and each step is looked up in the memory
                     (MeLLo, Zhong et al. 2023, 2305.14795)

The first two need no more than the edits that the scope found. The third asks the endpoint a few
times itself, at most `hops` times for a request, and reaches edits that the request does not
mention ("the language of the country where the Eiffel Tower is"). What no step finds goes on
untouched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from ..context import MARKS
from ..editors.mello import DEMONSTRATIONS, rendered
from ..errors import InputError, UnknownNameError
from .memory import Remembered
from .requests import Place
from .scope import Query, Scope

__all__ = ["HOWS", "Ask", "Found", "How", "MultiHop", "Prompting", "Telling", "prompting"]

How = Literal["definitions", "demonstrations", "multi-hop"]
HOWS: tuple[How, ...] = ("definitions", "demonstrations", "multi-hop")

Ask = Callable[[str, int, Sequence[str]], Awaitable[str]]
"""Ask the endpoint itself: (text to continue, new tokens, stop strings) -> what it wrote."""

NEAREST = 3
"""At most this many facts are told with one prompt."""

EXAMPLES = (
    "New Fact: The Halden Lighthouse stands on the coast of Chile\n"
    "Prompt: The Halden Lighthouse stands on the coast of Chile\n\n"
    "New Fact: The novel Quiet Rivers was written by Ada Brandt\n"
    "Prompt: Question: Who is the author of Quiet Rivers? Answer: Ada Brandt\n\n"
    "New Fact: Iker Soler plays the cello\n"
    "Prompt: The instrument of Iker Soler is the cello\n\n"
    "New Fact: The Halden Lighthouse stands on the coast of Chile\n"
    "Prompt: The longest river of Africa is the Nile\n\n"
)
"""IKE's kinds: the fact as it was told, in other words, and a question that it does not touch."""


@dataclass(frozen=True, slots=True)
class Found:
    """What becomes of one prompt.

    text  what the model is given in its place; None: the prompt as it is.
    used  numbers of the entries whose edits are in it.
    """

    text: str | None = None
    used: tuple[int, ...] = ()


class Prompting(Protocol):
    """Puts edits into prompts."""

    @property
    def name(self) -> How: ...

    async def given(
        self, query: Query, memory: Sequence[Remembered], scope: Scope, ask: Ask, place: Place
    ) -> Found:
        """What the model is to read for a prompt. place: of a chat, see `requests.Place`."""
        ...


@dataclass(frozen=True)
class Telling:
    """Facts in front of the prompt.

    fact   how one is told; `{}` is prompt and target as a sentence.
    query  how the prompt is written after them; `{}` is the prompt.
    head   text in front of all.
    limit  at most this many facts, the nearest to the prompt last.
    """

    name: How = "definitions"
    fact: str = "{}. "
    query: str = "{}"
    head: str = ""
    limit: int = NEAREST

    async def given(
        self, query: Query, memory: Sequence[Remembered], scope: Scope, ask: Ask, place: Place
    ) -> Found:
        found = scope.select(query, memory)[-self.limit :]
        return self.told([match.edit for match in found], query.text, place)

    def told(self, edits: Sequence[Remembered], prompt: str, place: Place = "user") -> Found:
        if not edits:
            return Found()
        facts = self.head + "".join(
            self.fact.replace("{}", one.edit.statement.rstrip(" ."), 1) for one in edits
        )
        used = tuple(dict.fromkeys(one.number for one in edits))
        if place == "system":
            return Found(facts.rstrip(), used)
        return Found(facts + self.query.replace("{}", prompt, 1), used)


@dataclass(frozen=True)
class MultiHop:
    """A few steps with the model before it answers.

    telling         how facts are told where the prompt itself is about them.
    hops            at most this many steps.
    tokens          new tokens of one step.
    demonstrations  how many worked dialogues the model is shown.
    """

    telling: Telling = Telling()
    hops: int = 4
    tokens: int = 64
    demonstrations: int = 3
    name: How = "multi-hop"

    async def given(
        self, query: Query, memory: Sequence[Remembered], scope: Scope, ask: Ask, place: Place
    ) -> Found:
        if not memory:
            return Found()
        head = "".join(rendered(*one) for one in DEMONSTRATIONS[: self.demonstrations])
        steps = f"{MARKS['question']} {query.text.strip()}\n{MARKS['sub']}"
        found: dict[Remembered, None] = {}
        for match in scope.select(query, memory)[-self.telling.limit :]:
            found[match.edit] = None
        for _ in range(self.hops):
            written = await ask(head + steps, self.tokens, [MARKS["retrieved"], "\n\n"])
            # Not every endpoint heeds stop strings.
            turn = written.partition(MARKS["retrieved"])[0].partition("\n\n")[0].rstrip()
            if not turn.strip() or MARKS["final"] in turn:
                steps += turn.partition(MARKS["final"])[0]
                break
            question = (turn.rpartition(MARKS["sub"])[2].strip() or turn).splitlines()[0]
            near = scope.select(Query(question), memory)
            fact = "nothing is known"
            if near:
                found[near[-1].edit] = None
                fact = near[-1].edit.edit.statement
            steps += f"{turn}\n{MARKS['retrieved']} {fact}\n"
        if not found:
            return Found()
        used = tuple(dict.fromkeys(one.number for one in found))
        if place == "user":
            text = f"{head}{steps.rstrip()}\n{MARKS['final']}"
            return Found(text, used)
        return replace(self.telling.told(list(found), query.text, place), used=used)


def prompting(
    how: str, fact: str | None = None, query: str | None = None, *, hops: int = 4
) -> Prompting:
    """The way of that name, with its usual wording where none is given.

    Raises `UnknownNameError` for another name, `InputError` for a wording without its `{}`.
    """
    if how not in HOWS:
        raise UnknownNameError("way to put edits into prompts", how, HOWS)
    for name, text in (("fact", fact), ("query", query)):
        if text is not None and text.count("{}") != 1:
            raise InputError(f"The wording of a {name} needs {{}} once, not {text!r}.")
    given: dict[str, Any] = {k: v for k, v in (("fact", fact), ("query", query)) if v is not None}
    if how == "demonstrations":
        usual: dict[str, Any] = {"fact": "New Fact: {}\n", "query": "Prompt: {}", "head": EXAMPLES}
        return Telling("demonstrations", **(usual | given))
    telling = Telling("definitions", **given)
    return telling if how == "definitions" else MultiHop(telling, hops=hops)
