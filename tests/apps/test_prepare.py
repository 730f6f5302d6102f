"""What the command line collects before an editor runs, for every editor that needs statistics."""

from __future__ import annotations

import pytest

import corrigenda as cg
from corrigenda.apps import options
from corrigenda.editors import TABLE, editor_class, make

NEEDY = [name for name in TABLE if "statistics" in editor_class(name).needs]


@pytest.mark.parametrize("name", NEEDY)
def test_statistics_are_ready_before_the_editor_asks(name: str) -> None:
    fields, few = editor_class(name).__dataclass_fields__, {"tokens": 2000}
    settings = few if "tokens" in fields else {"settings": few} if "settings" in fields else {}
    options.prepare(cg.load("atlas"), make(name, **settings))
