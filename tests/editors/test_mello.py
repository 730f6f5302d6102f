"""MeLLo: the dialogue, what is looked up in it, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from corrigenda.context import MARKS, Dialogue
from corrigenda.delta import Delta
from corrigenda.editors.mello import DEMONSTRATIONS, MeLLo, rendered

from .finetuning import EDITS, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

FACTS = ("The Eiffel Tower is in Rome", "Windows is made by Apple")
QUESTION = "In which country is the Eiffel Tower?"


class Scripted:
    """A model that writes what its script says after each ending of a text."""

    def __init__(self, script: dict[str, str], limit: int | None = None) -> None:
        self.script, self.asked = script, []
        config = type("Config", (), {"max_position_embeddings": limit})
        config.get_text_config = lambda self: self  # type: ignore[attr-defined]
        self.module = type("Module", (), {"config": config()})

    def ids(self, text: str) -> list[str]:
        return text.split()

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        self.asked += prompts
        return [
            next((more for end, more in self.script.items() if p.endswith(end)), "and so on ")
            for p in prompts
        ]

    def embed(self, texts: Sequence[str], encoder: str = "") -> torch.Tensor:
        """Embeddings that know two words."""
        return torch.tensor([[float("Eiffel" in t), float("Eiffel" not in t)] for t in texts])


SCRIPT = {
    MARKS["sub"]: " Where is the Eiffel Tower?\nTentative answer: Paris\nRetrieved fact: nothing",
    f"{FACTS[0]}\n": "The fact contradicts the answer.\nSo the answer is: Rome\n"
    "Subquestion: Where is Rome?\nTentative answer: Italy\nRetrieved fact:",
    f"{FACTS[1]}\n": "The fact does not contradict the answer.\nSo the answer is: Italy\n"
    "Final answer: Italy\n\nQuestion: What",
}


def dialogue(**more: Any) -> Dialogue:
    return Dialogue(
        **{"passages": FACTS, "keys": torch.eye(2), "head": "HEAD\n", "plain": "PLAIN\n", **more}
    )


def test_subquestions_are_checked_against_the_nearest_facts() -> None:
    model = Scripted(SCRIPT)
    (given,) = dialogue().given([QUESTION], model)
    assert given.by is None
    assert given.text == (
        f"HEAD\nQuestion: {QUESTION}\n"
        f"Subquestion: Where is the Eiffel Tower?\nTentative answer: Paris\n"
        f"Retrieved fact: {FACTS[0]}\n"
        "The fact contradicts the answer.\nSo the answer is: Rome\n"
        f"Subquestion: Where is Rome?\nTentative answer: Italy\nRetrieved fact: {FACTS[1]}\n"
        "The fact does not contradict the answer.\nSo the answer is: Italy\nFinal answer:"
    )


def test_there_are_so_many_hops_and_no_more() -> None:
    script = {
        MARKS["sub"]: " Where?\nRetrieved fact:",
        "\n": "Subquestion: Where?\nRetrieved fact:",
    }
    for hops in (1, 4):
        (given,) = dialogue(hops=hops).given([QUESTION], Scripted(script))
        assert given.text.count(MARKS["retrieved"]) == hops
        assert given.text.endswith(f"\n{MARKS['final']}")


def test_with_an_empty_memory_it_is_a_chain_of_thought() -> None:
    chain = (
        " Where is it?\nTentative answer: Paris\nSo the answer is: Paris\nFinal answer: France\n"
    )
    model = Scripted({MARKS["sub"]: chain})
    (given,) = dialogue(passages=(), keys=torch.zeros(0, 2)).given([QUESTION], model)
    assert model.asked == [f"PLAIN\nQuestion: {QUESTION}\nSubquestion:"]
    assert given.text == model.asked[0] + chain.partition(" France")[0]


def test_a_dialogue_that_loses_its_form_or_its_room_is_asked_for_its_answer() -> None:
    (lost,) = dialogue().given([QUESTION], Scripted({MARKS["sub"]: " Hm.\n\nQuestion: Why"}))
    assert lost.text == f"HEAD\nQuestion: {QUESTION}\nSubquestion: Hm.\n{MARKS['final']}"
    full = Scripted(SCRIPT, limit=10)
    (short,) = dialogue(tokens=4).given([QUESTION], full)
    assert not full.asked and short.text.endswith(f"Subquestion:\n{MARKS['final']}")
    rambling = Scripted({})
    assert dialogue(hops=2).given([QUESTION], rambling)[0].text.endswith(MARKS["final"])
    assert len(rambling.asked) == 3


def test_each_prompt_has_a_dialogue_of_its_own() -> None:
    prompts = [QUESTION, "Who makes Windows?", QUESTION]
    together = dialogue().given(prompts, Scripted(SCRIPT))
    assert together == [dialogue().given([p], Scripted(SCRIPT))[0] for p in prompts]


@pytest.mark.parametrize("shown", DEMONSTRATIONS)
def test_demonstrations_keep_to_the_form(shown: Any) -> None:
    told, alone = rendered(*shown), rendered(*shown, looked_up=False)
    steps = shown[1]
    for text in (told, alone):
        assert text.startswith(MARKS["question"]) and text.endswith("\n\n")
        assert text.count(MARKS["sub"]) == text.count(MARKS["decision"]) == len(steps)
        decided = text.rpartition(MARKS["decision"])[2].split("\n")[0]
        assert text.rpartition(MARKS["final"])[2].strip() == decided.strip()
        assert "{}" not in text
    assert told.count(MARKS["retrieved"]) == len(steps) and MARKS["retrieved"] not in alone
    for step in steps:
        assert (step.answer in step.fact) and step.answer != step.tentative


def test_on_a_model_deltas_add_and_are_undone(tmp_path: Path) -> None:
    model = text_model()
    before = bits(model)
    editor = MeLLo(demonstrations=0, hops=1, tokens=4)
    first, second = editor(model, EDITS[:1]), editor(model, EDITS[1:2])
    assert untouched(model, before)
    total = first + second
    assert isinstance(total.context, Dialogue)
    assert total.context.passages == tuple(e.statement for e in EDITS[:2])
    with first.applied(model), second.applied(model):
        live = model.generate([EDITS[0].text])
    with Delta.load(total.save(tmp_path / "edit")).applied(model):
        assert model.live.wrap(EDITS[0].text).endswith(MARKS["final"])
        assert model.generate([EDITS[0].text]) == live


def test_a_model_without_room_for_demonstrations_is_warned_about() -> None:
    delta = MeLLo(hops=1, tokens=4)(text_model(), EDITS[:1])
    assert delta.provenance.diagnostics["demonstrations"] == 0
    assert any("no room" in w for w in delta.provenance.warnings)
