"""MQuAKE, worked by hand on one case of two edits and two hops.

Edits: the Eiffel Tower stands in Rome; the head of state of Italy is Carlo. The question: who heads
the country in which the Eiffel Tower stands?
"""

from __future__ import annotations

import pytest

from corrigenda.errors import InputError
from corrigenda.metrics.mquake import MultiHop, exact, multi_hop, quake

EDITS = [("Rome", ["Rome"]), ("Sergio", ["Carlo", "King Carlo"])]
HOPS = [("Italy", ["Italy"]), ("Carlo", ["Carlo", "King Carlo"])]
NAMES = ["Carlo", "King Carlo"]


def test_one_case_by_the_paper_rules():
    score = quake(EDITS, HOPS, ["Macron", "King Carlo", "carlo"], NAMES, exact)
    assert (score.edit_wise, score.all_edits) == (0.5, 0.0)
    assert score.instance_wise == 1.0
    assert score.multi_hop == MultiHop(any=1.0, mean=pytest.approx(1 / 3), all=0.0)
    assert score.hop_wise == 1.0


def test_the_same_case_by_our_match():
    """Case is ignored, and an answer may stand in a sentence; a part of a word is no answer."""
    answers = ["It is Carlos.", "The head of state is King Carlo of Italy", "carlo"]
    assert multi_hop(answers, NAMES, exact) == MultiHop(0.0, 0.0, 0.0)
    assert multi_hop(answers, NAMES) == MultiHop(1.0, pytest.approx(2 / 3), 0.0)


def test_a_right_answer_on_a_wrong_path_is_no_hop_wise_success():
    wrong = [("France", ["Italy"]), HOPS[1]]
    score = quake(EDITS, wrong, ["Carlo"] * 3, NAMES, exact)
    assert (score.multi_hop.all, score.instance_wise, score.hop_wise) == (1.0, 0.0, 0.0)


def test_a_right_path_to_a_wrong_answer_is_none_either():
    score = quake(EDITS, HOPS, ["Macron"] * 3, NAMES, exact)
    assert (score.instance_wise, score.hop_wise) == (1.0, 0.0)


def test_an_incomplete_case_is_an_error():
    with pytest.raises(InputError, match="0 edits"):
        quake([], HOPS, ["Carlo"], NAMES)
    with pytest.raises(InputError, match="wording"):
        multi_hop([], NAMES)
    with pytest.raises(InputError, match="name"):
        multi_hop(["Carlo"], [])
