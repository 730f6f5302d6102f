"""The judge, against a server on this machine: what it is asked, and every way it can fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from corrigenda.errors import InputError, JudgeError
from corrigenda.judge import KEY, PROMPT, Judge, Question, Verdict, acceptance, verdict_of


class Server(ThreadingHTTPServer):
    """Answers with the next reply of a script; the last one for ever.

    A reply is a text, a function of the prompt, a status with headers, or a whole body.
    """

    script: tuple = ("A",)
    models: tuple[str, ...] = ("judge-1",)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append({"path": self.path, **body})
            self.server.keys.append(self.headers.get("Authorization"))
        script, models = self.server.script, self.server.models
        reply = script[min(number, len(script) - 1)]
        if callable(reply):
            reply = reply(body["messages"][0]["content"])
        status, headers, data = 200, {}, b""
        if isinstance(reply, str):
            message = {"choices": [{"message": {"content": reply}}]}
            named = {"model": models[min(number, len(models) - 1)]}
            data = json.dumps(message | named).encode()
        elif isinstance(reply, bytes):
            data = reply
        else:
            status, headers = reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv(KEY, "secret")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def judge_at(server: Server, **options) -> Judge:
    return Judge(server.url, "judge-1", **({"workers": 1, "backoff": 0.001} | options))


def question(answer: str = "It stands in Rome.") -> Question:
    return Question("Where is the Eiffel Tower?", ("Rome", "Roma"), answer)


def test_an_answer_is_judged_at_temperature_0_by_the_recorded_prompt(server):
    judge = judge_at(server)
    assert judge([question()]) == [Verdict(True, True, "A")]
    asked = server.asked[0]
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["temperature"]) == ("judge-1", 0)
    text = asked["messages"][0]["content"]
    assert "Where is the Eiffel Tower?" in text
    assert "Rome or Roma" in text
    assert "It stands in Rome." in text
    assert server.keys == ["Bearer secret"]
    told = judge.identity()
    assert (told["served"], told["prompt_version"], len(told["prompt_sha256"])) == (
        "judge-1",
        "1",
        64,
    )
    assert "secret" not in json.dumps(told)
    assert PROMPT.count("{") == 3


def test_equal_answers_are_asked_about_once_and_keep_their_order(server):
    server.script = ("A", "B")
    verdicts = judge_at(server)([question("one"), question("two"), question("one")])
    assert [verdict.correct for verdict in verdicts] == [True, False, True]
    assert len(server.asked) == 2
    assert judge_at(server)([]) == []


def test_many_questions_at_once_keep_their_order(server):
    server.script = (lambda text: "A" if "yes" in text else "B",)
    asked = [question(f"{'yes' if j % 3 else 'no'} {j}") for j in range(60)]
    verdicts = judge_at(server, workers=8)(asked)
    assert [verdict.correct for verdict in verdicts] == [bool(j % 3) for j in range(60)]
    assert len(server.asked) == 60


def test_a_failure_ends_the_rest_at_once(server):
    """The first question is refused; the others are neither waited for nor asked."""
    server.script = ((400, {}), (429, {"Retry-After": "30"}))
    start = time.perf_counter()
    with pytest.raises(JudgeError, match="refuses"):
        judge_at(server, workers=2)([question(str(j)) for j in range(50)])
    assert time.perf_counter() - start < 10
    assert len(server.asked) < 10


def test_what_failed_first_is_told_though_it_was_not_asked_first(server):
    """A question that waits is cut short when another one is refused, and is not the reason."""
    server.script = ((429, {"Retry-After": "30"}), (400, {}))
    start = time.perf_counter()
    with pytest.raises(JudgeError, match="refuses"):
        judge_at(server, workers=2)([question(str(j)) for j in range(50)])
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("reply", "correct", "parsed"),
    [
        ("A", True, True),
        (" b.\n", False, True),
        ("**A**", True, True),
        ("(A) It is.", True, True),
        ("B: the answer names Paris", False, True),
        ("The grade is A", True, True),
        ("Final answer: **B**", False, True),
        (r"so \boxed{A}", True, True),
        ("<think>A or B? The reference says so.</think>\nB", False, True),
        ("<think>A and no end", False, False),
        ("CORRECT", True, True),
        ("This is incorrect.", False, True),
        ("It is not correct", False, True),
        ("correct in part, incorrect in part", False, False),
        ("A correct answer would be Rome, and this is wrong", False, False),
        ("A nice question", False, False),
        ("I cannot tell.", False, False),
        ("", False, False),
    ],
)
def test_replies_are_read_leniently_and_what_cannot_be_read_is_wrong(reply, correct, parsed):
    assert verdict_of(reply) == Verdict(correct, parsed, reply)


def test_an_unparsable_reply_is_kept_and_counts_as_incorrect(server):
    server.script = ("As a language model I must decline.",)
    (verdict,) = judge_at(server)([question()])
    assert (verdict.correct, verdict.parsed) == (False, False)
    assert verdict.reply.startswith("As a language model")


def test_a_busy_server_is_asked_again_as_late_as_it_wishes(server, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("corrigenda.endpoint._paused", lambda halt, seconds: waits.append(seconds))
    server.script = ((429, {"Retry-After": "7"}), (503, {}), (429, {"Retry-After": "9999"}), "A")
    assert judge_at(server)([question()])[0].correct
    assert waits == [7.0, 0.002, 60.0]
    assert len(server.asked) == 4


def test_a_server_that_stays_busy_is_given_up(server):
    server.script = ((500, {}),)
    with pytest.raises(JudgeError, match=r"did not answer in 3 attempts \(HTTP 500"):
        judge_at(server, attempts=3)([question()])
    assert len(server.asked) == 3


def test_a_refusal_is_final(server):
    server.script = ((401, {}),)
    with pytest.raises(JudgeError, match=f"refuses.*{KEY}"):
        judge_at(server)([question()])
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[1]"])
def test_a_server_that_speaks_otherwise_is_an_error(server, body):
    server.script = (body,)
    with pytest.raises(JudgeError, match="form of a chat completion"):
        judge_at(server)([question()])


def test_nobody_there_is_an_error(monkeypatch):
    monkeypatch.setenv(KEY, "none")
    with Server() as gone:
        url = gone.url
    judge = Judge(url, "judge-1", attempts=2, backoff=0.001)
    with pytest.raises(JudgeError, match=r"2 attempts \(ConnectError") as caught:
        judge([question()])
    assert caught.value.exit_code == 3


def test_a_missing_key_is_an_error_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv(KEY)
    with pytest.raises(JudgeError, match=f"set {KEY}"):
        judge_at(server)([question()])
    assert server.asked == []


def test_a_server_without_keys_gets_none(server, monkeypatch):
    monkeypatch.setenv(KEY, "none")
    judge_at(server)([question()])
    assert server.keys == [None]


def test_a_judge_that_changes_on_the_way_is_an_error(server):
    server.models = ("judge-1", "judge-2")
    with pytest.raises(JudgeError, match="judge-1 and as judge-2"):
        judge_at(server)([question("one"), question("two")])


def test_a_judge_is_accepted_on_enough_labels_by_people():
    right, wrong = Verdict(True, True, "A"), Verdict(False, True, "B")
    verdicts = [right] * 90 + [wrong] * 110
    good = [*[True] * 85, *[False] * 5, *[True] * 5, *[False] * 105]
    found = acceptance(verdicts, good)
    assert found.accepted
    assert found.kappa == pytest.approx(0.899, abs=5e-4)
    # 40/5/5/50 of the protocol's example, twice: .798, which is not enough.
    close = acceptance(verdicts, [*[True] * 80, *[False] * 10, *[True] * 10, *[False] * 100])
    assert (close.accepted, close.n) == (False, 200)
    assert close.kappa == pytest.approx(0.798, abs=5e-4)
    with pytest.raises(InputError, match="at least 200"):
        acceptance(verdicts[:100], good[:100])
