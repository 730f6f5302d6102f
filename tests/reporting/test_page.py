"""The HTML page: it stands alone, it is sound, and nothing that a model wrote can break it."""

from __future__ import annotations

import html.parser
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.errors import InputError, UnknownNameError
from corrigenda.evaluate import evaluate
from corrigenda.report import Report
from corrigenda.reporting.html import Markup, element, joined, safe, table
from corrigenda.reporting.lifelong import Lifelong
from corrigenda.reporting.page import page
from tests.lookup_model import Flip, Forgetful, LookupModel, Refusing, Weak, case

CASES = [case(j) for j in range(12)]


class Page(html.parser.HTMLParser):
    """Checks that elements close in order, and collects what the page refers to."""

    VOID = frozenset({"meta", "line", "rect", "circle", "path", "polyline", "polygon", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(LookupModel(), Refusing(subjects=("S1",)), CASES[:6])


@pytest.fixture(scope="module")
def sequence() -> Report:
    return evaluate(LookupModel(), Forgetful(), CASES[:6], mode="sequential")


def labelled(report: Report, label: str) -> Report:
    return replace(report, environment=report.environment | {"label": label})


@pytest.fixture(scope="module")
def many(sequence: Report) -> list[Report]:
    """Three methods on one board, and a sequence on another."""
    model = LookupModel(subjects=12)
    with pytest.warns(RuntimeWarning):
        weak = evaluate(model, Weak(), CASES)
    return [
        evaluate(model, Flip(), CASES),
        weak,
        labelled(evaluate(model, Flip(strength=60.0), CASES), "loud"),
        sequence,
    ]


def plots(text: str) -> int:
    return text.count('<svg class="plot"')


def test_the_page_stands_alone(report, sequence, many):
    for text in (report.to_html(), sequence.to_html(), page(many)):
        found = Page(text)
        assert all(link.startswith("#") for link in found.links)
        assert {link[1:] for link in found.links} <= set(found.ids)
        assert not {"script", "img", "iframe", "link", "object"} & set(found.seen)
        assert not re.search(r"https?://|@import|url\(", text)
        assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_every_table_has_a_caption_and_every_column_a_scope(many):
    text = page(many)
    assert text.count("<table") == text.count("<caption>") == text.count('role="region"')
    assert '<th scope="col"' in text and '<th scope="row"' in text
    assert all(f"<{tag}" in text for tag in ("details", "summary", "nav", "main"))
    assert (
        plots(text) == len(re.findall(r'<svg class="plot" [^>]*role="img" aria-label="', text)) > 5
    )


def test_the_page_shows_scores_failures_and_worst_cases(report):
    text = report.to_html()
    for part in ("83.3", "unedited 0.0", "1 edit raised an error", "UnstableEditError: refused",
                 "What went worst", "S1 is in → Rome", "time per edit", "got before"):  # fmt: skip
        assert part in text


def test_the_page_shows_the_retention_curve(sequence):
    text = sequence.to_html()
    assert re.search(r'forgetful</th><td class="n">0</td><td class="n">1</td>', text)  # CP@60 is 1
    assert 'class="curve"' in text
    assert "forgetful, after 6 edits: 16.7" in text
    assert plots(text) == 6  # five scores and the curve


def test_methods_stand_on_one_board_with_tests_against_the_baseline(many):
    text = page(many, baseline="weak")
    assert text.count('class="board"') >= 2
    assert "better or worse than weak on the same records" in text
    assert 'aria-label="better than weak, p = 0.' in text
    assert "McNemar" in text
    boards = re.findall(r"<h2>(.*?)</h2>", text)
    assert boards == [
        "lookup, 12 edits of lookup, each edit alone",
        "lookup, 6 edits of lookup, one edit on top of the other",
        "How it was made",
    ]
    with pytest.raises(UnknownNameError, match="Did you mean weak"):
        page(many, baseline="weal")


def test_a_method_has_one_colour_on_the_whole_page(many):
    text = page(many)
    marks = re.findall(r'<svg class="key (\w+)"[^>]*>.*?</svg> ?(\w+)', text)
    by_name: dict[str, set[str]] = {}
    for color, name in marks:
        by_name.setdefault(name, set()).add(color)
    assert all(len(colors) == 1 for colors in by_name.values())
    assert len({tuple(by_name[name]) for name in ("flip", "weak", "loud", "forgetful")}) == 4


def test_how_to_make_it_again_is_on_the_page(many):
    text = page(many, command="corrigenda sweep grid.toml", grid='editors = ["<flip>"]')
    assert "corrigenda sweep grid.toml" in text
    assert "editors = [&quot;&lt;flip&gt;&quot;]" in text
    assert many[0].environment["model"]["weights"][:16] in text
    assert "one job failed" in page(many, remarks=["one job failed"])


def test_long_sequences_are_drawn(many):
    long = Lifelong({"flip": [(1, 1, 1, 1), (1000, 0.5, 0.4, 0.6)]}, {"flip": 3}, "corrigenda x")
    text = page(many, lifelong=[long])
    Page(text)
    assert "flip, after 1000 edits: 50.0 [40.0, 60.0]" in text
    assert "Long sequences" in page([], lifelong=[long])
    with pytest.raises(InputError, match="no report"):
        page([])


def test_text_from_data_and_models_is_escaped():
    class Rude(LookupModel):
        id = "<b>model</b>"

        def generate(self, prompts, *, max_new_tokens=16, batch_size=64, until=None):
            return ["<script>alert('x')</script>"] * len(prompts)

    edit = Rewrite("<i>{}</i> is in", "S1", "Rome", "Paris", "<rel>")
    other = Rewrite("<i>{}</i> was in", "S2", "Rome", "Paris", "<other>")
    probes = (Probe("S1 & <u>co</u> is in", ("Rome",), "generalization", "a<b"),)
    cases = [Case(edit, probes, "<id>", "<source>"), Case(other, probes, "<id2>", "<source>")]
    made = [evaluate(Rude(), method, cases, command="<command>") for method in (Flip(), Refusing())]
    made = [made[0], labelled(made[1], "<label>")]
    for text in (made[0].to_html(), page(made, title="<title>", grid="<grid>", remarks=["<re>"])):
        Page(text)
        for bad in ("<script>", "<b>model", "<i>S1", "<u>co", "a<b", "<id>", "<source>", "<rel>",
                    "<label>", "<command>", "<grid>", "<re>", "<title><"):  # fmt: skip
            assert bad not in text
        assert "&lt;script&gt;" in text


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    class Reader(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__(convert_charrefs=True)
            self.said: list[str] = []
            self.tags: list[str] = []

        def handle_data(self, data):
            self.said.append(data)

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)
            assert {name for name, _ in attrs} <= {
                "scope", "class", "tabindex", "role", "aria-label", "title",
            }  # fmt: skip

    reader = Reader()
    reader.feed(table(text, [text], [[text]]) + element("p", text, title=text) + joined([text]))
    reader.close()
    assert set(reader.tags) <= {
        "div",
        "table",
        "caption",
        "span",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
    }
    assert "".join(reader.said) == 5 * text
    assert isinstance(safe(text), Markup) and safe(safe(text)) == safe(text)
