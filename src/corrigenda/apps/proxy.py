"""`corrigenda proxy`: edits for a model that one cannot open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InputError
from . import console, options
from .remote import key_from
from .serve import guarded_by, run

if TYPE_CHECKING:
    from ..blackbox.scope import Scope

__all__ = ["proxy"]


def proxy(
    upstream: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="The OpenAI-compatible server in front of which to stand.",
            show_default=False,
        ),
    ],
    upstream_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model that a new edit is tried on. Requests name their own.",
            show_default="the only one it lists",
        ),
    ] = None,
    upstream_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VAR",
            help="The environment variable with the upstream's key.",
            show_default="the client's key is handed on",
        ),
    ] = None,
    ledger: Annotated[
        Path, typer.Option(metavar="DIR", help="The edits; made where there is none.")
    ] = Path("corrigenda-memory"),
    how: Annotated[
        Literal["definitions", "demonstrations", "multi-hop"],
        typer.Option(help="How edits enter a prompt."),
    ] = "definitions",
    fact: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="How a fact is told, with {} where it stands.",
            show_default="as --how does",
        ),
    ] = None,
    place: Annotated[
        Literal["user", "system"],
        typer.Option(
            help="Where edits enter a chat: the user's last message, or a system message."
        ),
    ] = "user",
    scope: Annotated[
        Literal["retrieval", "classifier"],
        typer.Option(
            help="Which edits a request is about: those whose subject it mentions and "
            "whose words are near, or as a classifier has learned."
        ),
    ] = "retrieval",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Least nearness of a request to an edit.",
            show_default="retrieval: 0, the mention decides; classifier: chosen on its data",
        ),
    ] = None,
    scope_data: Annotated[
        str, typer.Option(metavar="DATA", help="What the classifier learns from.")
    ] = "atlas",
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A sentence encoder for the scope.",
            show_default="n-grams, no download",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8001,
    token: options.Token = None,
    as_json: bool = False,
) -> None:
    """Edit a model behind an address: requests about an edited fact get it into their prompt.

    All other requests are handed on byte for byte, and so is every answer. Edits are made and undone
    in the studio or under /api/edits, and kept in the ledger.
    """
    try:
        from ..blackbox.proxy import BODY, Rewriter, build
        from ..blackbox.relay import Upstream
    except ImportError as error:
        raise InputError(
            f"The proxy needs {error.name}. Install it with `pip install 'corrigenda[proxy]'`."
        ) from None
    from ..blackbox.client import Remote
    from ..blackbox.memory import EditMemory
    from ..blackbox.prompting import prompting
    from ..ledger import Ledger

    key = key_from(upstream_key_env)
    security = guarded_by(host, token)
    # With a token of the proxy's own, what clients authorise themselves with is not for the upstream.
    there = Upstream(upstream, key, hide=security.token is not None)
    remote = Remote(there.url, upstream_model or "", key)
    way = prompting(how, fact)
    chosen = _scope(scope, threshold, scope_data, encoder, data_dir)
    told = {"fact": fact} if fact else {}
    memory = EditMemory(Ledger.open(ledger), model=remote.id, **told)
    application = build(
        there, Rewriter(memory, chosen, way, place), remote, replace(security, body=BODY)
    )
    said = {
        "model": f"a proxy of {there.url}",
        "upstream": there.url,
        "ledger": str(ledger),
        "edits": len(memory.active()),
        "how": how,
        "scope": {"name": chosen.name, "threshold": chosen.threshold},
    }
    run(application, host, port, security, said, as_json=as_json)


def _scope(
    kind: str, threshold: float | None, data: str, encoder: str | None, data_dir: Path | None
) -> Scope:
    """What decides which edits a request is about."""
    from ..blackbox.embedding import Ngrams
    from ..blackbox.embedding import encoder as encoder_of
    from ..blackbox.scope import RETRIEVED, Retrieval

    embedding = encoder_of(encoder) if encoder else Ngrams()
    if kind == "retrieval":
        return Retrieval(RETRIEVED if threshold is None else threshold, embedding)
    from ..benchmarks import load_cases
    from ..blackbox.calibration import CASES, SEED, classifier

    with console.waiting("Training the scope's classifier"):
        cases = load_cases(data, limit=CASES, seed=SEED, data_dir=data_dir)
        learned = classifier(cases, embedding, threshold)
    console.note(
        f"the classifier knows the relations of {data}; edits of others it rarely finds in scope"
    )
    return learned
