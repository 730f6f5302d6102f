"""Second moments: C = E[k kᵀ] over attended tokens, cached, resumable, with clear errors."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from corrigenda.delta import Delta, LowRank
from corrigenda.errors import DataError, InputError
from corrigenda.models import moments
from corrigenda.models.hooks import captured
from corrigenda.models.text import TextModel
from corrigenda.numerics.moments import SecondMoment

from .tiny import tiny


def model_of(family: str, seed: int = 0) -> TextModel:
    module, tokenizer = tiny(family, seed)
    return TextModel(module, tokenizer, family)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    lines = [
        f"Rome {j} is the capital of Italy, and the Louvre {j} is in Paris." for j in range(40)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_it_is_the_mean_outer_product_of_keys(family: str, corpus: Path) -> None:
    model = model_of(family)
    site = model.site("down", 1)
    found = moments.second_moments(model, [site], source=str(corpus), tokens=200, batch_size=3)
    keys = []
    for text in moments.corpus_for(model, str(corpus)).texts():
        ids = torch.tensor([model.ids(text)[:128]])
        with torch.no_grad(), captured({"k": (model.linear(site), "input")}) as seen:
            model.module(ids)
        keys.append(seen["k"].reshape(ids.shape[1], -1).double())
    wanted = torch.cat(keys)[:200]
    assert found.moments[site].count == found.tokens == 200
    got = found.moments[site].mean
    torch.testing.assert_close(got, wanted.T @ wanted / 200, atol=1e-5, rtol=1e-4)
    assert found.source == "corpus.txt"


def test_it_is_computed_once_and_on_the_pristine_weights(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "cache"))
    model = model_of("gpt2")
    site = model.site("down", 1)
    o, i = model.weight(site).shape
    below = model.site("down", 0)
    delta = Delta(
        {below.parameter: LowRank(torch.ones(o, 1), torch.ones(1, i))}, frozenset({below.parameter})
    )
    with delta.applied(model):
        edited = moments.second_moments(model, [site], source=str(corpus), tokens=200)
    monkeypatch.setattr(moments, "_collect", None)  # a second computation would fail
    again = moments.second_moments(model, [site], source=str(corpus), tokens=200)
    assert torch.equal(edited.moments[site].total, again.moments[site].total)


def test_an_interrupted_computation_goes_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_of("gpt2")
    site = model.site("down", 1)
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "whole"))
    whole = moments.second_moments(model, [site], source=str(corpus), tokens=300, batch_size=1)
    monkeypatch.setenv("CORRIGENDA_CACHE", str(tmp_path / "broken"))
    clock = iter(range(0, 10_000, 40))  # every batch is past the saving interval
    monkeypatch.setattr(moments.time, "monotonic", lambda: next(clock))
    calls: list[int] = []

    def interrupt(done: int, _wanted: int) -> None:
        calls.append(done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moments.second_moments(
            model, [site], source=str(corpus), tokens=300, batch_size=1, progress=interrupt
        )
    seen: list[int] = []
    found = moments.second_moments(
        model,
        [site],
        source=str(corpus),
        tokens=300,
        batch_size=1,
        progress=lambda done, _: seen.append(done),
    )
    assert seen[0] > calls[0], "the first batch was not read again"
    torch.testing.assert_close(found.moments[site].total, whole.moments[site].total)
    assert found.moments[site].count == whole.moments[site].count


def test_text_sampled_from_the_model_is_the_same_for_a_seed() -> None:
    model = model_of("gpt2")
    take = lambda seed: list(islice(moments.samples(model, seed=seed, length=5, rows=2), 4))  # noqa: E731
    assert take(1) == take(1) != take(2)


def test_bad_corpora_are_named(tmp_path: Path) -> None:
    model = model_of("gpt2")
    sites = [model.site("down", 0)]
    with pytest.raises(DataError, match="no corpus file"):
        moments.second_moments(model, sites, source=str(tmp_path / "none.txt"))
    empty, binary, short = tmp_path / "empty.txt", tmp_path / "x.bin", tmp_path / "short.txt"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    short.write_text("Rome is in Italy.")
    with pytest.raises(DataError, match="empty"):
        moments.second_moments(model, sites, source=str(empty))
    with pytest.raises(DataError, match="UTF-8"):
        moments.second_moments(model, sites, source=str(binary))
    with pytest.raises(InputError, match="at least that many tokens"):
        moments.second_moments(model, sites, source=str(short))


def test_sums_merge() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    whole = SecondMoment.zero(4).plus(x)
    parts = SecondMoment.zero(4).plus(x[:11]).merged(SecondMoment.zero(4).plus(x[11:]))
    torch.testing.assert_close(whole.mean, parts.mean)
    with pytest.raises(ValueError, match="No keys"):
        _ = SecondMoment.zero(4).mean
