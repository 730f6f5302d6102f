"""The proxy on the wire: what is not about an edit keeps its bytes, what is about one is told it."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corrigenda import TextModel
from corrigenda.blackbox.client import Remote
from corrigenda.blackbox.prompting import Telling
from corrigenda.blackbox.proxy import EDITS, Rewriter, build
from corrigenda.blackbox.relay import Upstream
from corrigenda.blackbox.scope import Retrieval
from corrigenda.edit import Rewrite
from corrigenda.serving.security import Security

from ..serving.running import listening
from .conftest import Proxied
from .upstream import Standin

pytestmark = pytest.mark.slow  # servers and processes of their own

TOWER = Rewrite("{} is located in the city of", "Eiffel Tower", "Rome")
JSON = {"content-type": "application/json"}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": values}
    ),
    max_size=4,
)
bodies = st.fixed_dictionaries(
    {"model": st.text(max_size=8)},
    optional={"messages": messages, "prompt": values, "tools": values, "stream": st.booleans()},
)
shared = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@shared
@given(
    body=bodies,
    path=st.sampled_from(["completions", "chat/completions", "embeddings"]),
    indent=st.sampled_from([None, 1, 3]),
    plain=st.booleans(),
)
def test_requests_about_no_edit_keep_their_bytes(
    proxied: Proxied, body: dict[str, Any], path: str, indent: int | None, plain: bool
) -> None:
    if not proxied.memory.active():
        proxied.memory.make([TOWER])
    sent = json.dumps(body, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    reply = proxied.client.post(f"/v1/{path}", content=sent, headers=JSON)
    assert proxied.remote.last == sent
    assert EDITS not in reply.headers


@shared
@given(body=st.binary(max_size=200))
def test_bodies_of_any_bytes_go_through(proxied: Proxied, body: bytes) -> None:
    if not proxied.memory.active():
        proxied.memory.make([TOWER])
    proxied.client.post("/v1/completions", content=body, headers=JSON)
    assert proxied.remote.last == body


@shared
@given(extra=st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=4))
def test_only_the_prompt_of_a_request_about_an_edit_changes(
    proxied: Proxied, extra: dict[str, Any]
) -> None:
    if not proxied.memory.active():
        proxied.memory.make([TOWER])
    body = {**extra, "model": "m", "prompt": "The Eiffel Tower is in"}
    reply = proxied.client.post("/v1/completions", json=body)
    sent = json.loads(proxied.remote.last)
    told = "Eiffel Tower is located in the city of Rome. The Eiffel Tower is in"
    assert sent == {**body, "prompt": told}
    number = proxied.memory.active()[0].number
    assert reply.headers[EDITS] == str(number)


def test_a_chat_keeps_its_tools_and_other_messages(proxied: Proxied) -> None:
    proxied.memory.make([TOWER])
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Where is the Eiffel Tower?"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "tool_choice": "auto",
    }
    proxied.client.post("/v1/chat/completions", json=body)
    sent = json.loads(proxied.remote.last)
    text = sent["messages"][1]["content"][0].pop("text")
    assert text.startswith("Eiffel Tower is located in the city of Rome.")
    assert text.endswith("Where is the Eiffel Tower?")
    body["messages"][1]["content"][0].pop("text")  # type: ignore[index]
    assert sent == body


def test_edits_may_stand_in_a_system_message(proxied: Proxied) -> None:
    proxied.memory.make([TOWER])
    proxied.rewriter.place = "system"
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Eiffel Tower?"},
    ]
    proxied.client.post("/v1/chat/completions", json={"model": "m", "messages": asked})
    sent = json.loads(proxied.remote.last)["messages"]
    assert [one["role"] for one in sent] == ["system", "system", "user"]
    assert sent[1]["content"] == "Eiffel Tower is located in the city of Rome."
    assert [sent[0], sent[2]] == asked


def test_each_of_several_prompts_is_judged_by_itself(proxied: Proxied) -> None:
    proxied.memory.make([TOWER])
    prompts = ["Two plus two is", "The Eiffel Tower is in"]
    proxied.client.post("/v1/completions", json={"model": "m", "prompt": prompts})
    sent = json.loads(proxied.remote.last)["prompt"]
    assert sent[0] == prompts[0]
    assert "Rome" in sent[1]


def test_a_follow_up_finds_its_subject_in_the_turn_before(proxied: Proxied) -> None:
    proxied.memory.make([TOWER])
    asked = [
        {"role": "user", "content": "Do you know the Eiffel Tower?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Which city is it in?"},
    ]
    reply = proxied.client.post("/v1/chat/completions", json={"model": "m", "messages": asked})
    assert EDITS in reply.headers


def test_an_undone_edit_is_never_used_again(proxied: Proxied) -> None:
    entry = proxied.memory.make([TOWER])
    body = json.dumps({"model": "m", "prompt": "The Eiffel Tower is in"}, indent=2).encode()
    assert EDITS in proxied.client.post("/v1/completions", content=body, headers=JSON).headers
    proxied.memory.undo(entry)
    assert EDITS not in proxied.client.post("/v1/completions", content=body, headers=JSON).headers
    assert proxied.remote.last == body


# -- answers ----------------------------------------------------------------------------------


def test_a_stream_is_relayed_as_it_comes(proxied: Proxied) -> None:
    proxied.memory.make([TOWER])
    proxied.remote.headers = ((b"content-type", b"text/event-stream"),)
    proxied.remote.parts = (b"data: {1}\n\n", b"data: {2}\n\n", b"data: [DONE]\n\n")
    proxied.remote.pause = 0.15
    body = {"model": "m", "prompt": "The Eiffel Tower is in", "stream": True}
    seen, times = [], []
    with proxied.client.stream("POST", "/v1/completions", json=body) as reply:
        assert reply.headers["content-type"] == "text/event-stream"
        assert EDITS in reply.headers
        for part in reply.iter_raw():
            seen.append(part)
            times.append(time.monotonic())
    assert b"".join(seen) == b"".join(proxied.remote.parts)
    assert times[0] < proxied.remote.sent[-1]  # the first came before the last was sent


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_errors_of_the_upstream_are_relayed(proxied: Proxied, status: int) -> None:
    proxied.remote.status = status
    proxied.remote.parts = (b'{"error": {"message":  "no", "code": "x"}}',)
    proxied.remote.headers = ((b"content-type", b"application/json"), (b"retry-after", b"7"))
    reply = proxied.client.post("/v1/completions", json={"model": "m", "prompt": "x"})
    assert reply.status_code == status
    assert reply.content == proxied.remote.parts[0]
    assert reply.headers["retry-after"] == "7"


def test_a_compressed_answer_stays_compressed(proxied: Proxied) -> None:
    packed = gzip.compress(b'{"choices": []}')
    proxied.remote.parts = (packed,)
    proxied.remote.headers = ((b"content-encoding", b"gzip"), (b"x-request-id", b"abc"))
    with proxied.client.stream("POST", "/v1/completions", json={"prompt": "x"}) as reply:
        assert b"".join(reply.iter_raw()) == packed
        assert reply.headers["x-request-id"] == "abc"


def test_headers_paths_and_queries_go_along(proxied: Proxied) -> None:
    sent = {"authorization": "Bearer mine", "openai-organization": "o", "connection": "keep-alive"}
    proxied.client.get("/v1/files/a%2Fb?after=1&x=%20", headers=sent)
    method, path, headers, _ = proxied.remote.received[-1]
    found = dict(headers)
    assert (method, path) == ("GET", "/v1/files/a%2Fb?after=1&x=%20")
    assert found[b"authorization"] == b"Bearer mine"
    assert found[b"openai-organization"] == b"o"


def test_nobody_behind_the_proxy_is_a_502_in_openais_form(proxied: Proxied) -> None:
    upstream = Upstream("http://127.0.0.1:9")
    rewriter = Rewriter(proxied.memory, Retrieval(), Telling())
    app = build(upstream, rewriter, Remote(upstream.url, attempts=1), Security())
    with listening(app) as url:
        reply = httpx.post(f"{url}/v1/completions", json={"prompt": "x"})
    assert reply.status_code == 502
    error = reply.json()["error"]
    assert "127.0.0.1:9" in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_a_token_is_for_the_proxy_and_not_for_the_upstream(proxied: Proxied) -> None:
    with listening(proxied.remote) as address:
        upstream = Upstream(address, hide=True)
        rewriter = Rewriter(proxied.memory, Retrieval(), Telling())
        app = build(upstream, rewriter, Remote(upstream.url), Security(token="secret-token"))
        with listening(app) as url:
            before = len(proxied.remote.received)
            assert httpx.get(f"{url}/v1/models").status_code == 401
            assert len(proxied.remote.received) == before
            right = {"authorization": "Bearer secret-token"}
            assert httpx.get(f"{url}/v1/models", headers=right).status_code == 200
            assert b"authorization" not in dict(proxied.remote.received[-1][2])


def test_openais_client_gets_the_edited_answer(proxied: Proxied, atlas_model: TextModel) -> None:
    """The whole way: a model behind an address says the edited fact, streamed or not."""
    proxied.memory.make([TOWER])
    with listening(Standin(atlas_model).app()) as address:
        upstream = Upstream(address)
        rewriter = Rewriter(proxied.memory, Retrieval(), Telling(fact="New fact: {}. "))
        app = build(upstream, rewriter, Remote(upstream.url), Security())
        with listening(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="-") as client:
            asked = {"model": "standin", "prompt": "To see the Eiffel Tower, travel to"}
            whole = client.completions.create(**asked, max_tokens=4)
            parts = client.completions.create(**asked, max_tokens=4, stream=True)
            streamed = "".join(part.choices[0].text for part in parts)
    assert whole.choices[0].text.split()[0].startswith("Rome")
    assert streamed.split() == whole.choices[0].text.split()


# -- the studio's routes ----------------------------------------------------------------------


def _done(client: httpx.Client, job: str) -> dict[str, Any]:
    for _ in range(400):
        found = client.get(f"/api/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def test_edits_are_made_listed_undone_and_redone(proxied: Proxied) -> None:
    client = proxied.client
    proxied.remote.parts = (b'{"choices": [{"text": " Rome. So it is."}]}',)
    status = client.get("/api/status").json()
    assert (status["proxy"], status["edits"]) == (True, 0)
    asked = {"edits": [{"prompt": TOWER.prompt, "subject": TOWER.subject, "target": "Rome"}]}
    reply = client.post("/api/edits", json={**asked, "apply": True, "who": "me"})
    assert reply.status_code == 202, reply.text
    job = _done(client, reply.json()["job"])
    assert job["state"] == "done", job
    assert job["result"]["took"] == [True]
    number = job["result"]["edit"]["number"]
    entry = client.get("/api/edits").json()["edits"][0]
    assert (entry["number"], entry["state"], entry["who"]) == (number, "active", "me")
    assert client.get(f"/api/edits/{number}").status_code == 200

    undone = client.post(f"/api/edits/{number}/undo", json={"note": "wrong"}).json()
    assert (undone["state"], undone["undone_note"]) == ("undone", "wrong")
    assert not proxied.memory.active()
    again = client.post(f"/api/edits/{number}/redo", json={}).json()
    assert again["state"] == "active"
    assert [one.edit.target for one in proxied.memory.active()] == ["Rome"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/edits", {"edits": []}, 422),
        ("POST", "/api/edits", {"edits": [{"prompt": "x", "subject": "y", "target": "z"}]}, 400),
        ("POST", "/api/edits/9999/undo", {}, 404),
        ("GET", "/api/edits/9999", None, 404),
        ("POST", "/api/trace", {"prompt": "x"}, 404),
    ],
)
def test_bad_requests_are_refused_in_one_form(
    proxied: Proxied, method: str, path: str, body: Any, status: int
) -> None:
    reply = proxied.client.request(method, path, json=body)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["message"]
