"""Generation for many clients at once: one thread that runs every state of the model in turn.

Requests for one state share its forward passes. New ones are read (prefill) as a group and then
join the rows under way, whose cached keys and values are padded on the left to one length; rows
that are done leave at once. Where a cache cannot be padded so (sliding windows), or changes of
activations remember what they decided about each prompt, groups stay as they are and take turns.
Encoder-decoders go the same way without joining; a masked model fills its gap in one call.

Everything is bounded: rows at work, requests that wait (more are refused with `Busy`), tokens of an
answer. The thread hands out pieces of text once per step; a client that reads slowly gets them in
one, and one that has gone takes its row out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from ..errors import CorrigendaError, InputError
from ..models.text import TextModel
from .decoding import Detokenizer, Sampling, Stops, TokenLogprob, choose, logprobs_of
from .refusals import Busy

__all__ = ["Ask", "Engine", "Limits", "Piece", "Stream"]

log = logging.getLogger("corrigenda.serving")


@dataclass(frozen=True, slots=True)
class Limits:
    """What generation may take.

    rows     answers written at once.
    groups   groups of rows that take turns where they cannot be joined.
    waiting  requests that may wait for a place.
    tokens   longest answer.
    prefill  tokens, padding included, that are read in one pass.
    """

    rows: int = 64
    groups: int = 8
    waiting: int = 256
    tokens: int = 4096
    prefill: int = 16_384


@dataclass(frozen=True, slots=True)
class Ask:
    """What to answer: a text to continue, a conversation, or tokens.

    turns  of a conversation, for a model with a chat template; `prompt` is the last of them then.
    ids    tokens in place of a text; changes of the prompt do not concern them.
    """

    prompt: str
    sampling: Sampling
    turns: tuple[Mapping[str, str], ...] = ()
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. finish: "stop" or "length" with the last one."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None


class Stream:
    """One answer as it is written: fed by the engine's thread, read in the event loop."""

    def __init__(self, model: TextModel, ask: Ask) -> None:
        self.model, self.ask = model, ask
        self.prompt_tokens = self.completion_tokens = 0
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._pieces: list[Piece] = []
        self._error: Exception | None = None

    def cancel(self) -> None:
        """Nobody reads this any more: its row leaves at the next step."""
        self.cancelled = True

    async def pieces(self) -> AsyncIterator[Piece]:
        """The answer in parts, those that have come meanwhile in one. Raises what went wrong."""
        try:
            while True:
                await self._ready.wait()
                self._ready.clear()
                found, self._pieces = self._pieces, []
                if found:
                    yield Piece(
                        "".join(p.text for p in found),
                        tuple(one for p in found for one in p.logprobs),
                        found[-1].finish,
                    )
                    if found[-1].finish:
                        return
                if self._error is not None:
                    raise self._error
        finally:
            self.cancel()

    def feed(self, piece: Piece | Exception) -> None:
        """Called in the event loop."""
        if isinstance(piece, Exception):
            self._error = piece
        else:
            self._pieces.append(piece)
        self._ready.set()


class Engine:
    """Answers requests of every state in one thread. Start it once, stop it when the server ends."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._waiting: deque[Stream] = deque()
        self._changed = threading.Condition()
        self._groups: list[_Group] = []
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; answers under way end with an error."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, model: TextModel, asks: Sequence[Ask]) -> list[Stream]:
        """Start some answers. Called in the event loop.

        Raises `Busy` when too many wait already, or the engine has stopped.
        """
        streams = [Stream(model, ask) for ask in asks]
        with self._changed:
            if self._stopped:
                raise Busy("The server is shutting down.")
            if len(self._waiting) + len(streams) > self.limits.waiting:
                raise Busy(
                    f"{len(self._waiting)} requests are waiting already. Try again in a moment, or "
                    "ask for fewer answers at once."
                )
            self._waiting.extend(streams)
            self._changed.notify()
        return streams

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        with torch.no_grad():
            while True:
                with self._changed:
                    while not (self._waiting or self._groups or self._stopped):
                        self._changed.wait()
                    if self._stopped:
                        break
                    new = self._admitted()
                if new:
                    self._begin(new)
                for group in list(self._groups):
                    self._step(group)
        left = [*self._waiting, *(row.stream for group in self._groups for row in group.rows)]
        _deliver([(stream, Busy("The server is shutting down.")) for stream in left])

    def _admitted(self) -> list[Stream]:
        """Those that begin now: all for the state of the one that has waited longest."""
        while self._waiting and self._waiting[0].cancelled:
            self._waiting.popleft()
        room = self.limits.rows - sum(len(group.rows) for group in self._groups)
        if not self._waiting or room < 1 or len(self._groups) >= self.limits.groups:
            return []
        model = self._waiting[0].model
        mine = [s for s in self._waiting if s.model is model and not s.cancelled][:room]
        chosen = set(map(id, mine))
        self._waiting = deque(s for s in self._waiting if id(s) not in chosen and not s.cancelled)
        return mine

    def _begin(self, streams: list[Stream]) -> None:
        """Read the prompts of some requests of one state."""
        model = streams[0].model
        if model.kind == "masked":
            self._fill(model, streams)
            return
        rows: dict[TextModel, list[_Row]] = {}
        for stream, found in zip(streams, _prompts(model, [s.ask for s in streams]), strict=True):
            if isinstance(found, Exception):
                _deliver([(stream, found)])
                continue
            by, ids = found
            try:
                row = _Row(stream, by, ids, self.limits)
            except CorrigendaError as error:
                _deliver([(stream, error)])
                continue
            rows.setdefault(by, []).append(row)
        for by, mine in rows.items():
            for part in _parts(mine, self.limits.prefill):
                group = _GROUPS[by.kind](by, part)
                self._groups.append(group)
                self._step(group)
                self._join(group)

    def _join(self, new: _Group) -> None:
        """Let a group that has read its prompts go on with the rows of the same state."""
        if new not in self._groups:
            return
        for group in self._groups:
            if group is not new and group.model is new.model and group.joins(new):
                group.join(new)
                self._groups.remove(new)
                return

    def _step(self, group: _Group) -> None:
        """One more token for every row of a group."""
        try:
            if group.leaves(row for row in group.rows if row.stream.cancelled):
                _deliver(group.step())
                group.leaves(row for row in group.rows if row.done)
        except Exception as error:
            log.exception("generation failed")
            _deliver([(row.stream, _told(error)) for row in group.rows if not row.done])
            group.rows = []
        if not group.rows and group in self._groups:
            self._groups.remove(group)

    def _fill(self, model: TextModel, streams: list[Stream]) -> None:
        """Answers of a masked model, each whole at once."""
        for stream in streams:
            try:
                ask = stream.ask
                most = ask.sampling.max_tokens or self.limits.tokens
                prompt = model.tokenizer.decode(ask.ids) if ask.ids else ask.prompt
                (text,) = model.generate([str(prompt)], max_new_tokens=most)
                stream.prompt_tokens = len(model.ids(str(prompt)))
                ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
                stream.completion_tokens = len(ids)  # type: ignore[arg-type]
                stops = Stops(ask.sampling.stop)
                shown = stops.add(text)
                _deliver([(stream, Piece(shown + stops.rest(), finish="stop"))])
            except Exception as error:
                if not isinstance(error, CorrigendaError):
                    log.exception("generation failed")
                _deliver([(stream, _told(error))])


def _deliver(updates: Sequence[tuple[Stream, Piece | Exception]]) -> None:
    """Hand pieces to the event loop, all of a step in one call."""
    if not updates:
        return

    def feed() -> None:
        for stream, piece in updates:
            stream.feed(piece)

    with contextlib.suppress(RuntimeError):  # the loop has ended; nobody reads
        updates[0][0]._loop.call_soon_threadsafe(feed)


def _told(error: Exception) -> Exception:
    """What the client is told: of what this package raises, that."""
    if isinstance(error, torch.OutOfMemoryError):
        return Busy("The device is out of memory. Ask again for a shorter answer, or later.")
    return error


# -- prompts ----------------------------------------------------------------------------------

_Prompt = tuple[TextModel, Sequence[int]]


def _prompts(model: TextModel, asks: Sequence[Ask]) -> list[_Prompt | Exception]:
    """The model that answers each request, and its prompt in tokens; or what is wrong with it."""
    try:
        return list(_asked(model, asks))
    except Exception as error:
        if len(asks) > 1:
            return [one for ask in asks for one in _prompts(model, [ask])]
        if not isinstance(error, CorrigendaError):
            log.exception("a prompt could not be read")
        return [_told(error)]


def _asked(model: TextModel, asks: Sequence[Ask]) -> Iterable[_Prompt]:
    texts = [ask.prompt if ask.turns else ask.prompt.rstrip(" ") for ask in asks]
    open_ = [j for j, ask in enumerate(asks) if not ask.ids]
    given = dict(zip(open_, model.live.given([texts[j] for j in open_]), strict=True))
    for j, ask in enumerate(asks):
        if ask.ids:
            yield model, ask.ids
            continue
        by = model if given[j].by is None else given[j].by
        text = given[j].text
        if ask.turns:
            text = by.chat([*ask.turns[:-1], {**ask.turns[-1], "content": text}])
        if not text.strip():
            raise InputError("The prompt is empty. Give the model some text to continue.")
        yield by, by.ids(text)


def _parts(rows: list[_Row], tokens: int) -> Iterable[list[_Row]]:
    """Rows of like length in parts that are read in one pass each."""
    part: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if part and len(row.ids) * (len(part) + 1) > tokens:
            yield part
            part = []
        part.append(row)
    yield part


# -- rows and groups --------------------------------------------------------------------------


class _Row:
    """An answer under way. Raises `InputError` for a prompt that leaves no room."""

    def __init__(self, stream: Stream, by: TextModel, ids: Sequence[int], limits: Limits) -> None:
        self.stream, self.sampling = stream, stream.ask.sampling
        self.ids = list(ids)
        self.made, self.done = 0, False
        self.last = 0
        context = by.context
        room = limits.tokens
        if context is not None:
            if len(self.ids) >= context:
                raise InputError(
                    f"The prompt has {len(self.ids)} tokens, and the context of {by.id} is "
                    f"{context} tokens with the answer. Shorten the prompt."
                )
            room = min(room, context if by.kind == "encoder-decoder" else context - len(self.ids))
        vocabulary = by.module.get_input_embeddings().weight.shape[0]
        if any(not 0 <= token < vocabulary for token in self.ids):
            raise InputError(f"The prompt has tokens that {by.id} does not: it has {vocabulary}.")
        self.limit = min(room, self.sampling.max_tokens or room)
        self.draw = random.Random(self.sampling.seed)
        self.text, self.stops = Detokenizer(by.tokenizer), Stops(self.sampling.stop)
        stream.prompt_tokens = len(self.ids)

    def take(
        self, token: int, logits: Tensor, ends: frozenset[int], tokenizer: Any
    ) -> Piece | None:
        """One more token; the piece of text that it completes, if any."""
        self.made += 1
        self.last = token
        self.stream.completion_tokens = self.made
        over = token in ends
        text = "" if over else self.stops.add(self.text.add(token))
        told: tuple[TokenLogprob, ...] = ()
        if self.sampling.logprobs is not None and not over:
            told = (logprobs_of(logits, token, self.sampling.logprobs, tokenizer),)
        if over or self.stops.met or self.made >= self.limit:
            self.done = True
            if not self.stops.met:
                text += self.stops.add(self.text.rest())
            if not self.stops.met:
                text += self.stops.rest()
            finish = "stop" if over or self.stops.met else "length"
            return Piece(text, told, finish)
        return Piece(text, told) if text or told else None


class _Group:
    """Rows of a causal model that are run together."""

    def __init__(self, model: TextModel, rows: list[_Row]) -> None:
        self.model, self.rows = model, rows
        module: Any = model.module
        takes = signature(module.forward).parameters
        self.options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.numbered = "position_ids" in takes
        self.ends = _ends(model)
        self.cache: Any = None
        self.passes: Any = None
        self.mask = torch.empty(0)
        self.positions = torch.empty(0)

    def step(self) -> list[tuple[Stream, Piece | Exception]]:
        """Read the prompts, or one more token of each row, and choose the next."""
        if self.passes is not None:
            self.model.live.resume(self.passes)
        logits = self.read() if self.cache is None else self.go_on()
        if self.model.live.acts:
            self.passes = self.model.live.passes()
        logits = logits.float()
        tokens = choose(logits, [r.sampling for r in self.rows], [r.draw for r in self.rows])
        found = []
        for j, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if row.done:  # kept only because its group cannot be cut
                continue
            piece = row.take(token, logits[j], self.ends, self.model.tokenizer)
            if piece is not None:
                found.append((row.stream, piece))
        return found

    def read(self) -> Tensor:
        """(b, V) logits after the prompts."""
        padded = self.model.batch([row.ids for row in self.rows], "left")
        self.mask, self.positions = padded.mask, padded.positions[:, -1]
        out = self.run(padded.ids, padded.positions)
        return out.logits[:, -1]

    def go_on(self) -> Tensor:
        """(b, V) logits after the tokens chosen last."""
        ids = torch.tensor([[row.last] for row in self.rows], device=self.mask.device)
        self.mask = functional.pad(self.mask, (0, 1), value=1)
        self.positions = self.positions + 1
        return self.run(ids, self.positions[:, None]).logits[:, -1]

    def run(self, ids: Tensor, positions: Tensor) -> Any:
        options = dict(self.options)
        if self.numbered:
            options["position_ids"] = positions + self.model.layout.position_offset
        if self.cache is not None:
            options["past_key_values"] = self.cache
        out = self.model.module(input_ids=ids, attention_mask=self.mask, use_cache=True, **options)
        self.cache = out.past_key_values
        return out

    # -- coming and going ---------------------------------------------------------------------

    def leaves(self, rows: Iterable[_Row]) -> bool:
        """Take rows out; False if none is left."""
        gone = set(map(id, rows))
        if not gone:
            return bool(self.rows)
        for row in self.rows:
            if id(row) in gone:
                row.done = True
        if all(row.done for row in self.rows):
            self.rows = []
            return False
        kept = [j for j, row in enumerate(self.rows) if not row.done]
        if self.cache is None:
            self.rows = [self.rows[j] for j in kept]
        elif self.passes is None:
            self.cut(torch.tensor(kept, device=self.mask.device))
            self.rows = [self.rows[j] for j in kept]
        return True

    def cut(self, kept: Tensor) -> None:
        """Keep these rows of the cache, and no padding that all of them have."""
        self.cache.batch_select_indices(kept)
        self.mask, self.positions = self.mask[kept], self.positions[kept]
        empty = int(self.mask.long().argmax(1).min())
        if empty and self.plain:
            for layer in self.cache.layers:
                layer.keys, layer.values = (x[:, :, empty:] for x in (layer.keys, layer.values))
            self.mask = self.mask[:, empty:]

    @property
    def plain(self) -> bool:
        """Whether the cache is keys and values of every token, side by side."""
        layers = getattr(self.cache, "layers", None)
        return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def joins(self, other: _Group) -> bool:
        """Whether another group of the same model can go on in this one."""
        alone = self.passes is not None or other.passes is not None
        return not alone and self.plain and other.plain

    def join(self, other: _Group) -> None:
        """Take the rows of another group in, padded on the left to one length."""
        long = max(self.mask.shape[1], other.mask.shape[1])
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([_padded(mine.keys, long), _padded(theirs.keys, long)])
            mine.values = torch.cat([_padded(mine.values, long), _padded(theirs.values, long)])
        masks = [functional.pad(g.mask, (long - g.mask.shape[1], 0)) for g in (self, other)]
        self.mask = torch.cat(masks)
        self.positions = torch.cat([self.positions, other.positions])
        self.rows = [*self.rows, *other.rows]


def _padded(states: Tensor, long: int) -> Tensor:
    """Keys or values (b, h, t, d) with zeros in front, which the mask hides."""
    return functional.pad(states, (0, 0, long - states.shape[2], 0))


class _Answers(_Group):
    """Rows of an encoder-decoder: the prompt is read once, the answer written apart from it."""

    def read(self) -> Tensor:
        padded = self.model.batch([row.ids for row in self.rows])
        self.mask = padded.mask
        self.options.pop("logits_to_keep", None)
        start = self.model.module.config.decoder_start_token_id
        ids = torch.full((len(self.rows), 1), start, device=padded.ids.device)
        out = self.model.module(
            input_ids=padded.ids, attention_mask=self.mask, decoder_input_ids=ids, use_cache=True
        )
        self.cache, self.states = out.past_key_values, out.encoder_last_hidden_state
        forced = getattr(self.model.module.generation_config, "forced_bos_token_id", None)
        logits = out.logits[:, -1]
        if isinstance(forced, int):
            logits = torch.full_like(logits, float("-inf"))
            logits[:, forced] = 0
        return logits

    def go_on(self) -> Tensor:
        ids = torch.tensor([[row.last] for row in self.rows], device=self.mask.device)
        out = self.model.module(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.states),  # type: ignore[arg-type]
            attention_mask=self.mask,
            decoder_input_ids=ids,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = out.past_key_values
        return out.logits[:, -1]

    def cut(self, kept: Tensor) -> None:
        self.cache.batch_select_indices(kept)
        self.mask, self.states = self.mask[kept], self.states[kept]

    def joins(self, other: _Group) -> bool:
        return False


_GROUPS: dict[str, Callable[[TextModel, list[_Row]], _Group]] = {
    "causal": _Group,
    "encoder-decoder": _Answers,
}


def _ends(model: TextModel) -> frozenset[int]:
    """The tokens that end an answer."""
    config = getattr(model.module, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    if named is None:
        named = model.tokenizer.eos_token_id
    found = named if isinstance(named, list | tuple) else [named]
    return frozenset(int(token) for token in found if token is not None)
