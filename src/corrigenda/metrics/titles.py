"""How scores are called and written in tables: titles, order, units."""

from __future__ import annotations

import math

from .aggregate import Score

__all__ = ["COLUMNS", "HEADLINE", "format_interval", "format_score", "format_value", "rank"]

HEADLINE = {
    "gen.efficacy": "Efficacy",
    "gen.generalization": "Generalization",
    "gen.generalization_held_out": "Generalization, held-out",
    "gen.locality": "Locality",
    "gen.portability": "Portability",
}
"""Free-generation scores by their titles."""

COLUMNS = HEADLINE | {
    "gen.locality.known": "Locality, known answers",
    "gen.wild.efficacy": "Efficacy, judged",
    "gen.wild.generalization": "Generalization, judged",
    "gen.wild.portability": "Portability, judged",
    "gen.wild.efficacy.contains": "Efficacy, 64 tokens",
    "gen.wild.generalization.contains": "Generalization, 64 tokens",
    "gen.wild.portability.contains": "Portability, 64 tokens",
    "tf.S": "S",
    "tf.ES": "ES",
    "tf.EM": "EM",
    "tf.PS": "PS",
    "tf.PM": "PM",
    "tf.NS": "NS",
    "tf.NM": "NM",
    "tf.NS+": "NS+",
    "tf.NM+": "NM+",
    "tf.KL.reference_edited": "KL (nats)",
    "gen.immediate": "Immediate",
    "gen.retained": "Retained",
    "gen.forgetting": "Forgetting",
}
"""The columns of a table, in the papers' order."""


def format_value(name: str, value: float) -> str:
    """Shares and magnitudes x 100 with one decimal; divergences in nats with three."""
    if not math.isfinite(value):
        return "not finite"
    by, digits = (1, 3) if name.startswith("tf.KL") else (100, 1)
    text = f"{value * by:.{digits}f}"
    return "0." + "0" * digits if float(text) == 0 else text.replace("-", "−")


def format_interval(name: str, score: Score) -> str:
    """ "[93.0, 99.1]", or nothing where there is no interval."""
    if score.low is None or score.high is None:
        return ""
    return f"[{format_value(name, score.low)}, {format_value(name, score.high)}]"


def format_score(name: str, score: Score | None) -> str:
    """ "97.5 [93.0, 99.1]"."""
    if score is None:
        return ""
    return f"{format_value(name, score.value)} {format_interval(name, score)}".strip()


def rank(name: str) -> tuple[int, str]:
    """Sorts score names in the order of the columns, variants and kinds after their score."""
    known = list(COLUMNS)
    for part in (name, name.split(":", 1)[0], name.split(":", 1)[0].rpartition(".")[0]):
        if part in known:
            return known.index(part), name
    return len(known), name
