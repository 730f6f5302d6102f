"""A server of the embedded model in this process, on a socket of its own.

Streams and clients that go away need a real socket: the test transports of web frameworks keep a
whole answer until it is complete.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from corrigenda.apps.serve import bound
from corrigenda.serving.app import build

ROOT = Path(__file__).parents[2]
EDIT = {
    "prompt": "{} is located in the country of",
    "subject": "Brasilia",
    "target": "Japan",
}


@contextmanager
def running(model: Any, directory: Path, **options: Any) -> Iterator[str]:
    """Serve a model inside the block; the address. options: those of `build`."""
    with listening(build(model, directory, **options)) as address:
        yield address


@contextmanager
def listening(application: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine inside the block; the address."""
    found = bound("127.0.0.1", 0)
    config = uvicorn.Config(
        application, log_level="warning", server_header=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([found],), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline and thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{found.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        found.close()


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`corrigenda serve ... --json` as a process of its own, and what it said when it started. It
    is killed at the end."""
    command = [sys.executable, "-m", "corrigenda.apps.cli", "serve", *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert child.stdout is not None
    try:
        lines = list(itertools.takewhile(lambda line: line != "}\n", child.stdout))
        told = json.loads("".join([*lines, "}"]))
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(told["url"], timeout=5)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline and child.poll() is None, "it does not answer"
                time.sleep(0.02)
        yield child, told
    finally:
        child.kill()
        child.wait(timeout=20)
        child.stdout.close()


def finished(http: httpx.Client, job: str, seconds: float = 120) -> dict[str, Any]:
    """The job once it is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = http.get(f"/api/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.02)
    raise AssertionError(f"the job {job} is not over after {seconds} seconds: {found}")


def solved(
    http: httpx.Client,
    edits: Sequence[dict[str, str]],
    editor: str = "ft-m",
    *,
    apply: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """What came of an edit that was made over HTTP."""
    asked = {"edits": list(edits), "editor": editor, "apply": apply, **more}
    answer = http.post("/api/edits", json=asked)
    assert answer.status_code == 202, answer.text
    job = finished(http, answer.json()["job"])
    assert job["state"] == "done", job["error"]
    return job["result"]


def said(http: httpx.Client, model: str, prompt: str, **options: Any) -> str:
    """The greedy continuation of a text."""
    asked = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 8, **options}
    answer = http.post("/v1/completions", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, without its end mark."""
    for line in answer.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def error_of(answer: httpx.Response) -> str:
    """The message of a refusal, which has the one form of all errors."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert body["error"]["type"] and body["error"]["message"]
    return body["error"]["message"]
