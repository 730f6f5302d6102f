"""Your own edits, one JSON object per line, with probes if you have them.

    {"prompt": "{} is in", "subject": "Eiffel Tower", "target": "Rome", "target_true": "Paris",
     "probes": [{"prompt": "Where is the Eiffel Tower?", "answers": ["Rome"],
                 "axis": "generalization", "kind": "paraphrase", "foil": "Paris"},
                {"prompt": "The Louvre is in", "axis": "locality"}]}

prompt, subject and target are needed; target_true, relation, id and probes are optional. A probe
needs prompt and axis (efficacy, generalization, locality, portability); answers (or answer) are
needed except on locality; kind, foil and held_out are optional. Every edit is also judged by its
own prompt.
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
    try:
        edit = Rewrite.from_dict(record.row)
    except EditError as error:
        raise record.wrong(str(error).rstrip(".")) from None
    probes = [_probe(record, item) for item in record.get("probes", list, [])]
    return case(record, edit, probes, record.row.get("id", ""), "own edits")


def _probe(record: Record, item: Any) -> Probe:
    if not isinstance(item, dict):
        raise record.wrong('a probe is an object like {"prompt": ..., "axis": ...}')
    axis = item.get("axis")
    if axis not in get_args(Axis):
        raise record.wrong(
            f"the probe {item.get('prompt')!r} has the axis {axis!r}; "
            f"it should be one of {', '.join(get_args(Axis))}"
        )
    unknown = item.keys() - {"prompt", "answers", "answer", "axis", "kind", "foil", "held_out"}
    if unknown:
        raise record.wrong(f"a probe has no field {', '.join(sorted(unknown))}")
    return record.probe(
        item.get("prompt"),
        flat(item.get("answers", item.get("answer"))),
        axis,
        str(item.get("kind") or _KINDS[str(axis)]),
        foil=item.get("foil"),
        held_out=bool(item.get("held_out", False)),
    )


_KINDS = {
    "efficacy": "rewrite",
    "generalization": "paraphrase",
    "locality": "other",
    "portability": "consequence",
}
