"""The whole audit of the edits in some deltas: every check, one after the other.

Each check is a small function in the file of its question; here they only get their turn. A check that
has nothing to ask (no old object is known, too few edits, one delta) reports n = 0 and no value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

from ..delta import Delta
from ..edit import Rewrite
from ..errors import InputError, UnknownNameError
from ..models.text import TextModel
from . import conflicts, decay, latent, pressure, relearning, rephrasing
from .candidates import with_objects
from .check import Check, holds, share

__all__ = ["CHECKS", "Audit", "audit"]

Progress = Callable[[int, int], None]
"""Called with (checks done, checks wanted)."""


@dataclass(frozen=True)
class Setting:
    """What checks are given.

    deltas, total  the deltas, and their sum where they have one.
    edits          all edits; `own` those of each delta.
    others         facts that are no part of the edits.
    """

    model: TextModel
    deltas: tuple[Delta, ...]
    total: Delta
    own: tuple[tuple[Rewrite, ...], ...]
    edits: tuple[Rewrite, ...]
    others: tuple[Rewrite, ...]
    k: int
    seed: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What all checks found. ids: of the deltas."""

    model: str
    ids: tuple[str, ...]
    edits: int
    seed: int
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self) -> str:
        lines = [
            f"# Audit of {self.edits} edit{'s' if self.edits != 1 else ''} on {self.model}",
            "",
            f"Deltas: {', '.join(i[:12] for i in self.ids)}. Seed {self.seed}. Shares x 100 with "
            "95 % intervals; an arrow says which end is good.",
            "",
            "| check | what | good | value | interval | n |",
            "|---|---|---|---:|---|---:|",
        ]
        for one in self.checks:
            value, interval = shown(one)
            arrow = "high" if one.good == "high" else "low"
            lines.append(f"| {one.name} | {one.about} | {arrow} | {value} | {interval} | {one.n} |")
        return "\n".join(lines) + "\n"


def shown(one: Check) -> tuple[str, str]:
    """Value and interval of a check x 100, as text."""
    if one.value is None or one.low is None or one.high is None:
        return "-", "not asked"
    return f"{100 * one.value:.1f}", f"[{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _edited(function: Callable[[Setting], Sequence[Check]]) -> Callable[[Setting], Sequence[Check]]:
    """The check is asked of the edited model."""

    def asked(s: Setting) -> Sequence[Check]:
        with ExitStack() as stack:
            for delta in s.deltas:
                stack.enter_context(delta.applied(s.model))
            return function(s)

    return asked


def _held(s: Setting) -> Sequence[Check]:
    outcomes = holds(s.model, [edit.text for edit in s.edits], s.edits)
    return [share("gen.holds", "holds on its own prompt", outcomes, edits=s.edits)]


def _merged(s: Setting) -> Sequence[Check]:
    found = decay.merged(s.model, s.total, s.edits)
    return [] if found is None else [found]


def _lessons(s: Setting) -> list[Rewrite]:
    """Facts that a probe learns objects from: the world's, or else the other facts at hand."""
    return with_objects(s.edits, seed=s.seed) if s.model.is_atlas else list(s.others)


CHECKS: Mapping[str, Callable[[Setting], Sequence[Check]]] = {
    "holds": _edited(_held),
    "rephrased": _edited(
        lambda s: rephrasing.rephrased(s.model, s.edits, k=s.k, world=s.model.is_atlas, seed=s.seed)
    ),
    "shifted": _edited(lambda s: pressure.shifted(s.model, s.edits)),
    "doubted": _edited(lambda s: [pressure.doubted(s.model, s.edits)]),
    "prefilled": _edited(lambda s: pressure.prefilled(s.model, s.edits)),
    "reminded": _edited(lambda s: pressure.reminded(s.model, s.edits)),
    "told": lambda s: [pressure.told(s.model, s.edits)],
    "shown": _edited(lambda s: [pressure.shown(s.model, s.edits)]),
    "relearned": lambda s: [relearning.relearned(s.model, s.total, s.edits)],
    "tuned": lambda s: [decay.tuned(s.model, s.total, s.edits, s.others)],
    "rounded": lambda s: decay.rounded(s.model, s.total, s.edits),
    "merged": _merged,
    "lens": lambda s: [latent.seen_through(s.model, s.total, s.edits)],
    "probe": lambda s: [latent.probed(s.model, s.total, s.edits, _lessons(s))],
    "conflicts": lambda s: [
        conflicts.disagree(s.edits),
        conflicts.disturbed(s.model, s.deltas, s.own),
    ],
}


def audit(
    model: TextModel,
    deltas: Sequence[Delta],
    *,
    checks: Sequence[str] | None = None,
    others: Sequence[Rewrite] = (),
    k: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Check how well the edits of some deltas hold, on the unedited model.

    checks  names of `CHECKS`; all if None.
    others  facts that are no part of the edits, as they are: for later fine-tuning and for the probe.
    k       wordings of each edit.

    Raises `UnknownNameError` for an unknown check, and `InputError` for deltas that name no edit.
    """
    wanted = list(CHECKS) if checks is None else list(checks)
    for name in wanted:
        if name not in CHECKS:
            raise UnknownNameError("check", name, CHECKS)
    own = tuple(
        tuple(Rewrite.from_dict(e) for e in delta.provenance.edits if "subject" in e)
        for delta in deltas
    )
    edits = tuple(edit for some in own for edit in some)
    if not edits:
        raise InputError(
            "These deltas name no edits of facts, so there is nothing to ask. `corrigenda show "
            "DELTA` says what is in one; `corrigenda diff MODEL DELTA` reads its tensors."
        )
    total = reduce(add, deltas)
    setting = Setting(model, tuple(deltas), total, own, edits, tuple(others), k, seed)
    found: list[Check] = []
    for done, name in enumerate(wanted):
        if progress:
            progress(done, len(wanted))
        found += CHECKS[name](setting)
    if progress:
        progress(len(wanted), len(wanted))
    return Audit(model.id, tuple(d.id for d in deltas), len(edits), seed, tuple(found))
