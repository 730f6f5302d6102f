"""/v1: OpenAI's clients ask a state of the model, whole or as a stream.

The first part of a stream is awaited before the answer begins, so that a request which cannot be
done is told with a status of its own. Who hangs up is not written for any longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from ..models.text import TextModel
from . import openai
from .decoding import Sampling, TokenLogprob
from .engine import Ask, Engine, Piece, Stream
from .jobs import finite
from .openai import Part
from .refusals import status_of
from .schemas import Error
from .states import States

__all__ = ["routes"]

GONE = 0.5
"""Seconds between two looks at whether a client that waits for a whole answer is still there."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error} for status in (400, 401, 404, 413, 429, 503)
}


def routes(states: States, engine: Engine, created: int) -> APIRouter:
    """The routes of /v1. created: when the server started, in seconds."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=_ERRORS)

    @router.get("/models")
    def models() -> openai.Models:
        """The states of the model: base, edited, named sets; and the model's own name."""
        return openai.model_list(dict.fromkeys([*states.names, states.root.id]), created)

    @router.get("/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        states.of(name)
        return openai.model_list([name], created).data[0]

    @router.post("/chat/completions")
    async def chat(asked: openai.ChatRequest, request: Request) -> Response:
        """The next turn of a conversation. A model without a chat template continues the text of
        the last message."""
        asked.check()
        model, turns = states.of(asked.model), asked.turns()
        prompt = turns[-1]["content"]
        told = tuple(turns) if _has_template(model) else ()
        samplings = _samplings(asked, asked.limit, asked.alternatives)
        streams = engine.submit(model, [Ask(prompt, s, told) for s in samplings])
        return await _answer(
            asked, request, streams, "chatcmpl", openai.chat_answer, openai.chat_chunk
        )

    @router.post("/completions")
    async def completions(asked: openai.CompletionRequest, request: Request) -> Response:
        """The continuation of one text or of several."""
        asked.check()
        samplings = _samplings(asked, asked.limit, asked.logprobs)
        asks = [
            Ask(prompt, s) if isinstance(prompt, str) else Ask("", s, ids=tuple(prompt))
            for prompt in asked.prompts
            for s in samplings
        ]
        streams = engine.submit(states.of(asked.model), asks)
        return await _answer(
            asked, request, streams, "cmpl", openai.completion_answer, openai.completion_chunk
        )

    return router


def _has_template(model: TextModel) -> bool:
    return bool(getattr(model.tokenizer, "chat_template", None))


def _samplings(asked: Any, limit: int | None, logprobs: int | None) -> list[Sampling]:
    return [
        Sampling(
            max_tokens=limit,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            seed=seed,
            stop=asked.stops,
            logprobs=logprobs,
        )
        for seed in asked.seeds()
    ]


async def _answer(
    asked: Any,
    request: Request,
    streams: Sequence[Stream],
    prefix: str,
    whole: Callable[..., dict[str, Any]],
    part: Callable[..., dict[str, Any]],
) -> Response:
    name, created = openai.new_id(prefix), openai.now()
    if asked.stream:
        parts = _merged(streams)
        try:
            first = await anext(parts)
        except BaseException:
            await parts.aclose()
            raise
        told = _told(asked, streams, first, parts, partial(part, name, created, asked.model))
        return StreamingResponse(told, media_type="text/event-stream")
    choices = await _while_there(request, streams)
    content = whole(name, created, asked.model, choices, _usage(streams))
    return Response(openai.dumps(finite(content)), media_type="application/json")


async def _while_there(
    request: Request, streams: Sequence[Stream]
) -> list[tuple[str, str, list[TokenLogprob] | None]]:
    """All answers whole, unless the client goes: then they end."""
    work = asyncio.gather(*(_whole(stream) for stream in streams))
    try:
        while True:
            done, _ = await asyncio.wait([work], timeout=GONE)
            if done:
                return list(work.result())
            if await request.is_disconnected():
                raise asyncio.CancelledError
    finally:
        work.cancel()
        with contextlib.suppress(BaseException):
            await work


async def _whole(stream: Stream) -> tuple[str, str, list[TokenLogprob] | None]:
    text, told, finish = "", [], "stop"
    async for piece in stream.pieces():
        text += piece.text
        told += piece.logprobs
        finish = piece.finish or finish
    return text, finish, told if stream.ask.sampling.logprobs is not None else None


async def _merged(streams: Sequence[Stream]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several answers as they come, each with the number of its answer."""
    arrived: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

    async def read(index: int, stream: Stream) -> None:
        try:
            async for piece in stream.pieces():
                arrived.put_nowait((index, piece))
        except Exception as error:
            arrived.put_nowait((index, error))
        finally:
            arrived.put_nowait((index, None))

    readers = [asyncio.create_task(read(j, stream)) for j, stream in enumerate(streams)]
    try:
        left = len(streams)
        while left:
            index, piece = await arrived.get()
            if piece is None:
                left -= 1
            elif isinstance(piece, BaseException):
                raise piece
            else:
                yield index, piece
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _told(
    asked: Any,
    streams: Sequence[Stream],
    first: tuple[int, Piece],
    parts: AsyncGenerator[tuple[int, Piece], None],
    chunk: Callable[[Part], dict[str, Any]],
) -> AsyncIterator[str]:
    """The events of a stream."""
    try:
        for index in range(len(streams)):
            if isinstance(asked, openai.ChatRequest):
                yield openai.event(chunk(Part(index, "", role=True)))
        one: tuple[int, Piece] | None = first
        while one is not None:
            index, piece = one
            told = piece.logprobs if streams[index].ask.sampling.logprobs is not None else None
            if piece.text or told:
                yield openai.event(finite(chunk(Part(index, piece.text, logprobs=told))))
            if piece.finish:
                yield openai.event(chunk(Part(index, finish=piece.finish)))
            one = await anext(parts, None)
        if asked.with_usage:
            yield openai.event(chunk(Part(usage=_usage(streams))))
        yield openai.DONE
    except asyncio.CancelledError:
        raise
    except Exception as error:  # too late for a status: the stream says it
        _, kind, code = status_of(error)
        yield openai.event(openai.error_body(str(error), kind, code=code))
    finally:
        await parts.aclose()


def _usage(streams: Sequence[Stream]) -> openai.Usage:
    return openai.Usage(
        prompt_tokens=sum(stream.prompt_tokens for stream in streams),
        completion_tokens=sum(stream.completion_tokens for stream in streams),
    )
