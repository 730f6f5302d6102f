"""A cache on disk for what is slow to make and fully named by a key: tensors, and plain values.

Entries are single files, safetensors or JSON, that carry their key and a checksum of their content;
one that is damaged, or belongs to another key, is made again. Deleting the directory is always safe.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .disk import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "cache_dir",
    "cached_tensors",
    "cached_value",
    "code_digest",
    "has_tensors",
    "read_tensors",
    "write_tensors",
]


def cache_dir() -> Path:
    """Where things are cached: $CORRIGENDA_CACHE, or the platform's place for caches."""
    if chosen := os.environ.get("CORRIGENDA_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "corrigenda"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local) / "corrigenda" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corrigenda"


def cached_tensors(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors known by `key`, from the cache or from `make()`, which is then kept.

    key  names everything that the tensors depend on (weights hash, layer, corpus hash, ...).

    A cache that cannot be written costs a warning, not the result.
    """
    kept = read_tensors(key)
    if kept is not None:
        return kept
    return write_tensors(key, make())


def cached_value(key: str, make: Callable[[], Any]) -> Any:
    """The plain value (what JSON can hold) known by `key`, from the cache or from `make()`.

    A cache that cannot be written costs a warning, not the result.
    """
    path = cache_dir() / "values" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    try:
        kept = json.loads(path.read_bytes())
        text = json.dumps(kept["value"])
        if kept["key"] == key and kept["sha256"] == hashlib.sha256(text.encode()).hexdigest():
            return kept["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = make()
    text = json.dumps(value)
    about = {"key": key, "sha256": hashlib.sha256(text.encode()).hexdigest(), "value": value}
    _keep(path, json.dumps(about).encode())
    return json.loads(text)


@functools.cache
def code_digest() -> str:
    """sha256 over this package's source: part of the key of what may change with the code."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()


def read_tensors(key: str) -> dict[str, Tensor] | None:
    """What is kept under a key, or None if there is none that is whole and of this key."""
    return _read(_path(key), key)


def has_tensors(key: str) -> bool:
    """Whether something is kept under a key, which may turn out to be damaged or unfinished."""
    return _path(key).exists()


def write_tensors(key: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep tensors under a key, in place of what was there, and return them as they were kept."""
    import safetensors.torch

    kept = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    about = {"key": key, "sha256": _digest(kept)}
    _keep(_path(key), safetensors.torch.save(kept, {"entry": json.dumps(about)}))
    return kept


def _keep(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        warnings.warn(
            f"{path.parent} cannot be written ({error}), so this will be computed again next "
            "time. Set CORRIGENDA_CACHE to a directory that can.",
            stacklevel=3,
        )


def _path(key: str) -> Path:
    return cache_dir() / "tensors" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """What is in the entry, or None if there is none that is whole and of this key."""
    import safetensors
    import safetensors.torch

    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["entry"])
        whole = about == {"key": key, "sha256": _digest(tensors)}
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return None
    return tensors if whole else None


def _digest(tensors: dict[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(f"{len(head)}:{head}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
