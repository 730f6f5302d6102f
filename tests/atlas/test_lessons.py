"""Training edits never touch what evaluations judge by."""

from __future__ import annotations

import pytest

from corrigenda import atlas
from corrigenda.atlas.lessons import lessons, reserved


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (5, 1), (6, 2), (20, 3), (100, 9)])
def test_evaluated_facts_are_reserved(n, seed):
    """Also those of smaller samples: a sample of n begins a sample of 100."""
    import random

    from corrigenda.atlas.closure import editable

    facts = editable(atlas.world())
    drawn = random.Random(f"edits/{seed}").sample(facts, n)
    if n <= 6:
        assert [(c.edit.subject, c.edit.relation) for c in atlas.edits(n, seed)] == drawn
    assert set(drawn) <= reserved()


def test_lessons_are_edits_of_other_facts():
    cases = lessons(60, seed=1)
    facts = [(c.edit.subject, c.edit.relation) for c in cases]
    assert len(set(facts)) == 60 and not set(facts) & reserved()
    assert all(c.on("generalization") and c.edit.target != c.edit.target_true for c in cases)
    assert cases == lessons(60, seed=1) != lessons(60, seed=2)
    assert all(p in atlas.consequences(cases[0].edit) for p in cases[0].probes), (
        "probes are the world's"
    )
