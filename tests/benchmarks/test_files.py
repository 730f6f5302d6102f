"""Rows of files: streamed, with their places, in every packing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.benchmarks import _files
from corrigenda.benchmarks._files import rows
from corrigenda.errors import DataError, InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    found=RECORDS, indent=st.sampled_from([None, 1]), ascii=st.booleans(), chunk=st.integers(1, 9)
)
def test_an_array_is_read_the_same_however_it_is_cut(tmp_path_factory, found, indent, ascii, chunk):
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(found, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    before, _files.CHUNK = _files.CHUNK, chunk
    try:
        assert [row for row, _ in rows(path)] == found
    finally:
        _files.CHUNK = before


@given(RECORDS)
def test_lines_and_arrays_hold_the_same(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("lines")
    lines = folder / "a.jsonl.gz"
    lines.write_bytes(gzip.compress("\n\n".join(map(json.dumps, found)).encode()))
    assert [row for row, _ in rows(lines)] == found


def test_an_array_takes_the_memory_of_a_record(tmp_path, monkeypatch):
    """The file is not read on while a record is at hand."""
    path = tmp_path / "large.json"
    path.write_text("[" + ",\n".join(json.dumps({"n": j, "x": "y" * 50}) for j in range(500)) + "]")
    monkeypatch.setattr(_files, "CHUNK", 100)
    with path.open() as file:
        found = _files._array(path, file, file.read(1)[1:], 1)
        assert next(found)[0]["n"] == 0
        assert file.tell() < 1000
        assert sum(1 for _ in found) == 499


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": }]', "line 2: not JSON"),
        ('[{"a": 1}\n', "line 2: not JSON .the array does not end"),
        ('[\n\n{"a": "b]', "line 3: not JSON"),
        ("[1, 2", "line 1: not JSON"),
        ('{"a": 1}\n{"a"\n{"a": 3}', "line 2: not JSON"),
        ('{\n"a": 1,\n"b" 2}', "line 3: not JSON"),
    ],
)
def test_what_is_no_json_is_named_by_its_line(tmp_path: Path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(rows(path))


def test_one_object_over_several_lines_is_a_record(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, 2]}, indent=2))
    assert list(rows(path)) == [({"a": [1, 2]}, f"{path}, record 1")]


def test_tables_have_named_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"two\nlines"\n3,4\n')
    assert list(rows(path)) == [
        ({"a": "1", "b": "two\nlines"}, f"{path}, line 3"),
        ({"a": "3", "b": "4"}, f"{path}, line 4"),
    ]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(list(rows(tmp_path / "b.csv.gz"))) == 2
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match="line 3: 2 columns are named"):
        list(rows(path))


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"corrigenda\[parquet\]"):
        list(rows(tmp_path / "a.parquet"))
