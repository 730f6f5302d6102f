"""How edits enter a prompt: as sentences in front, and step by step where a question hides them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from corrigenda.blackbox.memory import Remembered
from corrigenda.blackbox.prompting import HOWS, Found, prompting
from corrigenda.blackbox.scope import Query, Retrieval
from corrigenda.context import MARKS
from corrigenda.edit import Rewrite
from corrigenda.errors import InputError, UnknownNameError

MEMORY = [
    Remembered(1, Rewrite("{} is located in the city of", "Eiffel Tower", "Rome")),
    Remembered(2, Rewrite("The language of {} is", "Rome", "Greek")),
]


def given(how: str, text: str, replies: Sequence[str] = ()) -> tuple[Found, list[str]]:
    """What becomes of a text, and what the model was asked on the way."""
    left, seen = list(replies), []

    async def ask(prompt: str, tokens: int, stop: Sequence[str]) -> str:
        seen.append(prompt)
        return left.pop(0)

    way = prompting(how)
    found = asyncio.run(way.given(Query(text), MEMORY, Retrieval(), ask, "user"))
    return found, seen


@pytest.mark.parametrize("how", ["definitions", "demonstrations"])
def test_only_what_a_prompt_is_about_is_told(how: str) -> None:
    found, asked = given(how, "The Eiffel Tower is in")
    assert not asked
    assert found.used == (1,)
    assert found.text is not None
    assert found.text.endswith("The Eiffel Tower is in")
    assert "Rome" in found.text
    assert "Greek" not in found.text
    assert given(how, "Two plus two is")[0] == Found()


def test_a_hidden_edit_is_found_by_steps() -> None:
    replies = [
        " In which city is the Eiffel Tower?\n",
        f"{MARKS['sub']} What is the language of Rome?\n",
        f"{MARKS['final']} Greek",
    ]
    found, asked = given("multi-hop", "What is spoken around Gustave's landmark?", replies)
    assert set(found.used) == {1, 2}
    assert found.text is not None
    assert "Rome" in asked[1]
    assert found.text.endswith(MARKS["final"])


def test_steps_that_find_nothing_leave_the_prompt_alone() -> None:
    found, _ = given("multi-hop", "What is two plus two?", [f"{MARKS['final']} four"])
    assert found == Found()


def test_wordings_and_names_are_checked() -> None:
    with pytest.raises(UnknownNameError, match=HOWS[0]):
        prompting("by-magic")
    with pytest.raises(InputError, match="once"):
        prompting("definitions", fact="no place")
