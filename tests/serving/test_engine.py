"""Generation for many at once says what each would be told alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from corrigenda.edit import Rewrite
from corrigenda.editors import editor_class
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel
from corrigenda.serving.decoding import Sampling
from corrigenda.serving.engine import Ask, Engine, Limits, Stream
from corrigenda.serving.refusals import Busy
from corrigenda.serving.states import BASE, States
from tests.models.tiny import model_of

pytestmark = pytest.mark.slow  # a server of its own

PROMPTS = (
    "Brasilia is located in the country of",
    "The Eiffel Tower is located in",
    "Marie Curie was born in",
    "The author of War and Peace is",
    "Hello",
    "The history of Brasilia begins with the capital of the country that is called Brazil and",
)


async def read(stream: Stream) -> tuple[str, str | None]:
    text, finish = "", None
    async for piece in stream.pieces():
        text += piece.text
        finish = piece.finish
    return text, finish


def with_engine(work: Callable[[Engine], Awaitable[Any]], limits: Limits | None = None) -> Any:
    """What some work with a running engine returns."""

    async def run() -> Any:
        engine = Engine(limits)
        engine.start()
        try:
            return await asyncio.wait_for(work(engine), 60)
        finally:
            engine.stop()

    return asyncio.run(run())


def answers(
    model: TextModel, asks: list[Ask], limits: Limits | None = None
) -> list[tuple[str, str | None]]:
    async def work(engine: Engine) -> Any:
        return await asyncio.gather(*(read(s) for s in engine.submit(model, asks)))

    return with_engine(work, limits)


def greedy(prompt: str, tokens: int = 12, **options: Any) -> Ask:
    return Ask(prompt, Sampling(max_tokens=tokens, temperature=0, **options))


@pytest.fixture(scope="module")
def base(atlas_model: TextModel) -> TextModel:
    return States(atlas_model).of(BASE)


@pytest.mark.parametrize("limits", [None, Limits(rows=2), Limits(prefill=20)], ids=repr)
def test_greedy_answers_are_those_of_generate(base: TextModel, limits: Limits | None) -> None:
    found = answers(base, [greedy(p) for p in PROMPTS], limits)
    assert [text for text, _ in found] == [
        base.generate([p], max_new_tokens=12)[0] for p in PROMPTS
    ]


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "mistral", "gemma2", "bloom", "mixtral", "t5", "bart", "bert"]
)
def test_all_kinds_of_model(family: str) -> None:
    tree = States(model_of(family)).of(BASE)
    # BART's own end at the last token that there is room for is no part of what it says.
    if tree.kind == "encoder-decoder":
        tree.module.generation_config.forced_eos_token_id = None
    prompts = ["The Louvre is located in", "Rome", "Marie Curie was born in Warsaw. Warsaw is"]
    if tree.kind == "masked":
        prompts = [f"{p} {tree.tokenizer.mask_token}" for p in prompts] + prompts
    found = answers(tree, [greedy(p, 6) for p in prompts])
    assert [t for t, _ in found] == [tree.generate([p], max_new_tokens=6)[0] for p in prompts]


def test_requests_that_come_later_join_and_change_nothing(base: TextModel) -> None:
    async def work(engine: Engine) -> Any:
        tasks = []
        for prompt in PROMPTS:
            (stream,) = engine.submit(base, [greedy(prompt, 30)])
            tasks.append(asyncio.create_task(read(stream)))
            await asyncio.sleep(0.01)
        return await asyncio.gather(*tasks)

    found = with_engine(work)
    assert [t for t, _ in found] == [base.generate([p], max_new_tokens=30)[0] for p in PROMPTS]


def test_a_seeded_sample_is_the_same_alone_and_among_others(base: TextModel) -> None:
    mine = Ask(PROMPTS[0], Sampling(max_tokens=20, temperature=1.0, top_p=0.95, seed=7))
    others = [
        Ask(p, Sampling(max_tokens=25, temperature=1.3, seed=j)) for j, p in enumerate(PROMPTS)
    ]
    ((alone, _),) = answers(base, [mine])
    among = answers(base, [*others, mine])[-1][0]
    assert alone == among
    elsewhere = Ask(PROMPTS[0], Sampling(max_tokens=20, temperature=1.0, top_p=0.95, seed=8))
    assert answers(base, [elsewhere])[0][0] != alone


def test_stop_strings_end_an_answer_and_do_not_belong_to_it(base: TextModel) -> None:
    (whole,) = base.generate([PROMPTS[0]], max_new_tokens=20)
    stop = whole[5:17]  # begins and ends inside words
    assert answers(base, [greedy(PROMPTS[0], 20, stop=(stop,))]) == [
        (whole.partition(stop)[0], "stop")
    ]
    never = answers(base, [greedy(PROMPTS[0], 20, stop=("@@", whole[-3:] + "@"))])
    assert never == [(whole, "length")]


def test_max_tokens_and_counts(base: TextModel) -> None:
    async def work(engine: Engine) -> Any:
        streams = engine.submit(base, [greedy(PROMPTS[0], 1), greedy(PROMPTS[0], 5)])
        return [(await read(s))[1] for s in streams], streams

    finishes, streams = with_engine(work)
    assert finishes == ["length", "length"]
    assert [s.completion_tokens for s in streams] == [1, 5]
    assert streams[0].prompt_tokens == len(base.ids(PROMPTS[0]))


def test_an_answer_ends_where_the_context_does(base: TextModel) -> None:
    assert base.context
    ids = tuple(base.ids("Brazil ") * base.context)[: base.context - 3]
    ask = Ask("", Sampling(max_tokens=100, temperature=0), ids=ids)

    async def work(engine: Engine) -> Any:
        (stream,) = engine.submit(base, [ask])
        _, finish = await read(stream)
        return stream.completion_tokens, finish

    made, finish = with_engine(work)
    assert made <= 3 and (finish == "length" or made < 3)


@pytest.mark.parametrize(
    "ask",
    [
        greedy("   "),
        greedy("long " * 400),
        Ask("", Sampling(), ids=(10**6,)),
        Ask("", Sampling(), ids=(-1,)),
    ],
    ids=["empty", "too long", "no such token", "negative token"],
)
def test_a_bad_prompt_is_refused_and_the_others_are_answered(base: TextModel, ask: Ask) -> None:
    async def work(engine: Engine) -> Any:
        streams = engine.submit(base, [greedy(PROMPTS[0]), ask])
        return await asyncio.gather(*(read(s) for s in streams), return_exceptions=True)

    good, bad = with_engine(work)
    assert good[0] == base.generate([PROMPTS[0]], max_new_tokens=12)[0]
    assert isinstance(bad, InputError)


def test_who_goes_away_frees_its_row(base: TextModel) -> None:
    """One row only: the second request is answered because the first has gone."""
    sampling = Sampling(max_tokens=200, temperature=1.5, seed=0)

    async def work(engine: Engine) -> Any:
        (first,) = engine.submit(base, [Ask("The history of", sampling)])
        async for _ in first.pieces():
            break
        first.cancel()
        (second,) = engine.submit(base, [greedy(PROMPTS[0], 4)])
        text = (await read(second))[0]
        return text, first.completion_tokens, engine.waiting

    text, made, waiting = with_engine(work, Limits(rows=1))
    assert text == base.generate([PROMPTS[0]], max_new_tokens=4)[0]
    assert made < 200 and waiting == 0


def test_busy_when_full_and_when_stopped(base: TextModel) -> None:
    async def work(engine: Engine) -> Any:
        with pytest.raises(Busy, match="waiting"):
            engine.submit(base, [greedy(p) for p in PROMPTS])
        (stream,) = engine.submit(base, [greedy(PROMPTS[0])])
        text = (await read(stream))[0]
        await asyncio.to_thread(engine.stop)
        with pytest.raises(Busy, match="shutting down"):
            engine.submit(base, [greedy(PROMPTS[0])])
        return text

    assert with_engine(work, Limits(waiting=3))


def test_stopping_tells_those_who_wait(base: TextModel) -> None:
    async def work(engine: Engine) -> Any:
        streams = engine.submit(base, [Ask(p, Sampling(max_tokens=200, seed=1)) for p in PROMPTS])
        tasks = [asyncio.create_task(read(s)) for s in streams]
        await asyncio.to_thread(engine.stop)
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = with_engine(work, Limits(rows=1))
    assert any(isinstance(one, Busy) for one in found)


@pytest.mark.parametrize("name", ["grace", "ike", "rag-ike", "definition"])
def test_edits_of_activations_and_prompts_answer_as_generate_does(
    atlas_model: TextModel, name: str
) -> None:
    states = States(atlas_model)
    edit = Rewrite("{} is located in the country of", "Brasilia", "Japan")
    with states.bench().on(states.of(BASE)) as model:
        delta = editor_class(name)()(model, [edit])
    tree = states.tree([delta])
    found = answers(tree, [greedy(p) for p in PROMPTS])
    wanted = [tree.generate([p], max_new_tokens=12)[0] for p in PROMPTS]
    assert [text for text, _ in found] == wanted
    assert "Japan" in found[0][0]
    assert found[4][0] == states.of(BASE).generate([PROMPTS[4]], max_new_tokens=12)[0]


def test_states_are_answered_side_by_side(atlas_model: TextModel) -> None:
    states = States(atlas_model)
    edit = Rewrite("{} is located in the country of", "Brasilia", "Japan")
    with states.bench().on(states.of(BASE)) as model:
        deltas = [editor_class(name)()(model, [edit]) for name in ("ft-m", "grace")]
    trees = [states.of(BASE), *(states.tree([delta]) for delta in deltas)]

    async def work(engine: Engine) -> Any:
        streams = [engine.submit(tree, [greedy(p) for p in PROMPTS]) for tree in trees * 2]
        return await asyncio.gather(*(read(s) for group in streams for s in group))

    found = [text for text, _ in with_engine(work)]
    wanted = [tree.generate([p], max_new_tokens=12)[0] for tree in trees for p in PROMPTS]
    assert found == wanted * 2
