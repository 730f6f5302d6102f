"""What one probe got from the model, before and after, and the scores that follow from it.

Free generation (`gen.*`, the headline; the answer is cut by `text.answer_of`):

    gen.efficacy, gen.generalization     the answer contains the target as whole words
      .begins, .em                       it begins with it; it is exactly it
    gen.generalization_held_out          wordings that training never showed with this subject
    gen.locality                         the same answer before and after
    gen.locality.known                   where nobody could be asked before: the answer contains
                                         one that the record itself names
    gen.portability                      the answer contains what follows from the edit

Teacher-forced (`tf.*`):

    tf.<axis>, tf.<axis>.ratio           every token is the argmax; share of tokens that are
    tf.ES EM PS PM NS NM NA              the CounterFact columns (see `counterfact`)
    tf.KL.reference_edited, ...          next-token divergence on locality probes, in nats

Probes that form tests (`Probe.group`) feed gen.portability and gen.generalization once per executed
test, and the scores of `grouped`. Probes that another judge reads (`Probe.judge`) have no gen.* score;
those that are only kept have none at all. Where a case asks in several languages, scores are also
given by language, as `gen.locality@zh`.

`gen.locality+`, `tf.NS+` and so on come from CounterFact+ prompts, which name the edit in front of
a neighborhood prompt; they are kept out of the plain scores. Scores are also given by kind, as
`gen.locality:neighborhood`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..edit import Probe
from . import grouped
from .counterfact import magnitude, success
from .teacher_forced import TeacherForced
from .text import answer_of, begins, contains, em, preserved

__all__ = ["PLUS", "Observation", "record_scores", "scores_of"]

PLUS = "neighborhood+"
"""The kind of CounterFact+ prompts."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe's outputs in one state of the model.

    text    the greedy continuation as decoded.
    target  teacher-forced scores of the probe's first answer, if it has one.
    foil    teacher-forced scores of its foil, if it has one.
    met     whether the probe's conditions hold; None where it has none, or was not asked for them.
    """

    text: str
    target: TeacherForced | None = None
    foil: TeacherForced | None = None
    met: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        row = {"text": self.text, "target": _dump(self.target), "foil": _dump(self.foil)}
        return row if self.met is None else row | {"met": self.met}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Observation:
        return cls(row["text"], _load(row["target"]), _load(row["foil"]), row.get("met"))


def scores_of(
    probe: Probe,
    before: Observation | None,
    after: Observation,
    kl: tuple[float, float] | None = None,
) -> dict[str, float]:
    """All scores that one probe feeds, by name. Those that need what is None are absent.

    kl  KL(reference || edited) and KL(edited || reference) of the next token, in nats.
    """
    if probe.judge == "record":
        return {}
    name: str = probe.axis
    if probe.axis == "generalization" and probe.held_out:
        name += "_held_out"
    if probe.axis == "locality" and probe.kind == PLUS:
        name += "+"
    scores: dict[str, float] = {}
    if probe.axis == "locality":
        if before is not None:
            scores[f"gen.{name}"] = preserved(before.text, after.text)
        elif probe.answers:
            scores[f"gen.{name}.known"] = contains(answer_of(after.text), probe.answers)
    elif probe.judge == "contains" and not _as_test(probe):
        answer = answer_of(after.text)
        scores[f"gen.{name}"] = contains(answer, probe.answers)
        scores[f"gen.{name}.begins"] = begins(answer, probe.answers)
        scores[f"gen.{name}.em"] = max(em(answer, alias) for alias in probe.answers)
    if after.target is not None:
        scores[f"tf.{name}"] = after.target.strict
        scores[f"tf.{name}.ratio"] = after.target.ratio
    if kl is not None:
        plus = "+" if name.endswith("+") else ""
        scores[f"tf.KL{plus}.reference_edited"], scores[f"tf.KL{plus}.edited_reference"] = kl
    scores |= {f"{score}@{probe.language}": v for score, v in scores.items() if probe.language}
    by_kind = {f"{score}:{probe.kind}": value for score, value in scores.items()}
    return scores | _counterfact(probe, after) | by_kind


def record_scores(
    items: Iterable[tuple[Probe, Observation | None, Observation, tuple[float, float] | None]],
) -> dict[str, list[float]]:
    """The scores of all probes of one record: {name: one value per prompt or test}."""
    record: dict[str, list[float]] = {}
    tests: dict[str, list[tuple[Probe, grouped.Answered]]] = {}
    for probe, before, after, kl in items:
        for name, value in scores_of(probe, before, after, kl).items():
            record.setdefault(name, []).append(value)
        if probe.group and probe.judge == "contains" and probe.answers:
            tests.setdefault(probe.group, []).append((probe, _answered(probe, before, after)))
    if tests:
        for name, values in _of_tests(tests, record.get("gen.efficacy")).items():
            record.setdefault(name, []).extend(values)
    return record


def _as_test(probe: Probe) -> bool:
    """Whether the headline score counts the probe's test rather than the probe."""
    return bool(probe.group) and probe.axis in ("generalization", "portability")


def _answered(probe: Probe, before: Observation | None, after: Observation) -> grouped.Answered:
    answer = answer_of(after.text)
    return grouped.Answered(
        probe.kind,
        bool(contains(answer, probe.answers)),
        answer.strip() in probe.answers,
        probe.require,
        None if before is None else before.met,
    )


def _of_tests(
    tests: dict[str, list[tuple[Probe, grouped.Answered]]], efficacy: list[float] | None
) -> dict[str, list[float]]:
    took = None if efficacy is None else all(efficacy)
    answered = {name: [one for _, one in parts] for name, parts in tests.items()}
    found = grouped.scores(answered, took)
    for name, parts in tests.items():
        probe = parts[0][0]
        if _as_test(probe):
            for value in grouped.scores({name: answered[name]}).get("gen.tests", []):
                for full in (f"gen.{probe.axis}", f"gen.{probe.axis}:{probe.kind}"):
                    found.setdefault(full, []).append(value)
    return found


def _counterfact(probe: Probe, after: Observation) -> dict[str, float]:
    """The CounterFact columns of one probe; they need a competing answer."""
    if after.target is None or after.foil is None:
        return {}
    p, q = _probability(after.target), _probability(after.foil)
    if probe.axis == "efficacy":
        letter, end = "E", ""
    elif probe.axis == "generalization":
        letter, end = "P", "_held_out" if probe.held_out else ""
    elif probe.axis == "locality" and probe.kind.startswith("neighborhood"):
        letter, end = "N", "+" if probe.kind == PLUS else ""
    else:
        return {}
    return {
        f"tf.{letter}S{end}": success(p, q),
        f"tf.{letter}M{end}": magnitude(p, q),
        f"tf.{letter}A{end}": after.target.strict,
    }


def _probability(score: TeacherForced) -> float:
    return math.nan if score.nonfinite else score.probability


def _dump(score: TeacherForced | None) -> dict[str, Any] | None:
    if score is None:
        return None
    finite = not score.nonfinite
    return {
        "mean": score.mean if finite else None,
        "total": score.total if finite else None,
        "strict": score.strict,
        "ratio": score.ratio,
        "tokens": score.tokens,
    }


def _load(row: dict[str, Any] | None) -> TeacherForced | None:
    if row is None:
        return None
    if row["mean"] is None:
        return TeacherForced(-math.inf, -math.inf, 0.0, 0.0, row["tokens"], nonfinite=True)
    return TeacherForced(row["mean"], row["total"], row["strict"], row["ratio"], row["tokens"])
