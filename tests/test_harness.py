"""The live model under lm-evaluation-harness.

The first part speaks the harness's protocol without it: objects that have `args`, and nothing else
is read. The last part runs where the harness is installed and compares with its own model class.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from corrigenda.context import Prefix
from corrigenda.delta import Delta, Dense
from corrigenda.errors import InputError, ModelError
from corrigenda.harness import Answers, downstream, language_model, paired
from corrigenda.models.text import TextModel
from tests.models.tiny import CONTEXT, model_of

PAIRS = [
    ("The Louvre is located in", " Paris"),
    ("Madrid is the capital of ", "Spain"),
    ("Question: Where is Big Ben?\nAnswer:", " London"),
]


@dataclass
class Request:
    args: tuple[Any, ...]


def asked(*arguments: tuple) -> list[Request]:
    return [Request(one) for one in arguments]


def noise(model: TextModel, size: float = 0.5) -> Delta:
    name = model.site("down", 1).parameter
    weight = model.live.pristine(name)
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return Delta({name: Dense(size * change)}, base={name: model.live.pristine_hash(name)})


def nats(model: TextModel, ids: list[int], start: int) -> float:
    """Log-probability of the tokens from `start` on, from whole logits."""
    with torch.no_grad():
        rows = model.module(input_ids=torch.tensor([ids[:-1]])).logits[0].float().log_softmax(-1)
    return math.fsum(float(rows[j - 1, ids[j]]) for j in range(start, len(ids)))


@pytest.fixture(params=["gpt2", "llama"])
def model(request) -> TextModel:
    return model_of(request.param)


# -- log-likelihoods --------------------------------------------------------------------------


def test_log_likelihoods_are_those_of_every_other_score(model):
    found = Answers(model).loglikelihood(asked(*PAIRS))
    scores = model.score([(context, target.strip()) for context, target in PAIRS])
    assert [value for value, _ in found] == pytest.approx([s.total for s in scores], abs=1e-5)
    assert [greedy for _, greedy in found] == [bool(s.correct.all()) for s in scores]


def test_a_greedy_continuation_is_known_as_one(model):
    context = PAIRS[0][0]
    text = model.generate([context], max_new_tokens=2)[0]
    found = Answers(model).loglikelihood(asked((context, text), (context, " xyz")))
    ids = model.ids(context + text)
    if len(ids) == len(model.ids(context)) + 2:  # the text is cut into the same tokens again
        assert found[0][1]
    assert not found[1][1]


def test_the_deltas_that_are_live_are_asked(model):
    answers = Answers(model)
    before = answers.loglikelihood(asked(*PAIRS))
    with noise(model).applied(model):
        after = answers.loglikelihood(asked(*PAIRS))
        scores = model.score([(context, target.strip()) for context, target in PAIRS])
    assert [value for value, _ in after] == pytest.approx([s.total for s in scores], abs=1e-5)
    assert after != before
    assert answers.loglikelihood(asked(*PAIRS)) == before


def test_changes_of_the_prompt_act_on_contexts(model):
    told = Delta({"context": Prefix(("New fact: the Louvre is in Rome. ",))})
    (context, target) = PAIRS[0]
    with told.applied(model):
        found = Answers(model).loglikelihood(asked((context, target)))
    plain = Answers(model).loglikelihood(
        asked((f"New fact: the Louvre is in Rome. {context}", target))
    )
    assert found == plain


def test_an_empty_context_is_the_first_token(model):
    (found, _) = Answers(model).loglikelihood(asked(("", "Paris is in France")))[0]
    ids = model.tokenizer("Paris is in France", add_special_tokens=False)["input_ids"]
    assert found == pytest.approx(nats(model, [model.start_id, *ids], 1), abs=1e-4)


def test_a_long_context_is_cut_on_the_left(model):
    context, target = "London " * 300, " Paris"
    (found, _) = Answers(model).loglikelihood(asked((context.rstrip(), target)))[0]
    ids = model.ids(context.rstrip() + target)
    kept = ids[-(CONTEXT + 1) :]
    start = len(kept) - len(model.tokenizer(target, add_special_tokens=False)["input_ids"])
    assert found == pytest.approx(nats(model, kept, start), abs=1e-4)
    with pytest.raises(InputError, match="does not fit"):
        Answers(model).loglikelihood(asked(("in", " London" * 300)))


def test_a_continuation_needs_tokens(model):
    with pytest.raises(InputError, match="no tokens"):
        Answers(model).loglikelihood(asked(("in", "")))


def test_rolling_predicts_every_token_once(model):
    short = "Rome is the capital of Italy."
    ids = [
        model.start_id,
        *model.tokenizer(short, add_special_tokens=False)["input_ids"],
    ]
    (found,) = Answers(model).loglikelihood_rolling(asked((short,)))
    assert found == pytest.approx(nats(model, ids, 1), abs=1e-4)

    long = " ".join([short] * 40)
    ids = [model.start_id, *model.tokenizer(long, add_special_tokens=False)["input_ids"]]
    assert len(ids) > 2 * CONTEXT
    expected, done = nats(model, ids[: CONTEXT + 1], 1), CONTEXT + 1
    while done < len(ids):
        end = min(len(ids), done + CONTEXT)
        window = ids[end - 1 - CONTEXT : end]
        expected += nats(model, window, len(window) - (end - done))
        done = end
    both = Answers(model).loglikelihood_rolling(asked((long,), (short,)))
    assert both == pytest.approx([expected, found], abs=1e-3)


# -- generation -------------------------------------------------------------------------------


def test_generation_ends_at_the_first_stop(model):
    context = PAIRS[2][0]
    whole = model.generate([context], max_new_tokens=12)[0]
    stop, earlier = whole[5], whole[2]
    found = Answers(model).generate_until(
        asked(
            (context, {"until": [], "max_gen_toks": 12}),
            (context, {"until": [stop, earlier], "max_gen_toks": 12}),
            (context, {"until": stop, "max_gen_toks": 3, "do_sample": False}),
        )
    )
    assert found[0] == whole
    first = min(whole.index(stop), whole.index(earlier))
    assert found[1] == whole[:first]
    assert whole.startswith(found[2])


def test_a_context_leaves_room_for_the_answer(model):
    found = Answers(model).generate_until(
        asked(("London is in England. " * 60, {"until": ["\n"], "max_gen_toks": 8}))
    )
    assert len(found) == 1
    with pytest.raises(InputError, match="do not fit"):
        Answers(model).generate_until(asked(("London", {"until": [], "max_gen_toks": 4 * CONTEXT})))


def test_sampling_is_refused(model):
    with pytest.raises(InputError, match="greedily"):
        Answers(model).generate_until(asked(("a", {"until": [], "do_sample": True})))


def test_other_kinds_of_model_are_refused():
    with pytest.raises(ModelError, match="left to right"):
        Answers(model_of("t5"))


# -- paired differences -----------------------------------------------------------------------


def logged(values, metric="acc", filter="none") -> list[dict[str, Any]]:
    return [
        {"doc_id": j, "prompt_hash": j, "filter": filter, "metrics": [metric], metric: value}
        for j, value in enumerate(values)
    ]


def test_passes_and_failures_are_compared_by_mcnemar():
    before = [1.0] * 8 + [0.0] * 2 + [1.0] * 90
    after = [0.0] * 8 + [1.0] * 2 + [1.0] * 90
    (row,) = paired("boolq", logged(before), logged(after))
    assert (row.task, row.metric, row.n) == ("boolq", "acc", 100)
    assert (row.before, row.after) == (0.98, 0.92)
    assert row.difference.value == pytest.approx(-0.06)
    assert row.difference.low < -0.06 < row.difference.high
    assert row.p == pytest.approx(0.1094, abs=5e-5)


def test_perplexities_are_weighed_by_their_words():
    before = [(-10.0, 5), (-30.0, 10)]
    after = [(-20.0, 5), (-30.0, 10)]
    (row,) = paired("wikitext", logged(before, "word_ppl"), logged(after, "word_ppl"))
    assert (row.before, row.after) == (pytest.approx(40 / 15), pytest.approx(50 / 15))
    assert row.difference.value == pytest.approx(10 / 15)
    assert row.p is None


def test_each_way_of_reading_an_answer_is_a_score_of_its_own():
    before = [*logged([1.0, 1.0], filter="strict"), *logged([1.0, 1.0], filter="flexible")]
    after = [*logged([0.0, 1.0], filter="strict"), *logged([1.0, 1.0], filter="flexible")]
    rows = {row.metric: row.difference.value for row in paired("gsm8k", before, after)}
    assert rows == {"acc,strict": -0.5, "acc,flexible": 0.0}


def test_only_the_same_documents_are_compared_and_what_is_not_finite_is_said():
    with pytest.raises(InputError, match="same documents"):
        paired("boolq", logged([1.0]), logged([1.0, 0.0]))
    with pytest.raises(InputError, match="not finite"):
        paired("boolq", logged([0.5]), logged([math.nan]))
    assert paired("other", logged(["text"]), logged(["text"])) == []


# -- with the harness itself ------------------------------------------------------------------


def test_without_the_harness_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.api.model", None)
    with pytest.raises(ModelError, match=r"corrigenda\[harness\]"):
        language_model(model_of("gpt2"))


def test_the_harness_own_model_gives_the_same(model):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    def theirs(bos: bool) -> Any:
        return huggingface.HFLM(
            pretrained=model.module, tokenizer=model.tokenizer, batch_size=1, add_bos_token=bos
        )

    bos = model.ids("a")[0] == model.tokenizer.bos_token_id
    ours = language_model(model)

    def requests(kind: str, *arguments: tuple) -> list[Any]:
        return [Instance(kind, {}, one, j) for j, one in enumerate(arguments)]  # type: ignore

    pairs = requests("loglikelihood", *PAIRS, ("", "Paris is in France"))
    a, b = ours.loglikelihood(pairs), theirs(bos).loglikelihood(pairs, disable_tqdm=True)
    assert [x for x, _ in a] == pytest.approx([x for x, _ in b], abs=1e-4)
    assert [bool(x) for _, x in a] == [bool(x) for _, x in b]
    texts = requests(
        "loglikelihood_rolling", ("Rome is the capital of Italy. " * 40,), ("Big Ben",)
    )
    # With `add_bos_token` theirs puts a second BOS in front of a document.
    expected = theirs(False).loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts) == pytest.approx(expected, rel=1e-5)
    until = requests("generate_until", (PAIRS[2][0], {"until": ["\n"], "max_gen_toks": 8}))
    assert ours.generate_until(until) == theirs(bos).generate_until(until, disable_tqdm=True)


def test_a_task_is_run_on_the_live_model(tmp_path):
    pytest.importorskip("lm_eval")
    pytest.importorskip("datasets")
    from lm_eval.api.task import ConfigurableTask

    rows = [
        {"question": f"{name} is located in", "choices": [" Paris", " London"], "gold": j % 2}
        for j, name in enumerate(["The Louvre", "Big Ben", "The Eiffel Tower", "London Bridge"])
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def task() -> Any:
        return ConfigurableTask(
            config={
                "task": "places",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(path)}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{question}}",
                "doc_to_choice": "{{choices}}",
                "doc_to_target": "gold",
                "target_delimiter": "",
                "metric_list": [{"metric": "acc", "aggregation": "mean"}],
            }
        )

    model = model_of("gpt2")
    (row,) = downstream(model, [noise(model, 2.0)], [task()], shots=0)

    def accuracy() -> float:
        hits = [
            max((0, 1), key=lambda k: model.score([(r["question"], r["choices"][k])])[0].total)
            == r["gold"]
            for r in rows
        ]
        return sum(hits) / len(hits)

    assert (row.task, row.metric, row.n) == ("places", "acc", 4)
    assert row.before == accuracy()
    with noise(model, 2.0).applied(model):
        assert row.after == accuracy()
    assert row.difference.value == row.after - row.before
    assert not model.live.deltas
