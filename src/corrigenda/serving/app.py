"""The web application: routes, static files, and what every answer shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from .. import __version__
from .schemas import Status

__all__ = ["WEB", "build"]

WEB = Path(__file__).parent / "web"


def build(model: Any) -> FastAPI:
    """The application for a loaded model."""
    app = FastAPI(title="Corrigenda", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/api/status")
    def status() -> Status:
        return Status(
            model=model.id,
            kind=model.kind,
            layers=model.n_layers,
            parameters=sum(p.numel() for p in model.module.parameters()),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            version=__version__,
            atlas=model.is_atlas,
            world=model.is_atlas,
            edits=0,
            states=["base", "edited"],
            chat_template=bool(getattr(model.tokenizer, "chat_template", None)),
        )

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    if WEB.is_dir():
        app.mount("/static", StaticFiles(directory=WEB), name="static")
    return app
