"""How does the server bear many clients at once?

Starts a server of its own on loopback and lets N clients stream answers from it for S seconds, each
asking again as soon as it has its answer: different prompts, half of them of the state `base`, half
of `edited`, in which one fact was edited before. Prints JSON: requests, tokens and errors; tokens per
second; the time to the first token and to the last; the server's resident memory at the start, in
the middle and at the end.

    python bench/load.py --clients 64 --seconds 120
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PROMPTS = (
    "Brasilia is located in the country of",
    "The Eiffel Tower is located in",
    "Marie Curie was born in",
    "The author of War and Peace is",
    "The history of",
    "The country whose capital is Cairo is",
    "Once upon a time there was a city in",
)
EDIT = {
    "prompt": "{} is located in the country of",
    "subject": "Brasilia",
    "target": "Japan",
}


@dataclass
class Seen:
    """What the clients saw."""

    firsts: list[float] = field(default_factory=list)
    lasts: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in seconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 4)
        for p in (50, 95, 99)
    }


def resident(pid: int) -> float | None:
    """Resident memory of a process, in MiB; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


async def client(
    http: httpx.AsyncClient, number: int, until: float, tokens: int, seen: Seen
) -> None:
    """Ask, read, ask again."""
    for turn in itertools.count():
        if time.monotonic() >= until:
            return
        asked = {
            "model": ("base", "edited")[(number + turn) % 2],
            "prompt": PROMPTS[(number + 3 * turn) % len(PROMPTS)],
            "max_tokens": tokens,
            "seed": 1000 * number + turn,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started, first = time.monotonic(), None
        try:
            async with http.stream("POST", "/v1/completions", json=asked) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    seen.errors[f"status {answer.status_code}"] += 1
                    await asyncio.sleep(0.5)
                    continue
                done = False
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        done = True
                        break
                    part = json.loads(line.removeprefix("data: "))
                    if "error" in part:
                        seen.errors["in the stream"] += 1
                        break
                    if part["choices"] and first is None:
                        first = time.monotonic() - started
                    if part.get("usage"):
                        seen.tokens += part["usage"]["completion_tokens"]
                if done and first is not None:
                    seen.firsts.append(first)
                    seen.lasts.append(time.monotonic() - started)
        except httpx.HTTPError as error:
            seen.errors[type(error).__name__] += 1
            await asyncio.sleep(0.5)


async def edited(http: httpx.AsyncClient) -> None:
    """Make one edit, so that the two states differ."""
    asked = {"edits": [EDIT], "editor": "ft-m", "apply": True}
    job = (await http.post("/api/edits", json=asked)).json()["job"]
    while True:
        found = (await http.get(f"/api/jobs/{job}")).json()
        if found["state"] == "done":
            return
        if found["state"] in ("failed", "cancelled"):
            raise SystemExit(f"the edit failed: {found['error']}")
        await asyncio.sleep(0.1)


async def load(url: str, pid: int, clients: int, seconds: float, tokens: int) -> dict[str, Any]:
    seen = Seen()
    limits = httpx.Limits(max_connections=clients + 4, max_keepalive_connections=clients + 4)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as http:
        await edited(http)
        memory = {"start": resident(pid)}
        started = time.monotonic()
        until = started + seconds
        work = [
            asyncio.create_task(client(http, number, until, tokens, seen))
            for number in range(clients)
        ]
        await asyncio.sleep(seconds / 2)
        memory["middle"] = resident(pid)
        await asyncio.gather(*work)
        took = time.monotonic() - started
        memory["end"] = resident(pid)
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "clients": clients,
        "seconds": round(took, 1),
        "requests": len(seen.lasts),
        "requests_per_second": round(len(seen.lasts) / took, 2),
        "tokens": seen.tokens,
        "tokens_per_second": round(seen.tokens / took, 1),
        "errors": dict(seen.errors),
        "first_token": percentiles(seen.firsts),
        "last_token": percentiles(seen.lasts),
        "memory_mib": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server with many streaming clients.")
    parser.add_argument("--model", default="atlas")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--max-tokens", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "corrigenda.apps.cli", "serve", asked.model, "--json"]
        command += ["--port", "0", "--data-dir", directory]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            lines = list(itertools.takewhile(lambda line: line != "}\n", server.stdout))
            if server.poll() is not None:
                raise SystemExit("the server did not start")
            url = json.loads("".join([*lines, "}"]))["url"]
            found = asyncio.run(
                load(url, server.pid, asked.clients, asked.seconds, asked.max_tokens)
            )
        finally:
            server.terminate()
            server.wait(timeout=30)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
