"""A cache on disk for tensors that are slow to make and fully named by a key.

Entries are single safetensors files that carry their key and a checksum of their content; one
that is damaged, or belongs to another key, is made again. Deleting the directory is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["cache_dir", "cached_tensors", "has_tensors", "read_tensors", "write_tensors"]


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
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, safetensors.torch.save(kept, {"entry": json.dumps(about)}))
    except OSError as error:
        warnings.warn(
            f"{path.parent} cannot be written ({error}), so this will be computed again next "
            "time. Set CORRIGENDA_CACHE to a directory that can.",
            stacklevel=2,
        )
    return kept


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
