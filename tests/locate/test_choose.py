"""The chooser of layers: it ranks by what edits do, and by nothing else."""

from __future__ import annotations

import json

import pytest

from corrigenda import evaluate
from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.editors import make
from corrigenda.errors import InputError
from corrigenda.locate import choose
from corrigenda.locate.choose import windows
from corrigenda.report import Report, Score

from ..editors.finetuning import bits, text_model, untouched

PROMPTS = ("{} is located in", "{} stands in the city of")


def case(subject: str, target: str) -> Case:
    probes = (
        Probe(PROMPTS[0].format(subject), (target,), "efficacy", "rewrite"),
        Probe(PROMPTS[1].format(subject), (target,), "generalization", "paraphrase"),
        Probe("Windows is made by", (), "locality", "neighborhood"),
    )
    return Case(Rewrite(PROMPTS[0], subject, target), probes, id=subject)


CASES = [case("The Louvre", "Rome."), case("Big Ben", "Madrid.")]


def report(efficacy: float, generalization: float, locality: float | None) -> Report:
    values = {"efficacy": efficacy, "generalization": generalization, "locality": locality}
    scores = {
        f"gen.{name}": Score(value, value, value, 2, 2, "none")
        for name, value in values.items()
        if value is not None
    }
    return Report((), scores, {})


def test_edits_decide():
    """Trained with a step size that is only large enough in one place, one layer wins."""
    model = text_model(sharp=True)
    before = bits(model)
    editor = make("ft-m", steps=60, lr=0.02)
    done: list[tuple[int, int]] = []
    found = choose(
        model, editor, CASES, evaluate, max_new_tokens=4, progress=lambda *at: done.append(at)
    )
    assert untouched(model, before)
    assert {c.layers for c in found} == {(0,), (1,), (2,)} and done[-1] == (3, 3)
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    for candidate in found:
        chosen = candidate.report.environment["editor"]["arguments"]["layers"]
        assert tuple(chosen) == candidate.layers
        assert len(candidate.report.rows) == len(CASES)
    json.dumps([c.to_dict() for c in found])


def test_the_score_is_a_harmonic_mean():
    outcomes = {
        (0,): report(1.0, 1.0, 0.0),
        (1,): report(0.5, 0.5, 0.5),
        (2,): report(1.0, 0.25, 1.0),
        (0, 1): report(1.0, 0.5, None),
    }

    def measured(_model, editor, _cases):
        return outcomes[editor.layers]

    model = text_model()
    found = choose(model, make("memit"), CASES, measured, candidates=list(outcomes))
    assert [c.layers for c in found] == [(0, 1), (1,), (2,), (0,)]
    assert [c.score for c in found] == pytest.approx([2 / 3, 0.5, 0.5, 0.0])
    assert found[0].to_dict().keys() >= {"layers", "score", "efficacy", "generalization"}
    assert "locality" not in found[0].to_dict()


def test_windows_are_as_wide_as_the_editor():
    model = text_model()
    assert windows(model, make("rome")) == [(0,), (1,), (2,)]
    assert windows(model, make("memit", layers=(0, 1))) == [(0, 1), (1, 2)]
    assert windows(model, make("lora")) == [(0, 1, 2)]


def test_what_cannot_be_chosen():
    model = text_model()
    with pytest.raises(InputError, match="Give some cases"):
        choose(model, make("rome"), [], evaluate)
    with pytest.raises(InputError, match="no layers"):
        choose(model, make("ike"), CASES, evaluate)
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        choose(model, make("rome"), CASES, evaluate, candidates=[(9,)])
