"""Does a proxy make edits true of a model that it cannot open, and leave everything else alone?

A second server stands in for the remote: Atlas behind an OpenAI-compatible address, either as plain
as can be and quick, since it remembers its answers, or with `--remote corrigenda` the server of
`corrigenda serve`. The proxy stands in front of it, over HTTP like any other. Facts that Atlas knows
are edited, one at a time and then all together, and everything is asked through the proxy:

    true        the edited prompt is answered with the target; paraphrases too
    identical   prompts that do not name an edited subject reach the remote byte for byte
    rewritten   prompts about other facts of the edited subject get the edit too
    changed     and are then answered otherwise than without the edit

Then all edits go from texts into weights (`consolidate`), and both forms are asked the same.

    python bench/proxy.py --edits 100 --json proxy.json
    python bench/proxy.py --edits 100 --remote corrigenda --per-axis 3 --scopes retrieval --editors ""
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

import corrigenda as cg
from corrigenda.benchmarks import load_cases
from corrigenda.blackbox.calibration import CASES, SEED, classifier
from corrigenda.blackbox.client import Remote
from corrigenda.blackbox.consolidate import consolidated, wording_for
from corrigenda.blackbox.memory import EditMemory
from corrigenda.blackbox.prompting import Telling, prompting
from corrigenda.blackbox.proxy import BODY, EDITS, Rewriter, build
from corrigenda.blackbox.relay import Upstream
from corrigenda.blackbox.scope import Retrieval, Scope
from corrigenda.edit import Case
from corrigenda.editors import make
from corrigenda.evaluate import known_only
from corrigenda.ledger import Ledger
from corrigenda.metrics.statistics import wilson
from corrigenda.metrics.text import answer_of, contains, preserved
from corrigenda.serving import app as serving
from corrigenda.serving.security import Security
from tests.blackbox.upstream import Standin
from tests.serving.running import listening

TOKENS = 16
ROWS = {
    "true": "the edited prompt is answered with the target",
    "paraphrase": "other wordings are answered with the target",
    "identical": "unrelated requests reach the remote byte for byte",
    "rewritten": "other facts of the subject: the edit enters the prompt",
    "changed": "other facts of the subject: the answer changes",
}


@dataclass
class Tally:
    """Passed and asked, by row."""

    counts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, row: str, ok: bool) -> None:
        found = self.counts.setdefault(row, [0, 0])
        found[0] += ok
        found[1] += 1

    def shares(self) -> dict[str, dict[str, float]]:
        found = {}
        for row, (passed, asked) in self.counts.items():
            low, high = wilson(passed, asked)
            found[row] = {"passed": passed, "asked": asked, "low": low, "high": high}
        return found


class Heard:
    """Corrigenda's own server, and what it was sent, oldest first."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more, last = b"", True, None
        while more:
            last = await receive()
            body, more = body + last.get("body", b""), last.get("more_body", False)
        self.bodies.append(body)
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return given.pop() if given else await receive()

        await self._app(scope, again, send)


@dataclass
class Wire:
    """Asks through the proxy, and looks at what reached the remote."""

    client: httpx.Client
    remote: Standin | Heard

    def ask(self, prompt: str) -> tuple[str, bool, bool]:
        """(answer, whether the bytes are the same, whether edits were named)."""
        asked = {"model": "base", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        # As no serialiser of ours would write it, so that a rewritten body cannot be the same.
        body = json.dumps(asked, indent=1).encode()
        reply = self.client.post(
            "/v1/completions", content=body, headers={"content-type": "application/json"}
        )
        reply.raise_for_status()
        same = self.remote.bodies[-1] == body
        return reply.json()["choices"][0]["text"], same, EDITS in reply.headers


def names(subjects: Sequence[str], prompt: str) -> bool:
    return any(subject.casefold() in prompt.casefold() for subject in subjects)


def asked(wire: Wire, case: Case, subjects: Sequence[str], before: dict[str, str]) -> Tally:
    """One case through the proxy. subjects: of all edits in memory."""
    tally = Tally()
    for probe in case.probes:
        if probe.axis in ("efficacy", "generalization"):
            text, _, _ = wire.ask(probe.prompt)
            row = "true" if probe.axis == "efficacy" else "paraphrase"
            tally.add(row, bool(contains(answer_of(text), probe.answers)))
        elif probe.axis == "locality":
            own, any_named = names([case.edit.subject], probe.prompt), names(subjects, probe.prompt)
            if any_named and not own:
                continue  # about another edited subject
            text, same, named = wire.ask(probe.prompt)
            if own:
                tally.add("rewritten", not same)
                tally.add("changed", not preserved(before[probe.prompt], text))
            else:
                tally.add("identical", same and not named)
    return tally


def measured(
    cases: Sequence[Case],
    scope: Scope,
    remote: Standin | Heard,
    address: str,
    telling: Telling,
) -> dict[str, Any]:
    """All cases, one edit in memory at a time, and all together."""
    with tempfile.TemporaryDirectory() as place:
        memory = EditMemory(Ledger.open(Path(place) / "memory"), fact=telling.fact)
        upstream = Upstream(f"{address}/v1")
        security = Security(body=BODY, rate=1e9, burst=10**9)
        app = build(upstream, Rewriter(memory, scope, telling), Remote(upstream.url), security)
        with listening(app) as url, httpx.Client(base_url=url, timeout=120) as client:
            wire = Wire(client, remote)
            prompts = {p.prompt for case in cases for p in case.on("locality")}
            before = {prompt: wire.ask(prompt)[0] for prompt in sorted(prompts)}
            found = {}
            alone, start = Tally(), time.perf_counter()
            for j, case in enumerate(cases):
                entry = memory.make([case.edit])
                _join(alone, asked(wire, case, [case.edit.subject], before))
                memory.undo(entry)
                if j % 20 == 19:
                    print(f"  {j + 1} of {len(cases)}", file=sys.stderr)
            found["one at a time"] = alone.shares()
            memory.make([case.edit for case in cases])
            together, subjects = Tally(), [case.edit.subject for case in cases]
            for case in cases:
                _join(together, asked(wire, case, subjects, before))
            found["all together"] = together.shares()
            found["seconds"] = time.perf_counter() - start
    return found


def _join(whole: Tally, part: Tally) -> None:
    for row, (passed, n) in part.counts.items():
        found = whole.counts.setdefault(row, [0, 0])
        found[0], found[1] = found[0] + passed, found[1] + n


def in_weights(
    model: Any, cases: Sequence[Case], editor: str, telling: Telling, seed: int
) -> dict[str, Any]:
    """Both forms of all edits, before and after consolidation."""
    with tempfile.TemporaryDirectory() as place:
        memory = EditMemory(Ledger.open(Path(place) / "memory"), fact=telling.fact)
        memory.make([case.edit for case in cases])
        start = time.perf_counter()
        found = consolidated(
            model,
            memory,
            make(editor),
            scope=Retrieval(),
            telling=telling,
            known=cases,
            max_new_tokens=TOKENS,
            seed=seed,
        )
        print(found.markdown())
        return found.to_dict() | {"seconds": time.perf_counter() - start}


@contextmanager
def _remote(kind: str, place: str) -> Iterator[tuple[Standin | Heard, str]]:
    """The remote and its address."""
    if kind == "standin":
        standin = Standin(cg.load("atlas"))
        with listening(standin.app()) as address:
            yield standin, address
        return
    free = Security(rate=1e9, burst=10**9)
    heard = Heard(serving.build(cg.load("atlas"), Path(place) / "served", security=free))
    with listening(heard) as address:
        yield heard, address


def _fewer(case: Case, most: int) -> Case:
    """The case with so many probes of each axis at most, those of other subjects first."""
    kept = []
    for axis in ("efficacy", "generalization", "locality"):
        mine = sorted(case.on(axis), key=lambda p: names([case.edit.subject], p.prompt))
        kept += mine[:most] if axis == "locality" else case.on(axis)[:most]
    return replace(case, probes=tuple(kept))


def show(scope: str, found: dict[str, Any], n: int, seed: int) -> None:
    print(f"\n{scope}: {n} edits of Atlas, seed {seed}; 95 % Wilson intervals\n")
    print("| x 100 | one edit at a time | all together |\n|---|---:|---:|")
    for row, words in ROWS.items():
        cells = []
        for when in ("one at a time", "all together"):
            one = found[when].get(row)
            if one is None:
                cells.append("")
                continue
            value = one["passed"] / one["asked"]
            interval = f"{100 * one['low']:.1f}, {100 * one['high']:.1f}"
            cells.append(f"{100 * value:.1f} [{interval}], {one['passed']}/{one['asked']}")
        print(f"| {words} | {' | '.join(cells)} |")
    print(f"\n{found['seconds']:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--how", default="definitions", choices=("definitions", "demonstrations"))
    parser.add_argument("--editors", default="context-distillation")
    parser.add_argument("--remote", default="standin", choices=("standin", "corrigenda"))
    parser.add_argument("--scopes", default="retrieval,classifier")
    parser.add_argument("--per-axis", type=int, help="probes of each axis of a case, at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = cg.load("atlas")
    pool = load_cases("atlas", limit=2 * options.edits, seed=options.seed)
    cases = known_only(model, pool, limit=options.edits, max_new_tokens=TOKENS)
    if options.per_axis:
        cases = [_fewer(case, options.per_axis) for case in cases]
    told = prompting(options.how, wording_for(model))
    assert isinstance(told, Telling)
    wanted = options.scopes.split(",")
    scopes: list[Scope] = [Retrieval()] if "retrieval" in wanted else []
    if "classifier" in wanted:
        scopes.append(classifier(load_cases("atlas", limit=CASES, seed=SEED)))
    result: dict[str, Any] = {"edits": len(cases), "seed": options.seed, "how": options.how}
    with (
        tempfile.TemporaryDirectory() as place,
        _remote(options.remote, place) as (remote, address),
    ):
        for scope in scopes:
            found = measured(cases, scope, remote, address, told)
            title = f"{scope.name}, threshold {scope.threshold:g}"
            show(title, found, len(cases), options.seed)
            result[scope.name] = found | {"threshold": scope.threshold}
    result["consolidate"] = {}
    for editor in filter(None, options.editors.split(",")):
        print(f"\nconsolidate, {editor}\n")
        result["consolidate"][editor] = in_weights(model, cases, editor, told, options.seed)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
