"""What the command line collects before an editor runs, for every editor that needs statistics."""

from __future__ import annotations

import pytest

import corrigenda as cg
from corrigenda.apps import options
from corrigenda.editors import TABLE, editor_class

NEEDY = [name for name in TABLE if "statistics" in editor_class(name).needs]


@pytest.mark.parametrize("name", NEEDY)
def test_statistics_are_ready_before_the_editor_asks(name: str) -> None:
    settings = ["tokens=2000"] if "tokens" in editor_class(name).__dataclass_fields__ else []
    options.prepare(cg.load("atlas"), options.editor_from(name, settings))
