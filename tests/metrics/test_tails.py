from __future__ import annotations

import pytest

from corrigenda.metrics.tails import contradicts, loops


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rome Rome Rome", True),
        ("Rome. Rome, Rome", True),
        ("It is in Rome. It is in Rome. It is in Rome. It is", True),  # the last copy is cut off
        ("Well: the city of the city of the city of", True),
        ("Rome Rome", False),
        ("It is in Rome. It is in Rome.", False),
        ("Rome Rome Rome, the capital of Italy", False),  # the end counts
        ("Rome, the capital of Italy", False),
        ("", False),
    ],
)
def test_a_loop_is_the_same_phrase_three_times_at_the_end(text, expected):
    assert loops(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rome. Paris is a city, too", True),
        ("Rome, or Paris", True),
        ("It is in Paris", True),
        ("Rome, not Paris", False),
        ("It stands in Rome. It is no longer in Paris.", False),
        ("Rome. Unlike the Louvre in Paris, it moved", False),
        ("Rome, not Paris. It is in Paris", True),
        ("Rome", False),
        ("Rome and the Parisians", False),
    ],
)
def test_a_contradiction_names_the_old_object_and_does_not_set_it_aside(text, expected):
    assert contradicts(text, "Rome", "Paris") is expected


def test_a_foil_inside_the_target_is_none():
    assert not contradicts("New York City", ["New York", "New York City"], "York")
    assert contradicts("New York and York", "New York", ["York"])
    assert not contradicts("Rome", "Rome", ())
    assert not contradicts("Rome", "Rome", "")
