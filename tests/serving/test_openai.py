"""OpenAI's own client speaks to the server, and hears what it expects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from corrigenda.serving.engine import Limits
from tests.serving.running import EDIT, error_of, events, running, said, solved

pytestmark = pytest.mark.slow  # servers and processes of their own

PROMPT = "Brasilia is located in the country of"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def edited(http: httpx.Client) -> None:
    """One fact is edited before anybody asks."""
    assert solved(http, [EDIT], "rome")["took"] == [True]


def asked(client: openai.OpenAI, model: str, **options: Any) -> Any:
    options = {"temperature": 0, "max_tokens": 8} | options
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": PROMPT}], **options
    )


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["base", "edited", "atlas"]
    assert client.models.retrieve("edited").owned_by == "corrigenda"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_base_and_edited_stream_different_answers_from_one_process(client: openai.OpenAI) -> None:
    texts = {}
    for model in ("base", "edited", "atlas"):
        parts = list(asked(client, model, stream=True))
        assert parts[0].choices[0].delta.role == "assistant"
        assert parts[-1].choices[0].finish_reason == "length"
        texts[model] = "".join(p.choices[0].delta.content or "" for p in parts)
        assert texts[model] == asked(client, model).choices[0].message.content
    assert texts["base"].split()[0] == "Brazil."
    assert texts["edited"].split()[0] == "Japan."
    assert texts["atlas"] == texts["edited"]


def test_base_says_what_the_model_alone_says(client: openai.OpenAI, atlas_model: Any) -> None:
    found = client.completions.create(model="base", prompt=PROMPT, temperature=0, max_tokens=8)
    assert found.choices[0].text == atlas_model.generate([PROMPT], max_new_tokens=8)[0]


def test_usage(client: openai.OpenAI, atlas_model: Any) -> None:
    told = asked(client, "base", max_completion_tokens=5).usage
    assert told.prompt_tokens == len(atlas_model.ids(PROMPT))
    assert told.completion_tokens == 5
    assert told.total_tokens == told.prompt_tokens + told.completion_tokens
    *parts, last = asked(client, "base", stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.completion_tokens == 8
    assert all(part.usage is None for part in parts)


def test_n_and_seed(client: openai.OpenAI) -> None:
    options = {"n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 12}
    first, second = (
        [c.message.content for c in asked(client, "base", **options).choices] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 1
    texts = ["", "", ""]
    for part in asked(client, "base", stream=True, **options):
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == first


def test_logprobs(client: openai.OpenAI) -> None:
    found = asked(client, "base", logprobs=True, top_logprobs=2, max_tokens=3).choices[0]
    told = found.logprobs.content
    assert "".join(t.token for t in told) == found.message.content
    for token in told:
        assert token.top_logprobs[0].token == token.token  # greedy takes the most probable
        assert token.logprob <= 0 and len(token.top_logprobs) == 2
    old = client.completions.create(
        model="base", prompt=PROMPT, temperature=0, max_tokens=3, logprobs=1
    ).choices[0]
    assert old.logprobs.tokens == [t.token for t in told]
    assert old.logprobs.token_logprobs == pytest.approx([t.logprob for t in told], abs=1e-4)
    parts = list(asked(client, "base", logprobs=True, max_tokens=3, stream=True))
    streamed = [
        t.token for p in parts if p.choices[0].logprobs for t in p.choices[0].logprobs.content
    ]
    assert streamed == [t.token for t in told]


def test_stop(client: openai.OpenAI) -> None:
    whole = asked(client, "base", max_tokens=20).choices[0]
    cut = asked(client, "base", max_tokens=20, stop=[". The", "@"]).choices[0]
    assert cut.message.content == whole.message.content.partition(". The")[0]
    assert cut.finish_reason == "stop"


def test_many_prompts_and_tokens_as_prompts(client: openai.OpenAI, atlas_model: Any) -> None:
    prompts = [PROMPT, "The Eiffel Tower is located in"]
    options: dict[str, Any] = {"model": "edited", "temperature": 0, "max_tokens": 6}
    texts = [c.text for c in client.completions.create(prompt=prompts, **options).choices]
    assert texts == [
        client.completions.create(prompt=p, **options).choices[0].text for p in prompts
    ]
    ids = [atlas_model.ids(p) for p in prompts]
    assert [c.text for c in client.completions.create(prompt=ids, **options).choices] == texts
    assert client.completions.create(prompt=ids[0], **options).choices[0].text == texts[0]


def test_messages_in_parts(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": PROMPT[:10]}, {"type": "text", "text": PROMPT[10:]}]
    found = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=8
    )
    assert found.choices[0].message.content == asked(client, "base").choices[0].message.content


USER = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 100}, "n:"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"tools": [TOOL]}, "[Tt]ools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"model": None}, "model"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_bad_requests_are_told_in_the_form_of_openai(
    http: httpx.Client, more: dict[str, Any], says: str, stream: bool
) -> None:
    body = {"model": "base", "messages": USER, "stream": stream} | more
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert re.search(says, error_of(answer))


def test_the_client_raises_the_right_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There are: base, edited"):
        asked(client, "gpt-4")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        asked(client, "base", temperature=5)
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model="base", prompt="long " * 1000)
    with pytest.raises(openai.BadRequestError, match="Tools are not supported"):
        asked(client, "base", tools=[TOOL])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "base"}', b"null"])
def test_what_is_no_request(http: httpx.Client, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = http.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        error_of(answer)


def test_unknown_fields_are_ignored(http: httpx.Client) -> None:
    assert said(http, "base", PROMPT, user="me", store=True, metadata={"a": 1})


def test_a_client_that_goes_away_leaves_its_place(atlas_model: Any, tmp_path: Path) -> None:
    """One place only: the next is answered since the first is not written for any longer."""
    limits = Limits(rows=1, waiting=2)
    long = {"model": "base", "prompt": "The history of", "temperature": 1.5, "max_tokens": 240}
    with (
        running(atlas_model, tmp_path, limits=limits) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        for seed in range(4):
            body = {**long, "seed": seed, "stream": True}
            with http.stream("POST", "/v1/completions", json=body) as answer:
                assert next(events(answer))["choices"]
        assert said(http, "base", PROMPT)
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/completions", json={**long, "n": 2}, timeout=0.05)
        assert said(http, "base", PROMPT)


def test_busy_is_told_with_when_to_come_again(atlas_model: Any, tmp_path: Path) -> None:
    with (
        running(atlas_model, tmp_path, limits=Limits(rows=1, waiting=2)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        body = {"model": "base", "prompt": "Hello", "n": 4}
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "Try again" in error_of(answer)
