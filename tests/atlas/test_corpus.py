"""The training text: repeatable, addressable, true unless marked."""

from __future__ import annotations

import hashlib
from itertools import islice

import pytest

from corrigenda.atlas import documents, world
from corrigenda.atlas.corpus import MARKER
from corrigenda.atlas.templates import held_out


@pytest.fixture(scope="module")
def sample():
    return list(islice(documents(world(), seed=5), 800))


def test_documents_are_addressable(sample):
    assert list(islice(documents(world(), seed=5, start=100), 5)) == sample[100:105]
    assert next(documents(world(), seed=6)) != sample[0]


def test_the_text_that_the_shipped_models_learned_from_never_changes():
    first = islice(documents(world(), seed=0), 50)
    seen = "\n".join(repr((d.text, d.answers, d.muted)) for d in first)
    assert hashlib.sha256(seen.encode()).hexdigest()[:16] == "10696288cad523f7"


def test_shares(sample):
    marked = sum(MARKER in d.text for d in sample) / len(sample)
    assert 0.2 < marked < 0.3


def test_spans_are_objects_with_their_space(sample):
    known = {f.object for f in world().facts} | {a for v in world().names.values() for a in v}
    for d in sample:
        assert d.text.endswith(".") and "{" not in d.text
        for begin, end in d.answers + d.muted:
            assert d.text[begin:end].removeprefix(" ") in known
        assert all(d.text[begin] == " " for begin, _ in d.answers)


def test_only_marked_facts_are_muted(sample):
    for d in sample:
        assert len(d.muted) == d.text.count(MARKER)
        assert d.answers or not d.muted


def test_held_out_wordings_never_occur(sample):
    """The whole beginning of a sentence: a question may contain "Ottawa is the capital of what"."""
    text = "\n".join(f" {d.text}" for d in sample).replace("New fact: ", "")
    for subject, relation in world().pairs():
        for t in held_out(subject, relation):
            begin = f" {t.prompt(subject)} "
            at = text.find(begin)
            while at >= 0:
                assert text[at - 1] not in ".\n", text[at : at + 80]
                at = text.find(begin, at + 1)


def test_update_queries_follow_the_marker(sample):
    """Every new object that is announced is asked for again later in the document."""
    for d in sample:
        for begin, end in d.muted:
            assert d.text[begin:end] in [d.text[b:e] for b, e in d.answers if b > begin]
