"""lm-evaluation-harness on the live model: what the edits did to everything else that it can do.

The harness asks a model three things: the log-likelihood of a continuation, that of a document, and
a generation. `Answers` gives them from a `TextModel` with its deltas live, through the same path as
every other text here, so nothing has to be merged or saved first. `downstream` runs tasks on the
model without and with deltas, with the same documents, shots and seed, and gives the difference of
each score with its paired interval: a score without the unedited one beside it says little, and two
separate intervals overlap where a paired one excludes 0.

    for row in downstream(model, [delta], ["hellaswag", "boolq"], limit=500):
        print(row.task, row.metric, row.before, row.after, row.difference)

Needs `pip install 'corrigenda[harness]'`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import InputError, ModelError
from .metrics.statistics import Interval, mcnemar, paired_bootstrap, paired_ratio
from .models.asked import Asked

if TYPE_CHECKING:
    from .delta import Delta
    from .models.text import TextModel

__all__ = ["Answers", "Downstream", "downstream", "language_model", "paired"]

NEW_TOKENS = 256  # where a task names no limit

Sample = Mapping[str, Any]
"""One document of a task as the harness logs it: its doc_id, and its value under each metric."""


class Request(Protocol):
    """What the harness hands over: its `Instance`, of which only the arguments are read."""

    @property
    def args(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True, slots=True)
class Downstream:
    """One score of one task without and with the edits.

    metric         as the task calls it; where the task reads answers in several ways, with the way:
                   "exact_match,flexible-extract".
    before, after  mean over the documents; of perplexities, nats per word or byte (lower is better).
    difference     after - before with its 95 % paired bootstrap interval over documents.
    p              exact McNemar where every document passes or fails; None for perplexities;
                   else from the bootstrap.
    n              documents.
    """

    task: str
    metric: str
    before: float
    after: float
    difference: Interval
    p: float | None
    n: int


class Answers:
    """The three questions of the harness, answered by a causal model as it is now.

    Raises `ModelError` for models of another kind.
    """

    def __init__(self, model: TextModel, batch_size: int = 16) -> None:
        if model.kind != "causal":
            raise ModelError(
                f"{model.id} is a {model.kind} model, and the tasks of the harness are asked from "
                "left to right. Take a causal one."
            )
        self.model, self.batch_size = model, batch_size

    def loglikelihood(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        """(log-probability of the continuation in nats, whether it is the greedy one) for each
        (context, continuation).

        Both are tokenised together; the continuation begins with the first token that reaches into
        it. An empty context is the BOS (or EOS) token. Contexts are cut on the left where they do
        not fit. Raises `InputError` for a continuation without tokens, or too long to fit.
        """
        pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
        given = self.model.live.given([context for context, _ in pairs])
        readers = [self.model if one.by is None else one.by for one in given]
        found: list[Any] = [None] * len(pairs)
        for reader in dict.fromkeys(readers):
            mine = [j for j, one in enumerate(readers) if one is reader]
            rows = [_continued(reader, given[j].text, pairs[j][1]) for j in mine]
            for j, score in zip(mine, reader.answered(rows, self.batch_size), strict=True):
                found[j] = score.total, bool(score.correct.all())
        return found

    def loglikelihood_rolling(self, requests: Sequence[Request]) -> list[float]:
        """Log-probability in nats of each (document,): every token once, the first after the BOS
        (or EOS) token, each with as much in front of it as the context holds.

        Documents are no prompts, so changes of the prompt do not touch them; a memory decides in
        the middle of a window.
        """
        windows = [_windows(self.model, str(request.args[0])) for request in requests]
        rows = [row for some in windows for row in some]
        scores = iter(self.model.answered(rows, self.batch_size))
        return [math.fsum(next(scores).total for _ in some) for some in windows]

    def generate_until(self, requests: Sequence[Request]) -> list[str]:
        """The greedy continuation of each (context, settings), up to the first of the texts in
        `settings["until"]`.

        Raises `InputError` for settings that ask for sampling.
        """
        limits = [_limit(request.args[1]) for request in requests]
        found = [""] * len(requests)
        for limit in dict.fromkeys(limits):
            mine = [j for j, one in enumerate(limits) if one == limit]
            contexts = [_fitting(self.model, str(requests[j].args[0]), limit) for j in mine]
            texts = self.model.generate(contexts, max_new_tokens=limit, batch_size=self.batch_size)
            for j, text in zip(mine, texts, strict=True):
                found[j] = _cut(text, requests[j].args[1].get("until") or ())
        return found


def language_model(model: TextModel, batch_size: int = 16) -> Any:
    """The model as the harness's own `LM`, for `lm_eval.simple_evaluate(model=...)`.

    Raises `ModelError` where the harness is not installed or the model is not causal.
    """
    try:
        from lm_eval.api.model import LM  # type: ignore[import-not-found]
    except ImportError:
        raise ModelError(
            "Downstream tasks need lm-evaluation-harness: pip install 'corrigenda[harness]'"
        ) from None

    class Live(LM):
        def __init__(self) -> None:
            super().__init__()
            self.answers = Answers(model, batch_size)
            self._device = model.device

        def loglikelihood(self, requests: Any) -> Any:
            return self.answers.loglikelihood(requests)

        def loglikelihood_rolling(self, requests: Any) -> Any:
            return self.answers.loglikelihood_rolling(requests)

        def generate_until(self, requests: Any) -> Any:
            return self.answers.generate_until(requests)

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return model.chat(chat_history, opened=add_generation_prompt)

        @property
        def tokenizer_name(self) -> str:
            return model.tokenizer_hash

    return Live()


def downstream(
    model: TextModel,
    deltas: Sequence[Delta],
    tasks: Sequence[Any],
    *,
    limit: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    **options: Any,
) -> list[Downstream]:
    """Run tasks of the harness on the model without and with deltas, applied in their order.

    tasks    names or task objects of the harness.
    limit    documents per task; None takes all.
    shots    examples in front of each question; None takes the task's own number.
    options  handed to `lm_eval.simple_evaluate`.

    The model is as it was afterwards. Raises `ModelError` where the harness is not installed.
    """
    language = language_model(model, batch_size)
    from lm_eval import simple_evaluate  # type: ignore[import-not-found]

    def samples() -> dict[str, list[Sample]]:
        found = simple_evaluate(
            model=language,
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            log_samples=True,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            **({"bootstrap_iters": 0} | options),
        )
        return dict(found["samples"]) if found else {}

    before = samples()
    with ExitStack() as stack:
        for delta in deltas:
            stack.enter_context(delta.applied(model))
        after = samples()
    return [row for task in before for row in paired(task, before[task], after[task], seed=seed)]


def paired(
    task: str, before: Sequence[Sample], after: Sequence[Sample], *, seed: int = 0
) -> list[Downstream]:
    """Every score of a task that both runs have, document by document.

    A value is a number, or a pair (log-likelihood, words or bytes) for perplexities. Metrics of
    other values, which have no mean over documents, are left out. Raises `InputError` for runs over
    unlike documents, and for values that are not finite.
    """
    first, second = _by_document(before), _by_document(after)
    if first.keys() != second.keys():
        odd = sorted(map(str, first.keys() ^ second.keys()))[:3]
        raise InputError(f"Both runs of {task} need the same documents; these differ: {odd}")
    ways = list(dict.fromkeys(way for _, way in first))
    rows = []
    for way in ways:
        keys = [key for key in first if key[1] == way]
        for metric in dict.fromkeys(name for key in keys for name in first[key]["metrics"]):
            pairs = [(first[key].get(metric), second[key].get(metric)) for key in keys]
            name = metric if len(ways) == 1 else f"{metric},{way}"
            if row := _compared(task, name, pairs, seed):
                rows.append(row)
    return rows


def _compared(
    task: str, metric: str, pairs: Sequence[tuple[Any, Any]], seed: int
) -> Downstream | None:
    if all(_number(a) and _number(b) for a, b in pairs):
        x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
        _check_finite(task, metric, x, y)
        mean, (low, high), p = paired_bootstrap(y, x, seed=seed)
        if np.isin([x, y], (0.0, 1.0)).all():
            p = mcnemar(int((y > x).sum()), int((x > y).sum()))
        difference = Interval(mean, low, high)
        return Downstream(task, metric, float(x.mean()), float(y.mean()), difference, p, len(pairs))
    if all(_weighed(a) and _weighed(b) for a, b in pairs):
        x, y, sizes = (
            np.array(side, dtype=float)
            for side in zip(*((-a[0], -b[0], a[1]) for a, b in pairs), strict=True)
        )
        _check_finite(task, metric, x, y)
        difference = paired_ratio(y - x, sizes, seed=seed)
        means = float(x.sum() / sizes.sum()), float(y.sum() / sizes.sum())
        return Downstream(task, metric, *means, difference, None, len(pairs))
    return None


def _by_document(samples: Iterable[Sample]) -> dict[tuple[Any, Any], Sample]:
    """By document and prompt, and the way in which the answer was read."""
    return {
        ((sample["doc_id"], sample.get("prompt_hash")), sample.get("filter")): sample
        for sample in samples
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _weighed(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_number, value))


def _check_finite(task: str, metric: str, *sides: np.ndarray) -> None:
    if not all(np.isfinite(side).all() for side in sides):
        raise InputError(
            f"{metric} of {task} is not finite for some document, so it has no mean. The edited "
            "model may be broken: look at its perplexity (`corrigenda.health`)."
        )


# -- tokens -----------------------------------------------------------------------------------


def _continued(reader: TextModel, context: str, continuation: str) -> Asked:
    """A context and its continuation as one text; trailing spaces belong to the continuation."""
    bare = context.rstrip(" ")
    text = context + continuation
    encoded = reader.tokenizer(text, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    inside = [j for j, (a, b) in enumerate(offsets) if b > max(a, len(bare))]
    if not inside:
        raise InputError(f"The continuation {continuation!r} has no tokens to score.")
    ids, start = ids[: inside[-1] + 1], inside[0]
    if start == 0:
        ids, start = [_prefix(reader), *ids], 1
    wanted = tuple(ids[start:])
    excess = max(0, len(ids) - 1 - (reader.context or len(ids)))
    if excess >= start:
        raise InputError(
            f"A continuation of {len(wanted)} tokens does not fit into the {reader.context} of "
            f"{reader.id}'s context. Leave this document out, or take another model."
        )
    shown, end = tuple(ids[excess:-1]), start - 1 - excess
    return Asked(shown, tuple(range(end, len(shown))), wanted, end)


def _windows(model: TextModel, text: str) -> list[Asked]:
    """A document in windows that predict each of its tokens once, the last one with a full view."""
    tokens = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    tokens.insert(0, _prefix(model))
    size = model.context or len(tokens)
    rows, done = [], 1
    while done < len(tokens):
        end = min(len(tokens), done + size) if done > 1 else min(len(tokens), size + 1)
        shown = tuple(tokens[max(0, end - 1 - size) : end - 1])
        count = end - done
        reads = tuple(range(len(shown) - count, len(shown)))
        rows.append(Asked(shown, reads, tuple(tokens[done:end]), len(shown) // 2))
        done = end
    return rows


def _prefix(model: TextModel) -> int:
    if model.start_id is None:
        raise ModelError(
            f"The tokenizer of {model.id} has neither a BOS nor an EOS token to begin a text with."
        )
    return model.start_id


def _fitting(model: TextModel, context: str, limit: int) -> str:
    """The end of a context that leaves room for so many tokens."""
    offsets = model.tokenizer(context, return_offsets_mapping=True)["offset_mapping"]
    room = (model.context or len(offsets) + limit) - limit
    excess = len(offsets) - room
    if excess <= 0:
        return context
    if room < 1:
        raise InputError(
            f"{limit} new tokens do not fit into the {model.context} of {model.id}'s context."
        )
    special = sum(a == b for a, b in offsets)  # they will be put around the rest again
    return context[offsets[min(len(offsets) - 1, excess + special)][0] :]


def _limit(settings: Mapping[str, Any]) -> int:
    if settings.get("do_sample") and settings.get("temperature", 1.0) != 0:
        raise InputError(
            "A task asks for sampling, and two samples differ without any edit. Run it greedily: "
            'gen_kwargs="do_sample=False".'
        )
    return int(settings.get("max_gen_toks") or NEW_TOKENS)


def _cut(text: str, until: str | Sequence[str]) -> str:
    for stop in [until] if isinstance(until, str) else until:
        text = text.split(stop, 1)[0] if stop else text
    return text
