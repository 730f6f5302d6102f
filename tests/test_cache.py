from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigenda.cache import cache_dir, cached_tensors, cached_value


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors, self.calls = tensors, 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return self.tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a
    )


def test_where_it_is(home, monkeypatch):
    assert cache_dir() == home
    monkeypatch.setenv("CORRIGENDA_CACHE", "~/x")
    assert cache_dir() == Path.home() / "x"
    monkeypatch.delenv("CORRIGENDA_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/corrigenda")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "corrigenda"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "corrigenda"


def test_made_once_per_key(home):
    make = Maker(C=torch.randn(3, 3, dtype=torch.float64), n=torch.tensor(7), e=torch.empty(0, 2))
    first, second = cached_tensors("a", make), cached_tensors("a", make)
    assert make.calls == 1 and same(first, make.tensors) and same(second, make.tensors)
    cached_tensors("b", make)
    assert make.calls == 2
    assert len(list(home.rglob("*.safetensors"))) == 2
    assert not list(home.rglob("*.part"))


def test_views_and_shared_memory_are_kept(home):
    whole = torch.randn(4, 4)
    make = Maker(a=whole.T, b=whole[:, 1], c=whole)
    cached_tensors("k", make)
    assert same(cached_tensors("k", make), make.tensors) and make.calls == 1


@settings(deadline=None, max_examples=80)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_damaged_entries_are_made_again(tmp_path_factory, at, flip, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRIGENDA_CACHE", str(tmp_path_factory.mktemp("c")))
        make = Maker(C=torch.arange(6.0).reshape(2, 3))
        cached_tensors("k", make)
        (entry,) = cache_dir().rglob("*.safetensors")
        data = bytearray(entry.read_bytes())
        place = int(at * len(data))
        if cut:
            data = data[:place]
        else:
            data[place] ^= flip
        entry.write_bytes(data)
        assert same(cached_tensors("k", make), make.tensors)
        # Whatever was not made again is right all the same (a byte of padding, say).
        assert same(cached_tensors("k", make), make.tensors) and make.calls <= 2


def test_an_entry_of_another_key_is_not_taken(home):
    cached_tensors("a", Maker(C=torch.ones(2)))
    (a,) = home.rglob("*.safetensors")
    data = a.read_bytes()
    cached_tensors("b", Maker(C=torch.zeros(2)))
    (b,) = (p for p in home.rglob("*.safetensors") if p != a)
    b.write_bytes(data)
    make = Maker(C=torch.zeros(2))
    assert same(cached_tensors("b", make), make.tensors) and make.calls == 1


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "file"))
    make = Maker(C=torch.ones(2))
    with pytest.warns(UserWarning, match="CORRIGENDA_CACHE"):
        assert same(cached_tensors("a", make), make.tensors)


def test_what_fails_to_be_made_leaves_nothing(home):
    def fail() -> dict[str, torch.Tensor]:
        raise RuntimeError("no corpus")

    with pytest.raises(RuntimeError, match="no corpus"):
        cached_tensors("a", fail)
    assert not home.exists()


def test_a_plain_value_is_made_once_and_again_when_damaged(home):
    calls = []

    def make():
        calls.append(1)
        return [{"text": "né", "score": 0.1}, None]

    first = cached_value("a", make)
    assert cached_value("a", make) == first == [{"text": "né", "score": 0.1}, None]
    assert len(calls) == 1
    (path,) = (home / "values").iterdir()
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.2"))
    assert cached_value("a", make) == first and len(calls) == 2
    path.write_bytes(path.read_bytes()[:-20])
    assert cached_value("a", make) == first and len(calls) == 3
