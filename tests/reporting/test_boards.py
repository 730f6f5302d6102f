"""What stands side by side, and what is said about the differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.evaluate import evaluate
from corrigenda.metrics.statistics import mcnemar
from corrigenda.report import Report
from corrigenda.reporting import tables
from corrigenda.reporting.boards import UNEDITED, boards
from corrigenda.reporting.paired import against
from tests.lookup_model import Flip, LookupModel, Refusing, case

CASES = [case(j) for j in range(12)]


def reported(editor, cases, label: str, **options) -> Report:
    report = evaluate(LookupModel(subjects=12), editor, cases, **options)
    return replace(report, environment=report.environment | {"label": label})


@pytest.fixture(scope="module")
def three() -> list[Report]:
    return [
        reported(Flip(), CASES, "flip"),
        reported(Refusing(subjects=tuple(f"S{j}" for j in range(1, 7))), CASES, "refusing"),
        reported(Flip(strength=100.0), CASES, "loud"),
    ]


def test_reports_on_the_same_edits_share_a_board(three):
    made = boards([*three, reported(Flip(), CASES[:4], "flip")])
    assert [[row.label for row in board.rows] for board in made] == [
        [UNEDITED, "flip", "refusing", "loud"], [UNEDITED, "flip"],
    ]  # fmt: skip
    assert made[0].baseline == "flip" and made[1].differences == {}
    assert made[0].rows[0].scores["gen.efficacy"].value == 0.0
    assert made[0].rows[1].scores == three[0].scores


def test_differences_are_tested_on_the_same_records(three):
    (board,) = boards(three, "flip")
    found = board.differences["refusing", "gen.efficacy"]
    # Six of twelve records are right only with the baseline.
    assert found.difference.value == -6 / 12 and found.test == "McNemar"
    assert found.p == mcnemar(0, 6) == 2 / 2**6
    assert found.p < found.adjusted <= 1
    (other,) = boards(three, "refusing")
    assert other.differences["flip", "gen.efficacy"].difference.value == 6 / 12
    assert board.differences["loud", "gen.locality"].significant
    assert not board.differences["loud", "gen.efficacy"].significant


def test_seeds_of_a_method_are_one_row():
    one = reported(Flip(), CASES[:6], "flip", seed=1)
    two = reported(Refusing(subjects=("S4",)), CASES[2:8], "flip", seed=2)
    (board,) = boards([one, two])
    (row,) = board.methods
    assert row.seeds == [1, 2]
    assert len(row.records) == 8  # the edits that both drew are one record each
    # S4 was answered with one seed of two, all others always.
    assert row.scores["gen.efficacy"].value == pytest.approx((7 + 0.5) / 8)
    assert row.failures == {"raised": 1, "did_not_take": 0}


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12),
    st.permutations(["x", "y"]),
)
def test_swapping_two_methods_turns_the_difference_around(pairs, names) -> None:
    a = {str(j): {"gen.efficacy": [float(p)]} for j, (p, _) in enumerate(pairs)}
    b = {str(j): {"gen.efficacy": [float(q)]} for j, (_, q) in enumerate(pairs)}
    (there,) = against(a, [(names[0], b)], ["gen.efficacy", "gen.locality"])
    (back,) = against(b, [(names[1], a)], ["gen.efficacy"])
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert there.p == back.p and there.p <= there.adjusted <= 1


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6))
def test_few_records_cannot_be_sure(values: list[float]) -> None:
    """A bootstrap of two records would say p = 0."""
    a = {str(j): {"s": [0.0, 0.0]} for j in range(len(values))}
    b = {str(j): {"s": [value, 0.0]} for j, value in enumerate(values)}
    (found,) = against(a, [("b", b)], ["s"])
    assert found.p >= 2 ** (1 - len(values))


def test_other_records_are_not_compared(three):
    other = reported(Flip(), [case(j, "Oslo") for j in range(12)], "elsewhere")
    (board,) = boards([three[0], other])
    assert board.differences == {}


# -- Markdown and LaTeX -----------------------------------------------------------------------


def test_markdown_has_the_headline_and_the_papers_columns(three):
    text = tables.markdown(boards(three))
    heads = [line for line in text.splitlines() if line.startswith("|  |")]
    assert [h.split("|")[2].strip() for h in heads] == ["Efficacy", "S"]
    assert [c.strip() for c in heads[1].strip("|").split("|")][1:] == [
        "S", "ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS",
    ]  # fmt: skip
    assert "Not measured: GE, RS" in text
    loud = next(line for line in text.splitlines() if line.startswith("| loud"))
    assert "▼" in loud
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            widths.setdefault(line.count("|"), []).append(line)
    assert sorted(len(lines) for lines in widths.values()) == [6, 6]


def test_zsre_has_its_own_columns(three):
    env = three[0].environment
    data = env["data"] | {"name": "zsre"}
    (board,) = boards([replace(three[0], environment=env | {"data": data})])
    text = tables.markdown([board])
    assert "| Efficacy | Paraphrase | Specificity |" in text
    score = three[0].scores["tf.efficacy.ratio"].value
    assert f"{100 * score:.1f}" in text and "GE" not in text


def test_latex_is_booktabs_and_escapes(three):
    odd = replace(three[1], environment=three[1].environment | {"label": r"a_b & 50% \x {y} $z^#~"})
    text = tables.tex(boards([three[0], odd]))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 2
    assert r"a\_b \& 50\% \textbackslash{}x \{y\} \$z\textasciicircum{}\#\textasciitilde{}" in text
    for block in text.split(r"\midrule")[1:]:
        rows = [line for line in block.split(r"\bottomrule")[0].splitlines() if "&" in line]
        assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1
        assert all(line.endswith(r"\\") for line in rows)
