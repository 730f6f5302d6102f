"""`corrigenda serve`: what it says when it starts, and what it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ..serving.running import process
from .test_cli import run

pytestmark = pytest.mark.slow  # servers and processes of their own

ROOT = Path(__file__).parents[2]


def test_json_says_where_and_with_which_token(tmp_path: Path) -> None:
    options = ("atlas", "--port", "0", "--data-dir", str(tmp_path), "--host", "0.0.0.0")
    with process(*options) as (child, told):
        assert told["model"] == "atlas" and told["data"] == str(tmp_path)
        assert len(told["token"]) >= 32  # it is reached from elsewhere
        with httpx.Client(base_url=told["url"], timeout=20) as http:
            assert http.get("/v1/models").status_code == 401
            headers = {"authorization": f"Bearer {told['token']}"}
            assert http.get("/v1/models", headers=headers).status_code == 200
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        ran = run("serve", "atlas", "--port", port, "--data-dir", tmp_path)
    assert ran.code != 0
    assert port in ran.err and "--port" in ran.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("atlas", "--token", "short"), "8 characters"),
        (("atlas", "--port", "99999"), "65535"),
        (("no-such-model",), "no-such-model"),
        (("atlas", "--delta", "nowhere"), "nowhere"),
    ],
    ids=["short token", "no port", "no model", "no delta"],
)
def test_what_cannot_be_served(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    ran = run("serve", *options, "--data-dir", tmp_path)
    assert ran.code != 0
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_help_does_not_import_the_server() -> None:
    code = (
        "import sys\n"
        "from corrigenda.apps.cli import app\n"
        "try:\n"
        "    app(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "found = {'fastapi', 'uvicorn', 'starlette', 'httpx', 'torch'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for arguments in (["--help"], ["serve", "--help"]):
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
