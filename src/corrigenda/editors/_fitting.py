"""Trained states on disk, and the runs that make them.

A trained state is a directory: `network.safetensors`, and `network.json` with what it was trained
for, from what and how. While it is made, the directory holds a checkpoint. Nothing is unpickled, and
a crash at any instant leaves the old content or the new.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ..disk import new_directory, write_atomic
from ..errors import InputError, TamperedError

__all__ = ["RECORD", "Record", "Run", "digest", "read_network", "read_record"]

NETWORK, RECORD = "network.safetensors", "network.json"


class Record(BaseModel):
    """The content of `network.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["corrigenda-hypernetwork"] = "corrigenda-hypernetwork"
    version: Literal[1] = 1
    editor: str
    arguments: dict[str, Any]
    sites: list[str]
    model: str
    weights: str
    steps: int
    lessons: int
    data: str
    loss: float
    sha256: str


def read_record(folder: Path) -> Record:
    """Raises `InputError` where there is no trained network, `TamperedError` for a damaged one."""
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except OSError:
        raise InputError(
            f"There is no trained network in {folder}. Name a directory that `corrigenda fit` "
            "wrote to its end."
        ) from None
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise TamperedError(
            f"{folder / RECORD} is not the record of a trained network: {error.errors()[0]['msg']}."
        ) from None


def read_network(folder: Path, record: Record) -> dict[str, Tensor]:
    try:
        data = (folder / NETWORK).read_bytes()
    except OSError:
        data = b""
    if digest(data) != record.sha256:
        raise TamperedError(
            f"{folder / NETWORK} is not what was written there (its checksum differs). Copy the "
            "directory again, or train the network again with `corrigenda fit`."
        )
    return safetensors.torch.load(data)


class Run:
    """A training run on disk: a checkpoint while it lasts, the network and its record at the end."""

    def __init__(self, folder: Path, recipe: dict[str, Any], resume: bool) -> None:
        self.folder, self.recipe = folder, json.loads(json.dumps(recipe))
        self.path = folder / "checkpoint"
        self.finished = False
        self.start: dict[str, Any] = {}
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file. Give a directory for the trained network.")
        if not resume:
            return
        if (folder / RECORD).exists():
            record = read_record(folder)
            self._same({k: getattr(record, k) for k in self.recipe})
            self.finished = True
        elif (self.path / "run.json").exists():
            self.start = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            self._same(self.start["recipe"])

    def _same(self, there: dict[str, Any]) -> None:
        differ = [key for key, value in self.recipe.items() if there.get(key) != value]
        if differ:
            raise InputError(
                f"{self.folder} holds another training run: it differs in {', '.join(differ)}. "
                "Give another directory (-o), or start anew (--no-resume, in Python resume=False)."
            )

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[int, list[float]]:
        """Set both to where the checkpoint left them; the steps done, and the last losses."""
        if not self.start:
            return 0, []
        try:
            tensors = safetensors.torch.load_file(self.path / "run.safetensors")
            own = {n.removeprefix("network."): t for n, t in tensors.items() if n[0] == "n"}
            network.load_state_dict(own)
        except (OSError, safetensors.SafetensorError, RuntimeError) as error:
            raise TamperedError(
                f"The checkpoint in {self.path} is damaged ({error}). Start anew with resume=False."
            ) from None
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return int(self.start["step"]), list(self.start["losses"])

    def checkpoint(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, losses: list[float]
    ) -> None:
        tensors = {f"network.{n}": t for n, t in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{key}": torch.as_tensor(t) for key, t in state.items()}
        about = {"recipe": self.recipe, "step": step, "losses": losses}
        with new_directory(self.path) as part:
            (part / "run.safetensors").write_bytes(_bytes(tensors))
            (part / "run.json").write_text(json.dumps(about), encoding="utf-8")

    def finish(self, network: nn.Module, loss: float) -> None:
        """The network first, then its record, which makes it valid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RECORD).unlink(missing_ok=True)
        data = _bytes(network.state_dict())
        record = Record(**self.recipe, loss=loss, sha256=digest(data))
        write_atomic(self.folder / NETWORK, data)
        write_atomic(self.folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
        shutil.rmtree(self.path, ignore_errors=True)
        self.finished = True


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({n: t.detach().cpu().contiguous() for n, t in tensors.items()})


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
