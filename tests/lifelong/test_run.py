"""The loop on a model whose answers can be worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch

from corrigenda.delta import Delta, LowRank
from corrigenda.errors import DataError, InputError, TamperedError, UnknownNameError
from corrigenda.lifelong import Alarm, Course, Plan, Summary, lifelong
from corrigenda.lifelong.states import States
from tests.lookup_model import (
    WEIGHT,
    Breaking,
    Flip,
    Forgetful,
    LookupModel,
    Refusing,
    Stacking,
    case,
)

TEXT = "near S14 is Paris\n\nnear S15 is Paris"
CASES = [case(j) for j in range(12)]
APART = [case(j) for j in (12, 13)]
CLOCKS = ("seconds", "processor_seconds", "precompute_seconds", "resident", "cuda_allocated")


@pytest.fixture
def model() -> LookupModel:
    return LookupModel(16)


def run(model, editor, directory, *, cases=CASES, alarm=None, plan=None, **options) -> Course:
    plan = plan or {}
    plan = Plan(len(cases), **{"watch": 3, "checkpoints": (4,), **plan})
    return lifelong(
        model, editor, cases, plan, directory,
        untouched=APART, text=TEXT, alarm=alarm or Alarm(2.0, 0.2, 3), **options,
    )  # fmt: skip


def stable(course: Course) -> dict:
    """A course without clocks and memory."""
    found = json.loads(json.dumps(asdict(course)))
    del found["environment"]["created"], found["environment"]["command"]
    for row in found["steps"]:
        for name in CLOCKS:
            del row[name]
    return found


def weights(model: LookupModel) -> torch.Tensor:
    return model.module.head.weight.detach().clone()


def last_state(directory) -> Delta:
    (whole,) = directory.glob("states-*/whole-*")
    return Delta.load(whole)


def test_a_sequence_that_holds(model, tmp_path):
    before = weights(model)
    course = run(model, Flip(), tmp_path)
    assert torch.equal(weights(model), before) and not model.live.deltas
    assert course.edits == 12 and course.end["collapse"] == course.collapse == ""
    figures = course.figures
    assert figures["immediate"] == figures["retained"] == figures["paraphrase"] == 1.0
    assert figures["forgetting"] == 0.0
    assert figures["locality"] == 1.0
    assert figures["capacity"] == 12
    assert figures["perplexity"] == pytest.approx(1.0)
    assert [p["edits"] for p in course.retention] == [4, 12]
    assert [p["edits"] for p in course.health] == [3, 4, 6, 9, 12]
    whole = last_state(tmp_path)
    assert len(whole.provenance.edits) == 12


def test_retention_is_the_matrix_worked_out_by_hand(model, tmp_path):
    """Each edit wipes out those before it: R[i, t] = 1 only for i = t."""
    course = run(model, Forgetful(), tmp_path, on_collapse="go-on")
    figures = course.figures
    assert figures["immediate"] == 1.0
    assert figures["retained"] == pytest.approx(1 / 12)
    assert figures["oldest"] == 0.0
    assert figures["forgetting"] == pytest.approx(1.0)  # of the eleven that are not the newest
    assert course.histories[0] == {1: 1.0, 4: 0.0, 12: 0.0}
    assert course.histories[3] == {4: 1.0, 12: 0.0}
    assert "still answered" in course.collapse


def test_several_edits_per_step(model, tmp_path):
    course = run(model, Forgetful(), tmp_path, plan={"step": 5}, on_collapse="go-on")
    assert [row["edits"] for row in course.steps] == [5, 10, 12]
    assert course.figures["retained"] == pytest.approx(2 / 12)


def test_an_edit_that_raises_is_a_failed_edit(model, tmp_path):
    course = run(model, Refusing(subjects=("S2", "S7")), tmp_path)
    assert course.failed == 2
    assert course.figures["retained"] == pytest.approx(10 / 12)
    assert course.steps[2]["error"] == "UnstableEditError: refused"
    assert len(last_state(tmp_path).provenance.edits) == 10


def test_what_earlier_edits_keep_is_given_to_later_ones(model, tmp_path):
    run(model, Stacking(), tmp_path)
    assert last_state(tmp_path).state["past/keys"].shape[1] == 12


# -- collapse ---------------------------------------------------------------------------------

BROKEN = Breaking(subjects=("S4",))


def test_a_collapse_stops_the_run_and_says_where(model, tmp_path):
    course = run(model, BROKEN, tmp_path)
    assert course.edits == 6  # health was looked at after the sixth
    assert "after 6 edits the perplexity is" in course.end["collapse"] == course.collapse
    assert course.retention[-1] == {
        "edits": 6, "retained": 0.0, "oldest": 0.0, "newest": 0.0, "paraphrase": 0.0,
        "locality": 0.0,
    }  # fmt: skip
    q = torch.tensor([5.5, 0.0, 0.0, 0.0]).log_softmax(-1)[0]
    p = torch.tensor([5.5, 0.0, 0.0, 55.0]).log_softmax(-1)[0]
    assert course.figures["perplexity"] == pytest.approx(math.exp(float(q - p)), rel=1e-4)


def test_rollback_takes_back_the_step_that_did_it_exactly(model, tmp_path):
    """What is left is bit for bit what the other edits alone would have given."""
    course = run(model, BROKEN, tmp_path / "with", on_collapse="rollback")
    assert [row["taken_back"] for row in course.rollbacks] == [5]
    assert course.edits == 12 and course.end["collapse"] == ""
    assert course.figures["retained"] == pytest.approx(11 / 12)
    assert course.figures["perplexity"] == pytest.approx(1.0)
    assert [row["edits"] for row in course.steps] == [n for n in range(1, 13) if n != 5]
    others = [c for c in CASES if c.id != "case-4"]
    run(model, BROKEN, tmp_path / "without", cases=others)
    kept, alone = last_state(tmp_path / "with"), last_state(tmp_path / "without")
    assert kept.id == alone.id


def test_several_steps_are_taken_back_one_by_one(model, tmp_path):
    twice = Breaking(subjects=("S4", "S5", "S10"))
    course = run(model, twice, tmp_path, on_collapse="rollback")
    assert [row["taken_back"] for row in course.rollbacks] == [5, 6, 11]
    assert course.figures["retained"] == pytest.approx(9 / 12)
    again = Course.read(tmp_path / "run.jsonl")
    assert stable(again) == stable(course)


def test_after_so_many_rollbacks_the_run_stops(model, tmp_path):
    always = Breaking(subjects=tuple(f"S{j}" for j in range(4, 12)))
    course = run(model, always, tmp_path, on_collapse="rollback", rollbacks=2)
    assert len(course.rollbacks) == 2
    assert "2 steps were taken back" in course.end["collapse"]


def test_go_on_records_the_alarm(model, tmp_path):
    course = run(model, BROKEN, tmp_path, on_collapse="go-on")
    assert course.edits == 12
    assert "after 6 edits" in course.collapse and course.end["collapse"] == ""


# -- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("on_collapse", ["stop", "rollback"])
@pytest.mark.parametrize("subject", ["S0", "S2", "S3", "S5", "S8", "S11"])
def test_an_interrupted_run_goes_on_to_the_same_result(model, tmp_path, subject, on_collapse):
    before = weights(model)

    class Interrupted(Breaking):
        def __call__(self, model, edits, onto=None):
            if edits[0].subject == subject:
                raise KeyboardInterrupt
            return super().__call__(model, edits, onto)

    broken = ("S4",) if on_collapse == "rollback" else ()
    with pytest.raises(KeyboardInterrupt):
        run(model, Interrupted(subjects=broken), tmp_path / "a", on_collapse=on_collapse)
    assert torch.equal(weights(model), before) and not model.live.deltas
    resumed = run(model, Breaking(subjects=broken), tmp_path / "a", on_collapse=on_collapse)
    whole = run(model, Breaking(subjects=broken), tmp_path / "b", on_collapse=on_collapse)
    assert stable(resumed) == stable(whole)
    assert last_state(tmp_path / "a").id == last_state(tmp_path / "b").id


def test_a_finished_run_is_read_and_not_repeated(model, tmp_path):
    first = run(model, Flip(), tmp_path)
    size = (tmp_path / "run.jsonl").stat().st_size
    model.generated.clear()
    assert run(model, Flip(), tmp_path) == first
    assert model.generated == [] and (tmp_path / "run.jsonl").stat().st_size == size
    other = run(model, Flip(strength=9.0), tmp_path)
    assert model.generated and other.environment["editor"]["arguments"] == {"strength": 9.0}
    assert len(list(tmp_path.glob("states-*"))) == 1


def test_states_on_disk_are_few_and_damage_is_seen(model, tmp_path):
    counts = []

    def count(stage, done, total):
        counts.append(len(list(tmp_path.glob("states-*/*"))))

    class Last(Flip):
        def __call__(self, model, edits, onto=None):
            if edits[0].subject == "S11":
                raise KeyboardInterrupt
            return super().__call__(model, edits, onto)

    with pytest.raises(KeyboardInterrupt):
        run(model, Last(), tmp_path, progress=count)
    assert max(counts) <= 1 + 3  # the last whole, and the steps since health was looked at
    (step,) = tmp_path.glob("states-*/step-000011/changes.safetensors")
    data = bytearray(step.read_bytes())
    data[-1] ^= 1
    step.write_bytes(data)
    with pytest.raises(TamperedError):
        run(model, Flip(), tmp_path)


def test_the_sum_from_disk_is_the_sum_in_memory(tmp_path):
    states, whole = States(tmp_path), None
    for number in range(1, 8):
        change = LowRank(torch.randn(4, 1), torch.randn(1, 32))
        delta = Delta({WEIGHT: change}, state={"past/keys": torch.randn(32, 1)})
        whole = delta if whole is None else whole + delta
        states.keep_step(number, delta)
        if number == 4:
            states.keep_whole(number, whole)
    assert {p.name for p in tmp_path.iterdir()} == {
        "whole-000004",
        *(f"step-00000{n}" for n in (5, 6, 7)),
    }
    found = states.restored(7, range(1, 8))
    assert found.id == whole.id
    assert torch.equal(found.state["past/keys"], whole.state["past/keys"])
    assert States(tmp_path / "none").restored(0, ()) is None


# -- bad requests, summaries ------------------------------------------------------------------


def test_bad_requests(model, tmp_path):
    with pytest.raises(InputError, match="for 3 edits"):
        lifelong(model, Flip(), CASES, Plan(3), tmp_path, text=TEXT)
    with pytest.raises(UnknownNameError, match="rollback"):
        run(model, Flip(), tmp_path, on_collapse="rolback")

    class OneByOne(Flip):
        batches = False

    with pytest.raises(InputError, match="one fact at a time"):
        run(model, OneByOne(), tmp_path, plan={"step": 2})
    with pytest.raises(DataError, match="no file"):
        Course.read(tmp_path / "run.jsonl")
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="no lifelong run"):
        Course.read(tmp_path / "empty")


def test_orders_are_summed_up_by_mean_and_range(model, tmp_path):
    courses = [
        run(model, Refusing(subjects=("S1",)), tmp_path / f"{n}", plan={"order": n})
        for n in range(3)
    ]
    summary = Summary.of(courses, "corrigenda lifelong", {"rome.0": "too little memory"})
    one = summary.editors["refusing"]
    assert [r["order"] for r in one["runs"]] == [0, 1, 2]
    assert one["figures"]["retained"]["mean"] == pytest.approx(11 / 12)
    assert one["figures"]["retained"]["runs"] == 3
    middle = next(p for p in one["curves"]["retention"] if p["edits"] == 4)
    values = [c.retention[0]["retained"] for c in courses]
    assert middle["mean"]["retained"] == pytest.approx(sum(values) / 3)
    assert (middle["low"]["retained"], middle["high"]["retained"]) == (min(values), max(values))
    assert Summary.from_json(summary.to_json()) == summary
    text = summary.to_markdown()
    assert "| `refusing` | 12 |" in text and "91.7 [91.7, 91.7]" in text
    assert "3 edits raised" not in text and "1 edits raised an error" in text
    assert "`rome.0` was not made: too little memory" in text
    with pytest.raises(DataError, match=r"report\.json"):
        Summary.from_json("{}")
    with pytest.raises(InputError, match="no run"):
        Summary.of([])


def test_curves_are_pictures(model, tmp_path):
    from corrigenda.lifelong.curves import draw

    courses = [run(model, Flip(), tmp_path / f"{n}", plan={"order": n}) for n in (0, 1)]
    files = draw(Summary.of(courses), tmp_path)
    assert {f.name for f in files} == {
        "retained.png", "paraphrase.png", "locality.png", "health.png", "time.png",
    }  # fmt: skip
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in files)
