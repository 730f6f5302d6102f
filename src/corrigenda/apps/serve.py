"""`corrigenda serve`: a model with its edits, for OpenAI's clients and the studio's page."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options

__all__ = ["serve"]


def serve(
    model: options.ModelName,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    device: options.Device = None,
    dtype: options.DType = None,
    as_json: bool = False,
) -> None:
    """Serve a model and the studio."""
    import uvicorn

    from ..serving.app import build

    uvicorn.run(build(options.loaded(model, device, dtype)), host=host, port=port)
