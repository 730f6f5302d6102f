"""Boards as Markdown and as LaTeX with booktabs: the headline scores, then the papers' columns.

The papers' columns are those of CounterFact (Meng et al. 2022, 2202.05262: S, ES, EM, PS, PM, NS,
NM, GE, RS) and of zsRE (Mitchell et al. 2022, 2110.11309: efficacy, paraphrase, specificity as
token accuracies). All of them but GE and RS are teacher-forced; a column that was not measured
shows a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..metrics.aggregate import Score
from ..metrics.titles import HEADLINE, format_interval, format_value
from .boards import Board, Row

__all__ = ["COUNTERFACT", "ZSRE", "legacy", "markdown", "tex"]

COUNTERFACT = {
    "tf.S": "S", "tf.ES": "ES", "tf.EM": "EM", "tf.PS": "PS", "tf.PM": "PM", "tf.NS": "NS",
    "tf.NM": "NM", "gen.GE": "GE", "gen.RS": "RS",
}  # fmt: skip
ZSRE = {
    "tf.efficacy.ratio": "Efficacy",
    "tf.generalization.ratio": "Paraphrase",
    "tf.locality.ratio": "Specificity",
}
SEQUENCE = {"gen.retained": "Retained", "gen.forgetting": "Forgetting"}


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of (value, interval, mark) under heads; the first column is the method."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]


def legacy(board: Board) -> Mapping[str, str]:
    """The papers' columns that fit the data of a board: {score: head}."""
    if "zsre" in board.data.lower():
        return ZSRE if board.scored(ZSRE) else {}
    return COUNTERFACT if board.scored(("tf.ES",)) else {}


def markdown(boards: Sequence[Board]) -> str:
    """Two tables per board, and what a reader must know to judge them."""
    parts = []
    for board in boards:
        parts.append(f"## {_cell(board.title)}")
        parts += [_markdown(table) for table in _tables(board)]
        parts.append(_remarks(board))
    return "\n\n".join(parts) + "\n"


def tex(boards: Sequence[Board]) -> str:
    r"""Two tables per board, for a document with booktabs and amssymb."""
    parts = ["% Needs \\usepackage{booktabs} and \\usepackage{amssymb}."]
    for board in boards:
        parts += [_latex(table) for table in _tables(board)]
    return "\n\n".join(parts) + "\n"


def _tables(board: Board) -> list[_Table]:
    tables = []
    names = board.scored({**HEADLINE, **SEQUENCE})
    titles = HEADLINE | SEQUENCE
    if names:
        heads = [*(titles[name] for name in names), "n", "s/edit"]
        rows = [(row.label, _cells(board, row, names) + _ends(row)) for row in board.rows]
        tables.append(_Table(f"{board.title}. Greedy free generation.", heads, rows))
    columns = legacy(board)
    if columns:
        said = "zsRE, teacher-forced" if columns is ZSRE else "CounterFact, teacher-forced"
        rows = [(row.label, _cells(board, row, list(columns))) for row in board.rows]
        tables.append(
            _Table(f"{board.title}. The columns of {said}.", list(columns.values()), rows)
        )
    return tables


def _cells(board: Board, row: Row, names: Sequence[str]) -> list[tuple[str, str, str]]:
    return [_score(board, row, name) for name in names]


def _score(board: Board, row: Row, name: str) -> tuple[str, str, str]:
    score: Score | None = row.scores.get(name)
    if score is None:
        return "–", "", ""
    found = None if row.unedited else board.differences.get((row.label, name))
    mark = "" if found is None or not found.significant else _arrow(found.difference.value)
    return format_value(name, score.value), format_interval(name, score), mark


def _arrow(value: float) -> str:
    return "▲" if value > 0 else "▼"


def _ends(row: Row) -> list[tuple[str, str, str]]:
    count = str(max((score.n_records for score in row.scores.values()), default=0))
    seconds = "" if row.seconds is None else f"{row.seconds:.3g}"
    return [(count, "", ""), (seconds, "", "")]


def _remarks(board: Board) -> str:
    env = board.environment
    seeds = sorted(
        {seed for row in board.methods for seed in row.seeds} or set(board.rows[0].seeds)
    )
    words = [
        "Scores × 100 with 95 % intervals (Wilson, or bootstrap over records); n records; seeds "
        f"{', '.join(map(str, seeds))}; {env.get('max_new_tokens', '?')} new tokens."
    ]
    if board.differences:
        tests = sorted({one.test for one in board.differences.values()})
        words.append(
            f" ▲ ▼ better or worse than {_cell(str(board.baseline))}: p < 0.05 by "
            f"{' and '.join(tests)}, adjusted by Holm over {len(board.differences)} comparisons."
        )
    columns = legacy(board)
    gone = [head for name, head in columns.items() if not board.scored((name,))]
    if gone:
        words.append(f" Not measured: {', '.join(gone)}.")
    failed = [
        f"{row.label} {row.failures['raised']} and {row.failures['did_not_take']}"
        for row in board.methods
        if any(row.failures.values())
    ]
    if failed:
        words.append(
            f" Edits that raised an error and that did not take, in every score: "
            f"{_cell('; '.join(failed))}."
        )
    return "".join(words)


# -- two languages ----------------------------------------------------------------------------


def _markdown(table: _Table) -> str:
    lines = [["", *table.heads], [":--", *("--:" for _ in table.heads)]]
    for label, cells in table.rows:
        lines.append([_cell(label), *(_cell(" ".join(filter(None, cell))) for cell in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _latex(table: _Table) -> str:
    columns = "l" + "r" * len(table.heads)
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        r"\small",
        rf"\caption{{{_latex_text(table.caption)}}}",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(["", *(_latex_text(head) for head in table.heads)]) + r" \\",
        r"\midrule",
    ]
    for number, (label, cells) in enumerate(table.rows):
        lines.append(" & ".join([_latex_text(label), *map(_latex_cell, cells)]) + r" \\")
        if number == 0 and len(table.rows) > 1:
            lines.append(r"\addlinespace")  # below the unedited model
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines)


def _latex_cell(cell: tuple[str, str, str]) -> str:
    value, interval, mark = cell
    text = {"–": "--"}.get(value, value.replace("−", "$-$"))
    if mark:
        text += r"$^{\blacktriangle}$" if mark == "▲" else r"$^{\blacktriangledown}$"
    if interval:
        text += rf" {{\scriptsize {interval.replace('−', '$-$')}}}"
    return text


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "×": r"$\times$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))
