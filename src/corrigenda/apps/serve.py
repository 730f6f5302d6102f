"""`corrigenda serve`: a model with its edits, for OpenAI's clients and the studio's page."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import InputError
from . import console, options

if TYPE_CHECKING:
    from ..serving.security import Security

__all__ = ["bound", "guarded_by", "run", "serve"]


def serve(
    model: options.ModelName,
    delta: options.Deltas = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The record of edits.", show_default="DATA-DIR/ledger"),
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Edits, jobs and previews are kept here.")
    ] = Path("corrigenda-studio"),
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    token: options.Token = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name by which clients reach it, such as that of a proxy with TLS.",
            show_default="localhost and addresses",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    read_only: Annotated[bool, typer.Option(help="Answer, but let nobody edit.")] = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Serve a model, with and without its edits, to OpenAI's clients and to the studio's page.

    The model's name in a request selects the state: base, edited, or a named set of edits. Off
    loopback a token is asked for; it is printed once.
    """
    try:
        from ..serving.app import build
    except ImportError as error:
        raise InputError(
            f"The server needs {error.name}. Install it with `pip install 'corrigenda[serve]'`."
        ) from None
    found = options.loaded(model, device, dtype, seed)
    deltas = options.deltas_at(delta or [])
    security = guarded_by(host, token, name or [])
    application = build(
        found, data_dir, ledger=ledger, deltas=deltas, security=security, read_only=read_only
    )
    said = {"model": found.id, "data": str(data_dir)}
    run(application, host, port, security, said, open_page=open_page, as_json=as_json)


def guarded_by(host: str, token: str | None, names: Sequence[str] = ()) -> Security:
    """Who is answered at this address, and at which names. Off loopback nobody without a token."""
    from ..serving.security import Security, is_loopback, new_token

    if token is not None and len(token) < 8:
        raise InputError("The token has fewer than 8 characters. Give a longer one, or none.")
    if token is None and not is_loopback(host):
        token = new_token()
    own = () if host in ("", "0.0.0.0", "::") else (host,)
    return Security(token=token, hosts=frozenset(n.lower().rstrip(".") for n in (*own, *names)))


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `InputError` for an address that is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), port))
    except OSError as error:
        found.close()
        raise InputError(
            f"{host} port {port} cannot be listened on ({error.strerror or error}). Give another "
            "--port (0 takes a free one) or --host."
        ) from None
    found.listen(512)
    return found


def run(
    application: Any,
    host: str,
    port: int,
    security: Security,
    said: dict[str, Any],
    *,
    open_page: bool = False,
    as_json: bool = False,
) -> None:
    """Serve until interrupted; say where first."""
    import uvicorn

    listening = bound(host, port)
    port = listening.getsockname()[1]
    reached = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"
    page = f"{url}/#token={security.token}" if security.token else f"{url}/"
    if as_json:
        console.emit({**said, "url": url, "token": security.token})
    else:
        console.err().print(Text(f"{said['model']} at {url}/v1, the studio at {page}"))
        if security.token:
            console.note(f"clients send the token {security.token}")
        console.note("Ctrl-C ends it; every acknowledged edit is on disk")
    config = uvicorn.Config(
        application, log_level="warning", timeout_graceful_shutdown=5, server_header=False
    )
    server = uvicorn.Server(config)
    if open_page:
        threading.Thread(target=_open, args=(server, page), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it, and told again when it has
        server.run(sockets=[listening])


def _open(server: Any, page: str) -> None:
    """Open the page once the server answers."""
    import webbrowser

    while not server.started:
        time.sleep(0.05)
    webbrowser.open(page)
