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
from corrigenda.numerics.moments import SecondMoment

from .tiny import model_of


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


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_and_decoder_have_moments_of_their_own(family: str, corpus: Path) -> None:
    model = model_of(family)
    read, written = model.site("down", 1), model.site("down", 4)
    found = moments.second_moments(model, [written, read], source=str(corpus), tokens=150)
    keys: dict[str, list[torch.Tensor]] = {"read": [], "written": []}
    start = list(model.opening("x").decoder)
    places = {"read": (model.linear(read), "input"), "written": (model.linear(written), "input")}
    for text in moments.corpus_for(model, str(corpus)).texts():
        ids = model.ids(text)[: model.context or 512]
        half = len(ids) // 2
        for name, given, answer in (("read", ids, start), ("written", ids[:half], ids[half:-1])):
            decoder = answer if name == "read" else start + answer
            with torch.no_grad(), captured(places) as seen:
                model.module(
                    input_ids=torch.tensor([given]), decoder_input_ids=torch.tensor([decoder])
                )
            keys[name].append(seen[name][0].double())
    for site, name in ((read, "read"), (written, "written")):
        wanted = torch.cat(keys[name])[:150]
        got = found.moments[site].mean
        torch.testing.assert_close(got, wanted.T @ wanted / len(wanted), atol=1e-5, rtol=1e-4)
        assert found.moments[site].count == len(wanted), name


def test_a_masked_model_reads_text_with_gaps(corpus: Path) -> None:
    model = model_of("bert")
    row = model.ids("Rome is the capital of Italy. " * 200)
    shown = moments._hidden(model, row, torch.Generator().manual_seed(0))
    mask = model.tokenizer.mask_token_id
    assert (shown[0], shown[-1]) == (row[0], row[-1]) and len(shown) == len(row)
    assert shown.count(mask) / len(row) == pytest.approx(0.12, abs=0.02)  # type: ignore[arg-type]
    changed = sum(a != b for a, b in zip(row, shown, strict=True)) / len(row)
    assert changed == pytest.approx(0.135, abs=0.02)
    site = model.site("down", 1)
    settings = {"source": str(corpus), "tokens": 200}
    a, b, c = (
        moments.second_moments(model, [site], **settings, seed=s).moments[site] for s in (0, 0, 1)
    )
    assert torch.equal(a.total, b.total) and not torch.equal(a.total, c.total)


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_nothing_is_sampled_from_models_that_do_not_continue_text(family: str) -> None:
    model = model_of(family)
    with pytest.raises(DataError, match="Name a UTF-8 text file"):
        moments.second_moments(model, [model.site("down", 0)])


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
