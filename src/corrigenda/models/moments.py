"""Second moments of a model's keys over text: what a closed-form editor must not disturb.

C = E[k kᵀ] over the inputs k of one linear map, uncentred, at every attended token of a corpus
(ROME, Meng et al. 2022, 2202.05262, appendix E.1). The text is the user's own file, text sampled
from the model itself, or Atlas's corpus. A masked model reads it as it was trained to, with 15% of
its tokens hidden; of an encoder-decoder the encoder reads whole texts, and for sites in the decoder
the first half of each text goes to the encoder and the second to the decoder. Results are cached by
weights, site, corpus and token count; partial sums are kept while they grow, so an interrupted
computation resumes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ..atlas.worlds import WORLDS, world_named, world_of
from ..cache import has_tensors, read_tensors, write_tensors
from ..errors import DataError, InputError
from ..experts import held
from ..model import Site
from ..numerics.moments import SecondMoment
from .hooks import captured, stopping
from .text import TextModel
from .tokens import Batch

__all__ = ["Corpus", "Statistics", "collected", "corpus_for", "second_moments"]

Progress = Callable[[int, int], None]
"""Called with (tokens so far, tokens wanted)."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text to average over. `digest` names its content; `texts` yields it from the start."""

    name: str
    digest: str
    texts: Callable[[], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Second moments of some sites and where they came from."""

    moments: dict[Site, SecondMoment]
    source: str
    tokens: int
    seconds: float
    warnings: tuple[str, ...] = ()

    def provenance(self) -> dict[str, object]:
        return {"source": self.source, "tokens": self.tokens}


def corpus_for(model: TextModel, source: str, *, seed: int = 0) -> Corpus:
    """The corpus that a source names: "auto", a world ("atlas", "census"), "samples", or the path
    of a text file.

    "auto" is the corpus of its world for an Atlas model and samples from the model itself for others.
    Raises `DataError` when the file is missing, not text, or empty, and for samples from a model
    that does not continue text.
    """
    if source == "auto":
        source = world_of(model.id).name if model.is_atlas else "samples"
    if source == "samples" and model.kind != "causal":
        raise DataError(
            f"{model.id} is {'a masked model' if model.kind == 'masked' else 'an encoder-decoder'}, "
            "from which no text can be sampled. Name a UTF-8 text file as corpus (statistics=...), "
            "or 'identity', with which other answers move more."
        )
    if source in WORLDS:
        from ..atlas.corpus import documents

        def texts() -> Iterator[str]:
            return (d.text for d in documents(world_named(source), seed))

        return Corpus(f"{source}:{seed}", f"{source}:{seed}", texts)
    if source == "samples":
        name = f"samples:{seed}"
        return Corpus(name, name, lambda: samples(model, seed=seed))
    path = Path(source)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise DataError(
            f"There is no corpus file {source!r}. Give a UTF-8 text file, or one of "
            f"auto, samples, {', '.join(WORLDS)}, identity."
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"The corpus {source!r} cannot be read as UTF-8 text: {error}.") from None
    if not text.strip():
        raise DataError(f"The corpus {source!r} is empty. Give a file with some text in it.")
    digest = hashlib.sha256(content).hexdigest()
    return Corpus(path.name, digest, lambda: _paragraphs(text))


def _paragraphs(text: str, size: int = 2000) -> Iterator[str]:
    """Pieces of about `size` characters, cut at line ends where there are any."""
    piece: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        for at in range(0, len(line), size):
            part = line[at : at + size]
            piece.append(part)
            length += len(part)
            if length >= size:
                yield "".join(piece)
                piece, length = [], 0
    if length:
        yield "".join(piece)


@torch.no_grad()
def samples(model: TextModel, *, seed: int, length: int = 64, rows: int = 32) -> Iterator[str]:
    """Text sampled from the model itself (temperature 1), endlessly, the same for a seed."""
    tokenizer = model.tokenizer
    start = model.start_id
    if start is None:
        raise InputError(
            f"{model.id} has no BOS or EOS token to sample text from. Pass a text file as corpus."
        )
    generator = torch.Generator().manual_seed(seed)
    while True:
        ids = torch.full((rows, 1), start, device=model.device)
        past = None
        for _ in range(length):
            out = model.module(
                input_ids=ids[:, -1:] if past is not None else ids,
                past_key_values=past,
                use_cache=True,
            )
            past = out.past_key_values
            probabilities = out.logits[:, -1].float().softmax(-1).cpu()
            new = torch.multinomial(probabilities, 1, generator=generator)
            ids = torch.cat([ids, new.to(ids.device)], 1)
        yield from tokenizer.batch_decode(ids, skip_special_tokens=True)


@torch.no_grad()
def second_moments(
    model: TextModel,
    sites: Iterable[Site],
    *,
    source: str = "auto",
    tokens: int = 100_000,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Statistics:
    """C at each site, from the cache or by running text through the model up to the last site.

    tokens  number of tokens to average over; fewer if the text ends before. At least as many as
            the site's input size are needed, or C has no inverse.
    source  see `corpus_for`; or "identity", which uses no text and is warned about.

    Raises `InputError` when the text has too few tokens. The pristine weights are used, whatever
    is live.
    """
    sites = sorted(set(sites), key=lambda s: (s.layer, s.module))
    started = time.perf_counter()
    sizes = {site: model.weight(site).shape[1] for site in sites}
    if source == "identity":
        message = (
            "Second moments are replaced by the identity: the edit does not know which keys are "
            "common, and other answers will move more. Pass a corpus to use real statistics."
        )
        moments = {
            site: SecondMoment.identity(sizes[site], blocks=_experts(model, site)) for site in sites
        }
        return Statistics(moments, "identity", 0, 0.0, (message,))
    corpus = corpus_for(model, source, seed=seed)
    keys = _keys(model, sites, corpus, tokens, seed)
    found: dict[Site, SecondMoment] = {}
    for site in sites:
        if (
            known := model.remembered(keys[site], lambda site=site: _stored(keys[site]))
        ) is not None:
            found[site] = known
    missing = [site for site in sites if site not in found]
    if missing:
        read = [s for s in missing if s.layer in model.prompt_layers]
        written = [s for s in missing if s not in read]
        with model.live.suspended(), model.frozen():
            for part in filter(None, (read, written)):
                found.update(
                    _collect(model, part, corpus, tokens, batch_size, keys, progress, seed)
                )
        for site in missing:
            model.forget(keys[site])
    for site in sites:
        if found[site].count < sizes[site]:
            raise InputError(
                f"The corpus {corpus.name} has {found[site].count} tokens, but the keys at "
                f"{site.module} have {sizes[site]} entries: at least that many tokens are needed, "
                "better ten times as many. Give more text, or use 'identity' and accept worse "
                "locality."
            )
    count = min(m.count for m in found.values())
    return Statistics(found, corpus.name, count, time.perf_counter() - started)


def collected(
    model: TextModel, sites: Iterable[Site], *, source: str, tokens: int, seed: int = 0
) -> bool:
    """Whether `second_moments` would find what it needs, or at least a beginning of it."""
    if source == "identity":
        return True
    keys = _keys(model, list(sites), corpus_for(model, source, seed=seed), tokens, seed)
    return all(has_tensors(key) for key in keys.values())


def _keys(
    model: TextModel, sites: Iterable[Site], corpus: Corpus, tokens: int, seed: int
) -> dict[Site, str]:
    """Under which name the second moments of each site are kept."""
    weights = model.weights_hash()
    hidden = [f"masked:{seed}"] if model.kind == "masked" else []
    return {
        site: f"moment-{_digest(weights, site.module, corpus.digest, str(tokens), *hidden)}"
        for site in sites
    }


def _stored(key: str) -> SecondMoment | None:
    stored = read_tensors(key)
    return None if stored is None else SecondMoment(stored["total"], int(stored["count"]))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _collect(
    model: TextModel,
    sites: list[Site],
    corpus: Corpus,
    tokens: int,
    batch_size: int,
    keys: dict[Site, str],
    progress: Progress | None,
    seed: int,
) -> dict[Site, SecondMoment]:
    """Stream texts until `tokens` are seen. Every so often the sums so far are stored together
    with the number of batches in them, and a later call goes on from there."""
    partial = f"partial-{_digest(*(keys[s] for s in sites))}"
    stored = read_tensors(partial)
    start = int(stored["batches"]) if stored else 0
    sums = {
        site: SecondMoment(stored[f"total.{j}"], int(stored["count"]))
        if stored
        else SecondMoment.zero(model.weight(site).shape[1], blocks=_experts(model, site))
        for j, site in enumerate(sites)
    }
    limit = min(model.context or 512, 512)
    saved = time.monotonic()
    batches = _batches(corpus.texts(), batch_size)
    reads = {str(j): (model.linear(site), "input") for j, site in enumerate(sites)}
    for number, texts in enumerate(batches):
        have = sums[sites[0]].count
        if have >= tokens:
            break
        if number < start:
            continue
        ids = [model.ids(t)[:limit] for t in texts]
        if model.kind == "masked":
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            ids = [_hidden(model, row, generator) for row in ids]
        options: dict[str, Batch] = {}
        if sites[0].layer not in model.prompt_layers:
            rows, options["decoder"] = _halves(model, ids)
            mask = options["decoder"].mask.bool()
        else:
            rows = model.batch(ids, side="right")
            mask = rows.mask.bool()
        with captured(reads) as inputs, stopping(model.linear(sites[-1])):
            model.forward(rows, **options)
        for j, site in enumerate(sites):
            x = inputs[str(j)].reshape(*mask.shape, -1)[mask]
            sums[site] = sums[site].plus(x[: tokens - have])
        if progress is not None:
            progress(min(sums[sites[0]].count, tokens), tokens)
        if time.monotonic() - saved > 30:
            saved = time.monotonic()
            tensors = {f"total.{j}": sums[site].total for j, site in enumerate(sites)}
            counts = {"count": sums[sites[0]].count, "batches": number + 1}
            write_tensors(partial, tensors | {k: torch.tensor(v) for k, v in counts.items()})
    for site in sites:
        total, count = sums[site].total.cpu(), sums[site].count
        sums[site] = SecondMoment(total, count)
        write_tensors(keys[site], {"total": total, "count": torch.tensor(count)})
    return sums


def _experts(model: TextModel, site: Site) -> int:
    """How many experts the site is a stack of; 0 for a plain map."""
    return held(model.linear(site))


def _hidden(model: TextModel, ids: list[int], generator: torch.Generator) -> list[int]:
    """Tokens as a masked model sees them in training: 15% are chosen, of which 80% become the mask,
    10% a random token, and 10% stay (BERT, Devlin et al. 2018, 1810.04805)."""
    special = set(model.tokenizer.all_special_ids)
    draws = torch.rand(len(ids), 2, generator=generator).tolist()
    others = torch.randint(len(model.tokenizer), (len(ids),), generator=generator).tolist()
    mask = int(model.tokenizer.mask_token_id)  # type: ignore[arg-type]
    return [
        token
        if token in special or chosen >= 0.15
        else mask
        if fate < 0.8
        else other
        if fate < 0.9
        else token
        for token, (chosen, fate), other in zip(ids, draws, others, strict=True)
    ]


def _halves(model: TextModel, rows: list[list[int]]) -> tuple[Batch, Batch]:
    """What the encoder reads, and what the decoder is given, its start token first."""
    start = model.opening("").decoder
    cuts = [(row[: len(row) // 2], row[len(row) // 2 :]) for row in rows]
    return (
        model.batch([read or row for (read, _), row in zip(cuts, rows, strict=True)]),
        model.batch([[*start, *written[:-1]] for _, written in cuts]),
    )


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = (t for t in texts if t.strip())
    while chunk := list(islice(iterator, size)):
        yield chunk
