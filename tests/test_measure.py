"""Probes behind conditions: asked only where the unedited model knows what they take."""

from __future__ import annotations

import json

import pytest

from corrigenda.edit import Case, Condition, Probe, Rewrite
from corrigenda.errors import EditError
from corrigenda.evaluate import evaluate
from corrigenda.measure import Budget, executable
from corrigenda.report import Report
from tests.lookup_model import Flip, LookupModel

PARIS, OSLO = (Condition("near S1 is", (name,)) for name in ("Paris", "Oslo"))


def behind(*conditions: Condition, kind: str = "one_hop") -> Probe:
    return Probe("The S1 stands in", ("Rome",), "portability", kind, conditions=conditions)


def one_case(*probes: Probe) -> Case:
    return Case(Rewrite("{} is in", "S1", "Rome", "Paris"), probes)


def test_a_probe_is_kept_when_all_its_conditions_are_met():
    met, unmet, half = behind(PARIS), behind(OSLO), behind(PARIS, OSLO)
    free = Probe("S1 is in", ("Rome",), "efficacy", "rewrite")
    kept, share = executable(LookupModel(), [one_case(free, met, unmet, half)], Budget())
    assert kept[0].probes == (free, met)
    assert share == {"efficacy:rewrite": (1, 1), "portability:one_hop": (1, 3)}


def test_conditions_are_asked_of_the_unedited_model():
    """The edit moves the whole of S1 to Rome; what lies near it was in Paris before."""
    near_rome = Condition("S1 is in", ("Rome",))
    report = evaluate(
        LookupModel(), Flip(), [one_case(behind(PARIS), behind(near_rome, kind="two_hop"))]
    )
    assert report.scores["gen.portability:one_hop"].value == 1.0
    assert "gen.portability:two_hop" not in report.scores
    assert report.environment["executed"]["portability:two_hop"] == {"executed": 0, "of": 1}
    assert "Executed: 2 of 3 probes" in " ".join(report.environment["notes"])


def test_a_report_with_conditions_is_read_back():
    report = evaluate(LookupModel(), Flip(), [one_case(behind(PARIS))])
    again = Report.from_json(report.to_json())
    assert again.scores == report.scores and again.worst() == report.worst()
    (probe,) = [
        p["probe"] for p in json.loads(report.to_json())["rows"][0]["probes"]
        if p["probe"]["kind"] == "one_hop"
    ]  # fmt: skip
    assert Probe.from_dict(probe) == behind(PARIS)


def test_without_conditions_nothing_is_said_of_them():
    report = evaluate(LookupModel(), Flip(), [one_case(behind())])
    assert "executed" not in report.environment and not report.environment["notes"]
    assert set(behind().to_dict()).isdisjoint({"conditions", "language"})


def test_broken_conditions_and_probes_are_refused():
    with pytest.raises(EditError, match="condition"):
        Condition(" ", ("Rome",))
    with pytest.raises(EditError, match="condition"):
        Condition("S1 is in", ())
    with pytest.raises(EditError, match="no probe"):
        Probe.from_dict({"prompt": "S1 is in", "colour": "red"})
