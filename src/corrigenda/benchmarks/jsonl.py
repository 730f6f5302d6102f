"""Your own edits, one JSON object per line, with probes if you have them.

    {"prompt": "{} is in", "subject": "Eiffel Tower", "target": "Rome", "target_true": "Paris",
     "probes": [{"prompt": "Where is the Eiffel Tower?", "answers": ["Rome"],
                 "axis": "generalization", "kind": "paraphrase", "foil": "Paris"},
                {"prompt": "The Louvre is in", "axis": "locality"}]}

prompt, subject and target are needed; target_true, relation, id and probes are optional. So are
`also`, further edits of the case, and `in_turn`, that each of them is made on top of the one before.
A probe needs prompt and axis (efficacy, generalization, locality, portability); answers (or answer)
are needed except on locality; kind, foil, held_out, group, require, conditions, judge and language
are optional (`Probe` says what they are). Every edit is also judged by its own prompt; of edits in
turn, the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ..edit import Axis, Case, Probe, Rewrite
from ..errors import EditError
from ._records import Record, case, flat

__all__ = ["matches", "to_case"]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a record looks like an edit, complete or not."""
    return bool({"prompt", "subject", "target"} & row.keys())


def to_case(record: Record) -> Case:
    """Raises `DataError` naming the record and what is wrong with it."""
    edit = _rewrite(record)
    also = [_rewrite(part) for part in record.parts("also")]
    probes = [_probe(record, item) for item in record.get("probes", list, [])]
    in_turn = record.get("in_turn", bool, False)
    judged = [edit, *also][-1:] if in_turn else [edit, *also]
    return case(
        record,
        edit,
        [*(record.rewrite_probe(one) for one in judged), *probes],
        record.row.get("id", ""),
        "own edits",
        also=also,
        in_turn=in_turn,
    )


def _rewrite(record: Record) -> Rewrite:
    try:
        return Rewrite.from_dict(record.row)
    except EditError as error:
        raise record.wrong(str(error).rstrip(".")) from None


def _probe(record: Record, item: Any) -> Probe:
    if not isinstance(item, dict):
        raise record.wrong('a probe is an object like {"prompt": ..., "axis": ...}')
    axis = item.get("axis")
    if axis not in get_args(Axis):
        raise record.wrong(
            f"the probe {item.get('prompt')!r} has the axis {axis!r}; "
            f"it should be one of {', '.join(get_args(Axis))}"
        )
    unknown = item.keys() - Probe.__dataclass_fields__.keys() - {"answer"}
    if unknown:
        raise record.wrong(f"a probe has no field {', '.join(sorted(unknown))}")
    return record.probe(
        item.get("prompt"),
        flat(item.get("answers", item.get("answer"))),
        axis,
        str(item.get("kind") or _KINDS[str(axis)]),
        foil=item.get("foil"),
        held_out=bool(item.get("held_out", False)),
        conditions=tuple(
            part.condition(part.get("prompt", str), part.texts("answers"))
            for part in record.part(item, "probe").parts("conditions")
        ),
        **{name: item[name] for name in ("group", "require", "judge", "language") if name in item},
    )


_KINDS = {
    "efficacy": "rewrite",
    "generalization": "paraphrase",
    "locality": "other",
    "portability": "consequence",
}
