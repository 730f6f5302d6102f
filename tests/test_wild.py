"""The WILD-plus protocol: how questions are put, where answers end, and what counts as right."""

from __future__ import annotations

import pytest

from corrigenda.edit import Case, Rewrite
from corrigenda.errors import InputError, JudgeError, UnknownNameError
from corrigenda.evaluate import evaluate
from corrigenda.judge import KEY, Judge, Question, Verdict
from corrigenda.models.text import TextModel
from corrigenda.wild import answer_in, scored, turn_ends, wild, worded, wording
from tests.lookup_model import Flip, LookupModel, case
from tests.models.tiny import model_of, tiny, tiny_tokenizer

CASES = [case(j) for j in range(4)]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


class StrictJudge:
    """Says A where the answer begins with the reference, keeps what it was asked."""

    def __init__(self, parsed: bool = True) -> None:
        self.asked: list[Question] = []
        self.parsed = parsed

    def __call__(self, questions):
        self.asked += questions
        return [
            Verdict(self.parsed and q.answer.startswith(q.reference), self.parsed, "")
            for q in questions
        ]

    def ready(self):
        """It always is."""

    def identity(self):
        return {"model": "strict", "served": "strict-1"}


class Chatty(LookupModel):
    """Goes on after its answer in a given way."""

    def __init__(self, tail: str) -> None:
        super().__init__()
        self.tail, self.budgets = tail, set()

    def generate(self, prompts, *, max_new_tokens=16, batch_size=64, until=None):
        self.budgets.add(max_new_tokens)
        texts = super().generate(prompts, batch_size=batch_size)
        return [text.replace(". And so on", self.tail) for text in texts]


def chat_model() -> TextModel:
    tokenizer = tiny_tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.chat_template = TEMPLATE
    return TextModel.of(tiny("llama")[0], tokenizer)


# -- questions --------------------------------------------------------------------------------


def test_three_forms_of_a_question():
    model = chat_model()
    assert wording(model, "Where is X?", "question") == "Where is X?"
    assert "Question: Where is X?\nAnswer:" in wording(model, "Where is X?", "instruction")
    with pytest.raises(UnknownNameError, match="chat"):
        wording(model, "Where is X?", "chats")  # type: ignore[arg-type]


def test_the_template_is_applied_once_with_one_bos():
    model = chat_model()
    text = wording(model, "Where is {}?", "chat")
    ids, bos = model.ids(text), model.tokenizer.bos_token_id
    assert ids[0] == bos
    assert ids.count(bos) == 1
    assert text == "[user] Where is {}?<|end|>\n[assistant]"


def test_a_template_without_a_tokenizer_that_adds_bos_keeps_its_own():
    model = chat_model()
    tokenizer = tiny_tokenizer(bos=False)
    tokenizer.chat_template = TEMPLATE
    other = TextModel.of(model.module, tokenizer)
    ids = other.ids(wording(other, "Where is X?", "chat"))
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_model_without_a_template_cannot_chat():
    with pytest.raises(InputError, match="no chat template"):
        wording(model_of("gpt2"), "Where is X?", "chat")


def test_generation_stops_at_the_end_of_a_turn_and_the_settings_come_back():
    model = chat_model()
    settings, end = model.module.generation_config, model.tokenizer.convert_tokens_to_ids("<|end|>")
    before = settings.eos_token_id
    with turn_ends(model, "chat"):
        assert end in settings.eos_token_id
        assert model.tokenizer.eos_token_id in settings.eos_token_id
    assert settings.eos_token_id == before
    with turn_ends(model, "question"):
        assert settings.eos_token_id == before


def test_every_probe_is_put_and_known_by_its_question():
    model = chat_model()
    (one,), originals = worded(model, [Case(Rewrite("{} is in", "S1", "Rome"))], "instruction")
    (probe,) = one.probes
    assert (probe.axis, probe.answers) == ("efficacy", ("Rome",))
    assert originals[probe.prompt] == "S1 is in"
    assert one.edit.text == "S1 is in"


# -- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (" St. Louis, in Missouri. It lies\nQuestion: next", "St. Louis, in Missouri. It lies"),
        ("\n\n Rome\n", "Rome"),
        ("J. K. Rowling", "J. K. Rowling"),
        ("", ""),
    ],
)
def test_an_answer_ends_at_a_line_break_and_never_at_a_full_stop(raw, answer):
    assert answer_in(raw) == answer


def test_a_judged_report():
    judge, model = StrictJudge(), Chatty(", Italy. It lies there.\nQuestion: next?")
    report = wild(model, Flip(), CASES, judge=judge)
    values = {name: score.value for name, score in report.scores.items()}
    for axis in ("efficacy", "generalization", "generalization_held_out", "portability"):
        assert values[f"gen.wild.{axis}"] == values[f"gen.wild.{axis}.contains"] == 1.0
        assert values[f"gen.wild.{axis}.em"] == values[f"gen.wild.{axis}.unparsable"] == 0.0
        assert report.unedited[f"gen.wild.{axis}"].value == 0.0
    assert values["gen.wild.efficacy.f1"] == pytest.approx(2 / 6)  # "rome italy it lies there"
    assert not any(name.startswith("gen.wild.locality") for name in values)
    assert values["gen.locality"] == 1.0
    assert model.budgets == {64}
    assert report.scores["gen.wild.efficacy"].low is not None
    told = report.environment["protocol"]
    assert (told["form"], told["judge"]["served"]) == ("question", "strict-1")
    assert {q.answer for q in judge.asked if q.reference == ("Rome",)} == {
        "Paris, Italy. It lies there.",
        "Rome, Italy. It lies there.",
    }
    raw = report.rows[0]["probes"][0]["after"]["text"]
    assert raw == " Rome, Italy. It lies there.\nQuestion: next?"
    assert type(report).from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("tail", "fault"),
    [
        (". Rome. Rome. Rome", "loops"),
        (". It is in Paris", "contradicts"),
    ],
)
def test_a_bad_tail_makes_a_right_answer_wrong(tail, fault):
    report = wild(Chatty(tail), Flip(), CASES, judge=StrictJudge())
    values = {name: score.value for name, score in report.scores.items()}
    assert values[f"gen.wild.efficacy.{fault}"] == 1.0
    assert values["gen.wild.efficacy"] == values["gen.wild.efficacy.contains"] == 0.0
    assert values["gen.efficacy"] == 1.0  # which looks at the first sentence only


def test_unparsable_replies_are_wrong_and_counted():
    report = wild(LookupModel(), Flip(), CASES, judge=StrictJudge(parsed=False))
    assert report.scores["gen.wild.efficacy"].value == 0.0
    assert report.scores["gen.wild.efficacy.unparsable"].value == 1.0


def test_a_missing_judge_is_an_error_before_anything_is_asked():
    model = LookupModel()
    with pytest.raises(JudgeError, match="--judge"):
        wild(model, Flip(), CASES)
    assert model.generated == []


def test_a_missing_key_is_an_error_before_anything_is_asked(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    model = LookupModel()
    with pytest.raises(JudgeError, match=KEY):
        wild(model, Flip(), CASES, judge=Judge("http://127.0.0.1:9/v1", "judge-1"))
    assert model.generated == []


def test_without_a_judge_no_score_takes_its_name():
    report = wild(LookupModel(), Flip(), CASES, unjudged=True)
    names = {name for name in report.scores if name.startswith("gen.wild.efficacy")}
    assert names == {
        f"gen.wild.efficacy.{name}" for name in ("contains", "em", "f1", "loops", "contradicts")
    }
    assert report.environment["protocol"]["judge"] is None


def test_a_report_can_be_judged_later_and_again():
    report = evaluate(LookupModel(), Flip(), CASES)
    first = scored(report, StrictJudge())
    assert first.scores["gen.wild.efficacy"].value == 1.0
    assert scored(first, StrictJudge()) == first
