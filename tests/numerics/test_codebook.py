from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.numerics.codebook import Codebook, Entry, fold, fold_rows

modes = pytest.mark.parametrize("centre", ["first", "mean"])
# Keys on a coarse grid: they coincide, stand in line and half way between others all the time.
entry = st.builds(
    lambda x, y, label, radius: Entry(torch.tensor([x, y]) / 2.0, label, radius),
    st.integers(-6, 6), st.integers(-6, 6), st.sampled_from(["AB", "C"]),
    st.sampled_from([0.3, 1.0, 2.5]),
)  # fmt: skip
entries = st.lists(entry, max_size=14)


def at(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)


def line(*triples) -> list[Entry]:
    return [Entry(at(x), label, radius) for x, label, radius in triples]


def balls(book: Codebook) -> list[tuple[float, float]]:
    return [
        (round(float(c), 4), round(float(r), 4))
        for c, r in zip(book.centres[:, 0], book.radii, strict=True)
    ]


def label_at(book: Codebook, listed: list[Entry], point: torch.Tensor):
    index = int(book.lookup(point[None])[0])
    return None if index < 0 else listed[index].label


# -- the rules ------------------------------------------------------------------------------------


@modes
def test_a_key_outside_of_all_balls_gets_its_own(centre):
    assert balls(fold(line((0, "A", 1), (2.1, "A", 1), (-5, "B", 2)), centre=centre)) == [
        (0, 1), (2.1, 1), (-5, 2),
    ]  # fmt: skip


def test_a_like_key_nearby_expands_the_ball():
    book = fold(line((0, "A", 1), (1.5, "A", 1), (3, "A", 1)))
    assert balls(book) == [(0, 1.5), (3, 1)] and book.members == ((0, 1), (2,))
    assert balls(fold(line((0, "A", 1), (0.5, "A", 1)))) == [(0, 1)]


def test_melo_moves_the_centre_to_the_mean():
    book = fold(line((0, "A", 1), (1.5, "A", 1), (1.8, "A", 1)), centre="mean")
    assert balls(book) == [(1.1, 1.1)]
    assert book.members == ((0, 1, 2),)


@modes
def test_a_conflict_ends_half_way(centre):
    book = fold(line((0, "A", 1), (1, "B", 1)), centre=centre)
    assert balls(book) == [(0, 0.5), (1, 0.5)]
    assert float(book.radii.sum()) < 1
    listed = line((0, "A", 1), (1, "B", 1))
    assert [label_at(book, listed, at(x)) for x in (0.49, 0.51)] == ["A", "B"]


@modes
def test_third_keys_are_kept_apart_too(centre):
    """The nearest ball is of another label and small; the one behind it is large."""
    listed = line((0, "A", 3.4), (4, "C", 0.2), (3.5, "B", 2))
    book = fold(listed, centre=centre)
    assert balls(book) == [(0, 1.75), (4, 0.2), (3.5, 0.25)]
    assert label_at(book, listed, at(3.5)) == "B"


def test_a_ball_does_not_expand_over_another_label():
    """Taking 1.6 in would reach from 0 to -1.6, over the key of B."""
    listed = line((0, "A", 1), (-1.5, "B", 0.3), (1.6, "A", 1))
    book = fold(listed)
    assert balls(book) == [(0, 1), (-1.5, 0.3), (1.6, 1)]


def test_what_falls_out_of_a_split_ball_gets_its_own():
    listed = line((0, "A", 1), (1.5, "A", 1), (1, "B", 1))
    book = fold(listed)
    assert [label_at(book, listed, e.key) for e in listed] == ["A", "A", "B"]
    assert balls(book) == [(0, 0.5), (1, 0.25), (1.5, 0.25)]
    assert book.owners.tolist() == [0, 2, 1]


def test_a_mean_that_is_another_key_gives_way():
    listed = line((-1, "A", 1), (1, "A", 1), (0, "B", 0.5))
    book = fold(listed, centre="mean")
    assert [label_at(book, listed, e.key) for e in listed] == ["A", "A", "B"]
    assert balls(book) == [(0, 0.5), (-1, 0.5), (1, 0.5)]


@modes
def test_the_last_answer_to_one_question_counts_until_it_is_undone(centre):
    listed = line((1, "A", 1), (1 + 1e-8, "B", 1))
    book = fold(listed, centre=centre)
    assert balls(book) == [(1, 1)] and book.owners.tolist() == [1]
    assert balls(fold(listed[:1], centre=centre)) == [(1, 1)]
    assert fold(line((1, "A", 1), (1, "B", 1), (1, "A", 1)), centre=centre).owners.tolist() == [2]


# -- the properties -------------------------------------------------------------------------------


@modes
@settings(max_examples=60)
@given(listed=entries.filter(len), data=st.data())
def test_to_go_on_from_some_entries_is_to_fold_all(centre, listed, data):
    keys = torch.stack([e.key for e in listed])
    labels, radii = [e.label for e in listed], [e.radius for e in listed]
    whole, begun, at = fold(listed, centre=centre), None, 0
    while at < len(listed):
        at = data.draw(st.integers(at + 1, len(listed)))
        begun = fold_rows(keys[:at], labels[:at], radii[:at], centre=centre, begun=begun)
    assert torch.equal(begun.centres, whole.centres) and torch.equal(begun.radii, whole.radii)
    assert (begun.members, begun.folded) == (whole.members, len(listed))


@modes
@settings(max_examples=60)
@given(listed=entries)
def test_balls_of_different_labels_never_meet(centre, listed):
    book = fold(listed, centre=centre)
    gaps = torch.cdist(book.centres, book.centres)
    for a in range(len(book)):
        for b in range(a):
            if listed[book.owners[a]].label != listed[book.owners[b]].label:
                assert float(gaps[a, b]) > float(book.radii[a] + book.radii[b])


@modes
@settings(max_examples=60)
@given(listed=entries)
def test_every_entry_is_answered_with_its_label(centre, listed):
    book = fold(listed, centre=centre)
    for i, mine in enumerate(listed):
        after = [e.label for e in listed[i:] if torch.equal(e.key, mine.key)]
        assert label_at(book, listed, mine.key) == after[-1]


@modes
@given(listed=entries)
def test_every_entry_has_one_ball_that_holds_its_key(centre, listed):
    book = fold(listed, centre=centre)
    kept = [i for members in book.members for i in members]
    assert len(kept) == len(set(kept))
    for ball, members in enumerate(book.members):
        for i in members:
            distance = (listed[i].key.double() - book.centres[ball]).norm()
            assert float(distance) <= float(book.radii[ball])
            assert listed[i].label == listed[members[0]].label
    replaced = set(range(len(listed))) - set(kept)
    for i in replaced:
        later = [e.label for e in listed[i + 1 :] if torch.equal(e.key, listed[i].key)]
        assert any(label != listed[i].label for label in later)
    if centre == "first":
        assert all(torch.equal(c, listed[o].key.double())
                   for c, o in zip(book.centres, book.owners.tolist(), strict=True))  # fmt: skip


@modes
@settings(max_examples=30)
@given(listed=entries, seed=st.integers(0, 10**6))
def test_lookup_is_the_definition_row_by_row(centre, listed, seed):
    book = fold(listed, centre=centre)
    generator = torch.Generator().manual_seed(seed)
    queries = torch.cat(
        [4 * torch.randn(20, 2, generator=generator), *[e.key[None] for e in listed]]
    )
    found, distance = book.lookup(queries, block=7)
    for row, query in enumerate(queries):
        gaps = [float((query.double() - c).norm()) for c in book.centres]
        inside = [g for g, r in zip(gaps, book.radii, strict=True) if g <= float(r)]
        assert (int(found[row]) < 0) == (not inside)
        assert float(distance[row]) == min(inside, default=float("inf"))
        if inside:
            assert gaps[book.owners.tolist().index(int(found[row]))] == min(inside)
        alone = book.lookup(query[None])
        assert torch.equal(alone[0][0], found[row]) and torch.equal(alone[1][0], distance[row])


def test_lookup_is_exact_far_from_the_origin():
    """Where the rounding of the norms exceeds the radii."""
    base = 1e6 * torch.ones(64, dtype=torch.float64)
    step = torch.zeros(64, dtype=torch.float64)
    step[0] = 1.0
    listed = [Entry(base, "A", 1e-3), Entry(base + step, "B", 1e-3)]
    book = fold(listed, same=0.0)
    queries = torch.stack([base, base + 0.0009 * step, base + 0.0011 * step, base + step])
    assert book.lookup(queries)[0].tolist() == [0, 0, -1, 1]


def test_many_entries_and_queries():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(300, 32, generator=generator)
    listed = [Entry(k, j % 7, 1.0) for j, k in enumerate(keys)]
    book = fold(listed)
    near = torch.nn.functional.normalize(torch.randn(300, 32, generator=generator), dim=1)
    assert book.lookup(keys + 0.9 * near)[0].tolist() == list(range(300))
    assert book.lookup(keys + 1.1 * near)[0].tolist() == [-1] * 300


# -- the edges ------------------------------------------------------------------------------------


def test_the_empty_codebook_answers_nothing():
    book = fold([])
    found, distance = book.lookup(torch.randn(3, 5))
    assert len(book) == 0 and found.tolist() == [-1] * 3 and distance.tolist() == [float("inf")] * 3
    assert fold(line((0, "A", 1))).lookup(torch.zeros(0, 1))[0].tolist() == []


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match="one width"):
        fold([Entry(at(0.0), "A", 1), Entry(at(0.0, 1.0), "A", 1)])
    with pytest.raises(ValueError, match="positive"):
        fold(line((0, "A", 0)))
    with pytest.raises(ValueError, match="not finite"):
        fold(line((float("nan"), "A", 1)))
    with pytest.raises(ValueError, match="width 1"):
        fold(line((0, "A", 1))).lookup(torch.zeros(2, 3))
