"""Definition prepending: what the model is given (methods.md §8.3)."""

from __future__ import annotations

import pytest

from corrigenda.editors.definition import Definition
from corrigenda.errors import EditError

from .finetuning import EDITS, text_model

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")


def test_the_definition_stands_before_the_probe():
    model = text_model()
    delta = Definition()(model, EDITS[:1])
    assert delta.prefix is not None
    text = delta.prefix.wrap("Where is it?")
    assert text == f"{EDITS[0].statement}. Where is it?"
    pairs = [("Where is it?", "In Rome")]
    given = model.score([(text, "In Rome")])[0]
    with delta.applied(model):
        scored = model.score(pairs)[0]
    assert scored.ids == given.ids, "only the probe's tokens are scored"
    assert scored.mean == pytest.approx(given.mean)


def test_each_prompt_gets_the_definition_of_its_own_subject():
    prefix = Definition()(text_model(), EDITS).prefix
    assert prefix is not None
    assert prefix.wrap("Marie Curie died in").startswith(EDITS[1].statement)
    assert prefix.wrap("The price of the iPhone is").startswith(EDITS[2].statement)


def test_the_controls_tell_nothing_of_the_fact():
    model = text_model()
    subject = Definition(control="subject")(model, EDITS[:1]).prefix
    assert subject is not None and subject.wrap("It is") == f"{EDITS[0].subject}. It is"
    other = Definition(control="random")(model, EDITS[:2]).prefix
    assert other is not None
    assert other.passages == tuple(f"{e.statement}. " for e in (EDITS[1], EDITS[0]))
    with pytest.raises(EditError, match="another edit"):
        Definition(control="random")(model, EDITS[:1])
