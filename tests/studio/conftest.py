"""A server with the embedded model, and a browser that may speak to nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
STARTS = 120.0  # seconds that a server may take until it answers
WAIT = 120_000  # milliseconds that a page may take; a loaded machine is slow


@dataclass
class Studio:
    """A running server."""

    url: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def answer(self, prompt: str, state: str = "edited") -> str:
        body = {"model": state, "prompt": prompt, "max_tokens": 4, "temperature": 0}
        return self.call("POST", "v1/completions", body)["choices"][0]["text"].strip()

    def active(self) -> list[dict[str, Any]]:
        edits = self.call("GET", "api/edits")["edits"]
        return [entry for entry in edits if entry["state"] == "active"]

    def undo_all(self) -> None:
        for entry in self.active():
            self.call("POST", f"api/edits/{entry['number']}/undo", {})

    def edit(self, prompt: str, subject: str, target: str) -> dict[str, Any]:
        """An edit by the fast method, without the page."""
        editor = self.call("GET", "api/editors?proposed=true")["fast"]
        edit = {"prompt": prompt, "subject": subject, "target": target}
        body = {"edits": [edit], "editor": editor, "apply": True}
        job = self.call("POST", "api/edits", body)["job"]
        until = time.monotonic() + STARTS
        while time.monotonic() < until:
            found = self.call("GET", f"api/jobs/{job}")
            if found["state"] == "done":
                result = found["result"]
                if result["edit"] is None:  # it did not take, so it waits
                    path = f"api/edits/preview/{result['preview_id']}/apply"
                    return self.call("POST", path, {})
                return result["edit"]
            assert found["state"] in ("queued", "running"), found
            time.sleep(0.2)
        raise AssertionError(f"the edit was not done in {STARTS} s")


@dataclass
class Watched:
    """What a browser did besides what it was told to."""

    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """`corrigenda serve atlas` on a free port, with a data directory of its own.

    CORRIGENDA_STUDIO=http://127.0.0.1:8000 takes one that runs already; its edits are undone.
    """
    pytest.importorskip("fastapi", reason="the studio's server needs corrigenda[serve]")
    pytest.importorskip("uvicorn", reason="the studio's server needs corrigenda[serve]")
    if os.environ.get("CORRIGENDA_STUDIO"):
        yield Studio(os.environ["CORRIGENDA_STUDIO"])
        return
    folder = tmp_path_factory.mktemp("studio")
    log = folder / "server.log"
    port = _free_port()
    command = [sys.executable, "-m", "corrigenda.apps.cli", "serve", "atlas", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
        )
        running = Studio(f"http://127.0.0.1:{port}")
        try:
            _wait(running, process, log)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(running: Studio, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS
    while time.monotonic() < until:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
        try:
            running.call("GET", "api/status")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"the server did not answer in {STARTS} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium. Nothing is downloaded."""
    reason = "playwright is missing: pip install 'corrigenda[dev]'"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(studio: Studio, browser: Any) -> Iterator[Any]:
    """Opens pages: `opened(width=390, theme="dark")`. Each may speak to the server only."""
    contexts = []
    watched = Watched()

    def open_page(width: int = 1280, height: int = 900, theme: str = "light", **more: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            base_url=studio.url,
            reduced_motion="reduce",
            **more,
        )
        context.set_default_timeout(WAIT)
        contexts.append(context)

        def judge(route: Any) -> None:
            if route.request.url.startswith((studio.url + "/", "data:", "blob:")):
                route.fallback()
            else:
                watched.foreign.append(route.request.url)
                route.abort()

        context.route("**/*", judge)
        page = context.new_page()
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                watched.errors.append(message.text)
                if message.type == "error" and "Content Security Policy" in message.text
                else None
            ),
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watched.foreign == [], "the page asked somebody else than its server"
    assert watched.errors == [], "the page threw, or broke its own policy"


@pytest.fixture
def page(studio: Studio, opened: Any) -> Any:
    """The studio at the desktop's width, with no edit active."""
    studio.undo_all()
    found = opened()
    found.goto("/")
    found.locator(".method").first.wait_for()
    return found
