from __future__ import annotations

import json
import warnings

import pytest
import torch

from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.errors import DataError, InputError, UnknownNameError
from corrigenda.evaluate import evaluate, known_only, partial_report
from tests.lookup_model import (
    WEIGHT,
    Flip,
    Forgetful,
    LookupModel,
    Refusing,
    Weak,
    case,
)


@pytest.fixture
def model() -> LookupModel:
    return LookupModel()


def weights(model: LookupModel) -> torch.Tensor:
    return model.module.head.weight.detach().clone()


def stable(report) -> dict:
    """A report without what differs from run to run: clocks and memory."""
    data = json.loads(report.to_json())
    for row in data["rows"]:
        del row["cost"]
    del data["cost"], data["environment"]["created"]
    return data


CASES = [case(j) for j in range(6)]


# -- single -----------------------------------------------------------------------------------


def test_single_edits_are_measured_and_undone(model):
    before = weights(model)
    report = evaluate(model, Flip(), CASES)
    assert torch.equal(weights(model), before)
    assert not model.live.deltas
    values = {name: score.value for name, score in report.headline.items()}
    assert values == {
        "gen.efficacy": 1.0,
        "gen.generalization": 1.0,
        "gen.generalization_held_out": 1.0,
        "gen.locality": 1.0,
        "gen.portability": 1.0,
    }
    assert report.unedited["gen.efficacy"].value == 0.0
    assert report.unedited["gen.locality"].value == 1.0
    assert (report.scores["gen.efficacy"].method, report.scores["gen.efficacy"].n_records) == (
        "wilson",
        6,
    )


def test_each_case_is_alone_on_the_model(model):
    """Six edits with a little spill each would flip the neighbours together."""
    crowd = [case(0, "Rome") for _ in range(8)]
    single = evaluate(model, Flip(strength=8.0), crowd)
    batch = evaluate(model, Flip(strength=8.0), crowd, mode="batch")
    assert single.scores["gen.locality"].value == 1.0
    assert batch.scores["gen.locality"].value == 0.0


def test_teacher_forced_columns_and_divergence(model):
    report = evaluate(model, Flip(), CASES)
    scores = {name: score.value for name, score in report.scores.items()}
    for name in ("tf.ES", "tf.PS", "tf.NS", "tf.S", "tf.efficacy", "tf.efficacy.ratio"):
        assert scores[name] == 1.0, name
    # Named in front of the prompt, the edit bleeds into its neighbours.
    assert scores["tf.NS+"] == scores["gen.locality+"] == 0.0
    p = torch.tensor([5.0, 10.0, 0.0, 0.0]).softmax(-1)
    assert scores["tf.EM"] == pytest.approx(float(p[1] - p[0]), abs=1e-6)
    old = torch.tensor([5.5, 0.0, 0.0, 0.0]).log_softmax(-1)
    new = torch.tensor([5.5, 1.0, 0.0, 0.0]).log_softmax(-1)
    expected = float((old.exp() * (old - new)).sum())
    assert scores["tf.KL.reference_edited"] == pytest.approx(expected, abs=1e-6)
    assert scores["tf.KL.edited_reference"] != pytest.approx(expected, abs=1e-6)
    assert report.unedited["tf.ES"].value == 0.0
    assert report.unedited["tf.NS"].value == 1.0
    assert "tf.KL.reference_edited" not in report.unedited
    assert scores["gen.portability:alias"] == scores["gen.portability.axes"] == 1.0


def test_every_prompt_is_asked_once_before_and_once_after(model, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path))
    first = evaluate(model, Flip(), CASES)
    prompts = {probe.prompt for one in CASES for probe in one.probes}
    assert sorted(model.generated) == sorted([*prompts, *prompts])
    # What the unedited model said is kept for the next editor.
    model.generated.clear()
    again = evaluate(model, Flip(), CASES)
    assert sorted(model.generated) == sorted(prompts)
    assert again.scores == first.scores and again.unedited == first.unedited


def test_the_unedited_model_has_its_own_row(model):
    report = evaluate(model, None, CASES)
    assert report.name == "unedited"
    assert report.scores["gen.efficacy"].value == 0.0
    assert report.scores["gen.locality"].value == 1.0
    assert report.cost == {}
    assert len(model.generated) == len(set(model.generated))


def test_a_case_without_probes_is_judged_by_its_own_prompt(model):
    report = evaluate(model, Flip(), [Case(Rewrite("{} is in", "S1", "Rome"))])
    assert list(report.headline) == ["gen.efficacy"]
    assert report.scores["gen.efficacy"].value == 1.0


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_an_edit_that_raises_is_a_row_and_a_failure(model, mode):
    before = weights(model)
    report = evaluate(model, Refusing(subjects=("S1", "S4")), CASES, mode=mode)
    assert torch.equal(weights(model), before)
    assert report.failures == {"raised": 2, "did_not_take": 0}
    assert len(report.rows) == 6
    assert report.rows[1]["error"] == "UnstableEditError: refused"
    assert report.scores["gen.efficacy"].value == pytest.approx(4 / 6)
    assert report.scores["gen.efficacy"].n_records == 6


def test_a_batch_that_raises_fails_as_a_whole(model):
    report = evaluate(model, Refusing(subjects=("S1",)), CASES, mode="batch")
    assert report.failures["raised"] == 6
    assert report.scores["gen.efficacy"].value == 0.0


def test_an_edit_that_did_not_take_is_measured_as_it_is(model):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        report = evaluate(model, Weak(), CASES[:2])
    assert report.failures == {"raised": 0, "did_not_take": 2}
    assert report.scores["gen.efficacy"].value == 0.0
    assert report.scores["tf.KL.reference_edited"].value > 0
    assert report.rows[0]["warnings"] == ["S0 did not take"]
    assert {str(w.message) for w in shown} == {"something else"}


def test_an_edit_that_does_not_fit_the_weights_is_a_failure(model):
    class Foreign(Flip):
        def __call__(self, model, edits, onto=None):
            delta = super().__call__(model, edits, onto)
            return type(delta)(delta.changes, base={WEIGHT: "0" * 64})

    before = weights(model)
    report = evaluate(model, Foreign(), CASES[:2])
    assert torch.equal(weights(model), before)
    assert report.failures["raised"] == 2
    assert report.rows[0]["error"].startswith("WrongBaseError")


def test_the_model_is_restored_when_measuring_breaks(model):
    class Breaks(LookupModel):
        def next_logprobs(self, prompts, *, batch_size=64):
            if self.live.deltas:
                raise RuntimeError("out of memory")
            return super().next_logprobs(prompts)

    broken = Breaks()
    before = weights(broken)
    for mode in ("single", "batch", "sequential"):
        with pytest.raises(RuntimeError, match="out of memory"):
            evaluate(broken, Flip(), CASES, mode=mode)
        assert torch.equal(weights(broken), before)
        assert not broken.live.deltas


# -- sequences --------------------------------------------------------------------------------


def test_a_sequence_that_holds(model):
    report = evaluate(model, Flip(), CASES, mode="sequential")
    assert report.scores["gen.retained"].value == report.scores["gen.immediate"].value == 1.0
    assert report.scores["gen.forgetting"].value == 0.0
    assert [point["edits"] for point in report.retention] == [1, 2, 3, 6]
    assert report.capacity == 6
    assert not model.live.deltas


def test_retention_is_measured_on_the_final_model(model):
    report = evaluate(model, Forgetful(), CASES, mode="sequential", checkpoints=[2, 4])
    scores = {name: score.value for name, score in report.scores.items()}
    assert scores["gen.immediate"] == 1.0
    assert scores["gen.retained"] == scores["gen.efficacy"] == pytest.approx(1 / 6)
    assert scores["gen.forgetting"] == 1.0
    assert scores["gen.retained:oldest"] == 0.0
    curve = {point["edits"]: point["retained"].value for point in report.retention}
    assert curve == {2: 0.5, 4: 0.25, 6: pytest.approx(1 / 6)}
    assert report.capacity == 0


def test_steps_take_several_edits_at_a_time(model):
    report = evaluate(model, Forgetful(), CASES, mode="sequential", step=2, checkpoints=[1, 3])
    assert [point["edits"] for point in report.retention] == [2, 4, 6]
    assert report.scores["gen.immediate"].value == 1.0
    assert report.scores["gen.retained"].value == pytest.approx(2 / 6)


def test_batch_edits_at_once(model):
    report = evaluate(model, Flip(), CASES, mode="batch")
    assert report.scores["gen.efficacy"].value == 1.0
    assert "gen.retained" not in report.scores
    assert report.retention == ()


def test_edits_that_contradict_an_earlier_one_are_left_out_and_told(model):
    cases = [case(0), case(1), case(0, "Oslo")]
    for mode in ("batch", "sequential"):
        report = evaluate(model, Flip(), cases, mode=mode)
        assert [row["id"] for row in report.rows] == ["case-0", "case-1"]
        assert any("1 cases that contradict" in note for note in report.environment["notes"])
    assert len(evaluate(model, Flip(), cases).rows) == 3


def test_the_seed_orders_a_sequence(model):
    order = [[row["id"] for row in evaluate(model, Flip(), CASES, mode="sequential", seed=s).rows]
             for s in (0, 1, 1)]  # fmt: skip
    assert order[0] == [one.id for one in CASES]
    assert order[1] == order[2] != order[0]
    assert sorted(order[1]) == sorted(order[0])


# -- cost and record --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "batch", "sequential"])
def test_time_is_divided_among_the_edits_of_a_call(model, mode):
    cost = evaluate(model, Flip(), CASES, mode=mode).cost
    assert cost["seconds_per_edit"] == pytest.approx(0.5)
    assert cost["edits_per_second"] == pytest.approx(2.0)
    assert cost["precompute_seconds"] == pytest.approx(2.0 if mode == "batch" else 12.0)
    assert cost["bytes_per_edit"] == 4 * (4 + 16)
    assert cost["edits"] == 6


def test_the_environment_says_how_it_was_made(model):
    env = evaluate(model, Flip(strength=7), CASES, seed=3, command="corrigenda eval").environment
    assert env["editor"] == {"name": "flip", "arguments": {"strength": 7}}
    assert env["model"]["weights"] == model.weights_hash()
    assert env["data"]["sources"] == ["lookup"]
    assert (env["seed"], env["command"], env["mode"]) == (3, "corrigenda eval", "single")
    assert "torch" in env["versions"] and "python" in env["versions"]


def test_progress_reaches_the_end(model):
    told = []
    evaluate(model, Flip(), CASES, mode="sequential", progress=lambda *now: told.append(now))
    assert ("edits", 6, 6) in told
    assert told[-1] == ("final model", 6, 6)


# -- which cases ------------------------------------------------------------------------------


def test_known_only_keeps_what_the_model_answers(model):
    unknown = Case(Rewrite("{} is in", "S2", "Rome", "Oslo"), id="unknown")
    untold = Case(Rewrite("{} is in", "S3", "Rome"), id="untold")
    kept = known_only(model, [case(0), unknown, untold, case(1)])
    assert [one.id for one in kept] == ["case-0", "case-1"]
    assert len(known_only(model, CASES, limit=2)) == 2
    report = evaluate(model, Flip(), [case(0), unknown], known_only=True)
    assert len(report.rows) == 1
    assert any("1 of 2 cases" in note for note in report.environment["notes"])
    with pytest.raises(InputError, match="target_true"):
        known_only(model, [untold])
    with pytest.raises(InputError, match="knows the true answer of none"):
        evaluate(model, Flip(), [unknown], known_only=True)


def test_bad_requests(model):
    with pytest.raises(InputError, match="no case"):
        evaluate(model, Flip(), [])
    with pytest.raises(UnknownNameError, match="batch"):
        evaluate(model, Flip(), CASES, mode="batched")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        evaluate(model, Flip(), CASES, mode="sequential", step=0)
    with pytest.raises(InputError, match="from 1 on"):
        evaluate(model, Flip(), CASES, mode="sequential", checkpoints=[0])

    class OneByOne(Flip):
        batches = False

    with pytest.raises(InputError, match="no batch mode"):
        evaluate(model, OneByOne(), CASES, mode="batch")


# -- interruption -----------------------------------------------------------------------------


def interrupted(editor_subject: str) -> Refusing:
    return Refusing(subjects=(editor_subject,), error=KeyboardInterrupt)


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_an_interrupted_run_is_restored_and_resumes_to_the_same_result(model, tmp_path, mode):
    path = tmp_path / "run.jsonl"
    before = weights(model)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, interrupted("S4"), CASES, mode=mode, resume=path)
    assert torch.equal(weights(model), before)
    assert not model.live.deltas
    if mode == "single":
        part = partial_report(path)
        assert [row["id"] for row in part.rows] == [f"case-{j}" for j in range(4)]
        assert part.scores["gen.efficacy"].value == 1.0
    with path.open("ab") as file:
        file.write(b'{"key": "abc", "ki')  # a line that was being written
    resumed = evaluate(model, Refusing(), CASES, mode=mode, resume=path)
    whole = evaluate(model, Refusing(), CASES, mode=mode)
    assert stable(resumed) == stable(whole)
    assert partial_report(path).scores == whole.scores


@pytest.mark.parametrize("mode", ["single", "batch", "sequential"])
def test_a_finished_run_is_read_and_not_repeated(model, tmp_path, mode):
    path = tmp_path / "run.jsonl"
    first = evaluate(model, Flip(), CASES, mode=mode, resume=path)
    size = path.stat().st_size
    model.generated.clear()
    again = evaluate(model, Flip(), CASES, mode=mode, resume=path)
    assert again.scores == first.scores
    assert again.rows == first.rows
    assert model.generated == []
    assert path.stat().st_size == size


def test_what_a_result_depends_on_is_part_of_its_name(model, tmp_path):
    path = tmp_path / "run.jsonl"

    def asked(editor, cases=CASES, on=model, **options):
        on.generated.clear()
        evaluate(on, editor, cases, resume=path, **options)
        return len(on.generated)

    assert asked(Flip()) > 0
    assert asked(Flip()) == 0
    assert asked(Flip(strength=9.0)) > 0
    assert asked(Flip(), max_new_tokens=8) > 0
    assert asked(Flip(), mode="batch") > 0
    other = LookupModel()
    with torch.no_grad():
        other.module.head.weight[1] = 1.0
    assert asked(Flip(), on=other) > 0
    more = [Case(CASES[0].edit, (*CASES[0].probes, Probe("near S5 is", (), "locality", "x")))]
    assert asked(Flip(), more) > 0
    assert asked(Flip()) == 0


def test_a_resume_file_of_another_kind_is_left_alone(model, tmp_path):
    for text in ("my notes, without an end of line", '{"prompt": "x"}\n', "[1]\n"):
        path = tmp_path / "notes.txt"
        path.write_text(text)
        with pytest.raises(DataError, match="line 1"):
            evaluate(model, Flip(), CASES, resume=path)
        assert path.read_text() == text
    with pytest.raises(DataError, match="no file"):
        partial_report(tmp_path / "none.jsonl")
