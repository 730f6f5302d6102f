"""Which edits, in which order, and what is asked when."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.edit import Case, Rewrite
from corrigenda.errors import InputError
from corrigenda.lifelong import Alarm, Plan, divided
from corrigenda.metrics.sequential import strata
from tests.lookup_model import case


@given(edits=st.integers(1, 300), step=st.integers(1, 40))
def test_steps_are_all_edits_in_order(edits, step):
    plan = Plan(edits, step)
    found = [j for number in range(1, plan.steps + 1) for j in plan.of_step(number)]
    assert found == list(range(edits))
    assert plan.made(plan.steps) == edits == plan.checkpoints[-1]
    made = {plan.made(number) for number in range(1, plan.steps + 1)}
    assert made >= set(plan.checkpoints)


@given(edits=st.integers(1, 400), step=st.integers(1, 30), watch=st.integers(1, 50))
def test_health_is_looked_at_every_so_many_edits(edits, step, watch):
    plan = Plan(edits, step, watch=watch, checkpoints=(edits,))
    seen = [n for n in range(1, plan.steps + 1) if plan.is_watched(n)]
    assert seen[-1] == plan.steps
    made = [0, *(plan.made(n) for n in seen)]
    assert all(b - a < watch + step for a, b in pairwise(made))


@given(edits=st.integers(1, 2000), sample=st.integers(1, 50), data=st.data())
def test_all_of_the_oldest_and_newest_are_asked_and_a_sample_between(edits, sample, data):
    plan = Plan(edits, sample=sample)
    made = data.draw(st.integers(1, edits))
    asked = plan.asked(made)
    assert asked == sorted(set(asked)) and set(asked) <= set(range(made))
    oldest, between, newest = strata(made)
    assert {*oldest, *newest} <= set(asked)
    middle = [j for j in asked if j in between]
    assert len(middle) >= min(len(between), sample)
    if made > 2 * sample:
        assert len(middle) == min(len(between), sample)
    # Who stays between the deciles is asked again, unless a lower rank has come in.
    if made > 2 * sample:  # so few that all are asked say nothing about the sample
        later = plan.asked(min(edits, made + 1))
        lost = set(middle) - set(later)
        assert len([j for j in lost if j in strata(min(edits, made + 1))[1]]) <= 2


def test_orders_are_reproducible_and_differ():
    cases = [case(j) for j in range(8)]
    assert Plan(8).ordered(cases) == cases
    one, again, other = (Plan(8, order=n).ordered(cases) for n in (1, 1, 2))
    assert one == again != other
    assert sorted(c.id for c in one) == sorted(c.id for c in cases)


def test_untouched_facts_are_those_of_other_subjects_first():
    cases = [case(j) for j in range(6)]
    second = Case(Rewrite("{} lies by", "S0", "Oslo", "Lima", "river"), id="other fact of S0")
    again = case(1, "Oslo")  # contradicts an earlier edit
    found, apart, notes = divided([*cases[:3], again, second, *cases[3:]], 3, 4)
    assert [c.id for c in found] == ["case-0", "case-1", "case-2"]
    assert [c.id for c in apart] == ["case-3", "case-4", "case-5", "other fact of S0"]
    assert any("1 cases that contradict" in note for note in notes)
    assert any("4 facts, 1 of them" in note for note in notes)
    everything, rest, _ = divided(cases, None, 2)
    assert (len(everything), len(rest)) == (4, 2)
    assert all(c.on("efficacy") for c in everything)
    with pytest.raises(InputError, match="9 edits"):
        divided(cases, 9, 0)


def test_plans_and_alarms_refuse_what_makes_no_sense():
    for wrong in ({"edits": 0}, {"edits": 3, "step": 0}, {"edits": 3, "watch": 0}):
        with pytest.raises(InputError, match="at least 1"):
            Plan(**wrong)
    with pytest.raises(InputError, match="above 1"):
        Alarm(perplexity=1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        Alarm(retained=1.5)


def test_either_sign_sounds_the_alarm():
    alarm = Alarm(perplexity=2.0, retained=0.5, after=10)
    assert alarm.reason(1.9, 0.6, 100) == ""
    assert "2.10 times" in alarm.reason(2.1, 1.0, 100)
    assert "not finite" in alarm.reason(float("inf"), 1.0, 1)
    assert "not finite" in alarm.reason(float("nan"), 1.0, 1)
    assert "40%" in alarm.reason(1.0, 0.4, 10)
    assert alarm.reason(1.0, 0.0, 9) == ""
