"""WILD-plus: answers as a user gets them, judged (Yang et al. 2025, 2502.11177, and stricter).

    prompt    the question alone, an instruction around it, or the model's own chat template
    stop      EOS or the end of the turn; never a full stop, which would cut "St. Louis"
    budget    64 new tokens, greedy; the raw text is kept
    answer    the text up to the first line break

Of every probe that has answers (efficacy, generalization, portability):

    gen.wild.<axis>             the judge says that it is right, and its tail is clean
    gen.wild.<axis>.contains    it names the answer in whole words, and its tail is clean
    gen.wild.<axis>.em, .f1     equal to the answer; overlap of words with it
    gen.wild.<axis>.loops       it ends in the same phrase again and again
    gen.wild.<axis>.contradicts it names the old object too, without setting it aside
    gen.wild.<axis>.unparsable  the judge's reply could not be read; it counts as wrong

A tail is clean where it neither loops nor contradicts. Without a judge there is no
`gen.wild.<axis>`: nothing else ever takes its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from .edit import Case, Probe
from .errors import JudgeError, UnknownNameError
from .evaluate import evaluate, with_rewrite_probe
from .judge import Judge, Question, Verdict
from .metrics.aggregate import aggregate
from .metrics.tails import contradicts, loops
from .metrics.text import contains, em, f1
from .report import Report

if TYPE_CHECKING:
    from .models.text import TextModel

__all__ = [
    "NEW_TOKENS",
    "Form",
    "answer_in",
    "scored",
    "turn_ends",
    "wild",
    "worded",
    "wording",
]

Form = Literal["question", "instruction", "chat"]
"""How a question is put: alone, in an instruction, in the model's chat template."""

NEW_TOKENS = 64

INSTRUCTION = (
    "Answer the question, or complete the sentence, in a few words.\n\nQuestion: {}\nAnswer:"
)


def wild(
    model: TextModel,
    editor: Any,
    cases: Sequence[Case],
    *,
    form: Form = "question",
    judge: Judge | None = None,
    unjudged: bool = False,
    max_new_tokens: int = NEW_TOKENS,
    **options: Any,
) -> Report:
    """Evaluate an editor by the protocol. The report has all scores of `evaluate` under these
    prompts and this budget, and those above.

    judge     says what is right. Without one this is an error, unless `unjudged` says that the
              scores by text are what is wanted.
    options   of `evaluate`.

    Raises `JudgeError` before anything is run if the judge is missing.
    """
    if judge is None and not unjudged:
        raise JudgeError(
            "This protocol is judged by a model, and none was named: give its endpoint and name "
            "(--judge URL --judge-model NAME), or ask for the scores by text alone (--unjudged)."
        )
    if judge is not None:
        judge.ready()
    asked, originals = worded(model, cases, form)
    with turn_ends(model, form):
        report = evaluate(model, editor, asked, max_new_tokens=max_new_tokens, **options)
    report.environment["protocol"] = {
        "name": "wild",
        "form": form,
        "answer": "up to the first line break",
        "judge": judge.identity() if judge else None,
    }
    return scored(report, judge, originals)


# -- questions --------------------------------------------------------------------------------


def wording(model: TextModel, question: str, form: Form) -> str:
    """The text that the model is given for a question.

    The chat template is applied once, with one BOS. Raises `UnknownNameError` for another form,
    `InputError` for a model without a template.
    """
    if form not in get_args(Form):
        raise UnknownNameError("form of a question", form, get_args(Form))
    if form == "question":
        return question
    if form == "instruction":
        return INSTRUCTION.replace("{}", question)
    return model.chat([{"role": "user", "content": question}])


def worded(
    model: TextModel, cases: Sequence[Case], form: Form
) -> tuple[list[Case], dict[str, str]]:
    """The cases with every probe put in this form, and the question behind each prompt."""
    originals: dict[str, str] = {}

    def put(probe: Probe) -> Probe:
        prompt = wording(model, probe.prompt, form)
        originals[prompt] = probe.prompt
        return replace(probe, prompt=prompt)

    found = []
    for case in cases:
        probes = with_rewrite_probe(case).probes
        found.append(replace(case, probes=tuple(put(probe) for probe in probes)))
    return found, originals


@contextmanager
def turn_ends(model: Any, form: Form) -> Iterator[None]:
    """Inside the block, generation stops at the token that ends a turn, too.

    Some models name only their EOS in the generation settings, and would go on with the user's
    next question.
    """
    end = _turn_end(model) if form == "chat" else None
    if end is None:
        yield
        return
    settings = model.module.generation_config
    before = settings.eos_token_id
    known = [] if before is None else [before] if isinstance(before, int) else list(before)
    eos = model.tokenizer.eos_token_id
    settings.eos_token_id = list(dict.fromkeys([*known, *([eos] if eos is not None else []), end]))
    try:
        yield
    finally:
        settings.eos_token_id = before


def _turn_end(model: TextModel) -> int | None:
    """The special token that the template puts after an assistant's turn, if it puts one."""
    mark = "corrigenda"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    tail = model.chat(turns, opened=False).rpartition(mark)[2]
    ids = model.tokenizer(tail, add_special_tokens=False)["input_ids"]
    special = set(model.tokenizer.all_special_ids) | set(model.tokenizer.added_tokens_decoder)
    return next((token for token in ids if token in special), None)


# -- answers ----------------------------------------------------------------------------------


def answer_in(raw: str) -> str:
    """The answer in a raw continuation: its first line that is not empty, whole."""
    return next((line.strip() for line in raw.splitlines() if line.strip()), "")


def scored(
    report: Report, judge: Judge | None = None, originals: Mapping[str, str] | None = None
) -> Report:
    """A report with the scores of the protocol added, from the raw texts in its rows.

    originals  the question behind each prompt, for the judge; the prompt itself if it is not there.
    """
    seed = int(report.environment.get("seed") or 0)
    asked = originals or {}
    states = {}
    for state in ("before", "after"):
        items = [[_item(part, state, asked) for part in row["probes"]] for row in report.rows]
        flat = [item for row in items for item in row if item is not None]
        verdicts = judge([question for _, _, question in flat]) if judge else [None] * len(flat)
        left = iter(verdicts)
        records = []
        for row in items:
            record: dict[str, list[float]] = {}
            for item in (item for item in row if item is not None):
                for name, value in _scores(*item, next(left)).items():
                    record.setdefault(name, []).append(value)
            records.append(record)
        states[state] = aggregate(records, seed=seed)
    environment = dict(report.environment)
    if judge is not None:
        told = environment.get("protocol", {"name": "wild"})
        environment["protocol"] = told | {"judge": judge.identity()}
    return replace(
        report,
        scores=report.scores | states["after"],
        unedited=report.unedited | states["before"],
        environment=environment,
    )


_Item = tuple[str, Mapping[str, Any], Question]


def _item(part: Mapping[str, Any], state: str, originals: Mapping[str, str]) -> _Item | None:
    """The name, the probe and the judge's question of one row's probe; None for locality."""
    probe = part["probe"]
    if (
        probe["axis"] == "locality"
        or not probe["answers"]
        or probe.get("judge", "contains") != "contains"
    ):
        return None
    name = f"gen.wild.{probe['axis']}{'_held_out' if probe['held_out'] else ''}"
    question = originals.get(probe["prompt"], probe["prompt"])
    answer = answer_in(part[state]["text"])
    return name, probe, Question(question, tuple(probe["answers"]), answer)


def _scores(
    name: str, probe: Mapping[str, Any], asked: Question, verdict: Verdict | None
) -> dict[str, float]:
    answer, names = asked.answer, asked.reference
    looping = loops(answer)
    other = contradicts(answer, names, probe["foil"] or ())
    clean = not (looping or other)
    scores = {
        f"{name}.contains": float(clean and bool(contains(answer, names))),
        f"{name}.em": max(em(answer, alias) for alias in names),
        f"{name}.f1": max(f1(answer, alias) for alias in names),
        f"{name}.loops": float(looping),
        f"{name}.contradicts": float(other),
    }
    if verdict is not None:
        scores[name] = float(clean and verdict.correct)
        scores[f"{name}.unparsable"] = float(not verdict.parsed)
    return scores
