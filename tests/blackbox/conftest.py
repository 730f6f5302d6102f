"""A proxy in front of a recording server, both on real ports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from corrigenda.blackbox.client import Remote
from corrigenda.blackbox.memory import EditMemory
from corrigenda.blackbox.prompting import Telling
from corrigenda.blackbox.proxy import Rewriter, build
from corrigenda.blackbox.relay import Upstream
from corrigenda.blackbox.scope import Retrieval
from corrigenda.ledger import Ledger
from corrigenda.serving.security import Security

from ..serving.running import listening
from .upstream import Recorder


@dataclass
class Proxied:
    """client asks the proxy; remote is what stands behind it."""

    client: httpx.Client
    remote: Recorder
    memory: EditMemory
    rewriter: Rewriter


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    place: Path = tmp_path_factory.mktemp("proxy") / "memory"
    remote, memory = Recorder(), EditMemory(Ledger.open(place))
    with listening(remote) as address:
        upstream = Upstream(address)
        rewriter = Rewriter(memory, Retrieval(), Telling())
        asked = Remote(upstream.url, "m", attempts=1)
        app = build(upstream, rewriter, asked, Security(rate=1e6, burst=10**6))
        with listening(app) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield Proxied(client, remote, memory, rewriter)


@pytest.fixture
def proxied(servers: Proxied) -> Iterator[Proxied]:
    """The servers as they began: no edit, and an answer of one part."""
    servers.remote.__init__()
    servers.rewriter.place = "user"
    for entry in servers.memory.ledger.active():
        servers.memory.undo(entry)
    yield servers
