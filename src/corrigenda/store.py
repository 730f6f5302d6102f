"""Deltas on disk: a directory that reloads bit for bit and that PEFT can load too.

    changes.safetensors         the exact factors and dense changes, and the state: the truth
    adapter_model.safetensors   the same as LoRA factors, where there is such a form
    adapter_config.json         so that PEFT reads them
    delta.json                  provenance, base hashes, and the sha256 of every file
    README.md                   model card

Nothing is ever unpickled. A directory appears complete or not at all, and is read only if every
byte of it is what was written: `delta.json` holds the checksums of the others and its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from .acting import ACTING
from .adapter import as_adapter
from .card import card
from .context import CONTEXTS
from .delta import Change, Delta, Dense, LowRank, Provenance
from .disk import new_directory, write_synced
from .errors import DeltaError, TamperedError

__all__ = ["Manifest", "delta_id", "load", "manifest", "save"]

FORMAT = "corrigenda-delta"
VERSION = 1
CHANGES, MANIFEST, CARD = "changes.safetensors", "delta.json", "README.md"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
KINDS: dict[str, Any] = {"LowRank": LowRank, "Dense": Dense, **ACTING, **CONTEXTS}
OURS = frozenset({CHANGES, MANIFEST, CARD, ADAPTER, ADAPTER_CONFIG})


class ChangeRecord(BaseModel):
    """What `delta.json` says of one change; its tensors are in `changes.safetensors`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    shape: tuple[int, ...] = ()
    rank: int | None = None
    norm: float | None = Field(default=None, description="Frobenius norm")
    tensors: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default={}, description="what is not a tensor")


class FileRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """The content of `delta.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["corrigenda-delta"]
    version: Literal[1]
    id: str
    changes: dict[str, ChangeRecord]
    transposed: tuple[str, ...]
    base: dict[str, str]
    state: dict[str, tuple[int, ...]] = Field(description="shapes of the tensors kept to go on")
    provenance: Provenance
    adapter: str = Field(
        default="", description="why there is no PEFT adapter; empty if there is one"
    )
    files: dict[str, FileRecord]
    sha256: str = Field(default="", description="of this file, with this field empty")


def delta_id(delta: Delta) -> str:
    """Content address of a delta: sha256 over its changes, their storage and their base.

    State and provenance do not count: the same change found twice has the same id.
    """
    digest = hashlib.sha256(b"corrigenda delta 1\n")
    for name, change in sorted(delta.changes.items()):
        tensors = change.tensors()
        shapes = {key: list(t.shape) for key, t in tensors.items()}
        head: list[Any] = [name, type(change).__name__, shapes]
        if not isinstance(change, LowRank | Dense):
            head += [change.settings(), {key: str(t.dtype) for key, t in tensors.items()}]
        digest.update(_framed(head))
        for tensor in tensors.values():
            digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    digest.update(_framed([sorted(delta.transposed), sorted(delta.base.items())]))
    return digest.hexdigest()


def save(
    delta: Delta, directory: str | Path, *, overwrite: bool = False, adapter: bool = True
) -> Path:
    """Write a directory that `load` reads bit for bit and, where possible, PEFT loads as LoRA.

    A delta that no LoRA adapter can express (prefixes, biases, dense changes of full rank) is
    saved without one; `README.md` says why, and so does `manifest(directory).adapter`.

    overwrite  replace a delta that is there already. Other content is never replaced.
    adapter    leave the PEFT adapter out when False.

    Raises `DeltaError` if something is in the way, `UnstableEditError` if the delta is not finite.
    """
    directory = Path(directory)
    delta.check_finite()
    _check_place(directory, overwrite)
    lora, reason = None, "It was saved without one."
    if adapter:
        try:
            lora = as_adapter(delta)
        except DeltaError as error:
            reason = str(error)
    identity = delta_id(delta)
    files = {CHANGES: safetensors.torch.save(_tensors(delta))}
    if lora is not None:
        files[ADAPTER] = safetensors.torch.save(lora.tensors, {"format": "pt"})
        files[ADAPTER_CONFIG] = (json.dumps(lora.config, indent=2) + "\n").encode()
    rank = lora.rank if lora else None
    files[CARD] = card(delta, identity, directory.name, rank, reason).encode()
    document = Manifest(
        format=FORMAT,
        version=VERSION,
        id=identity,
        changes={name: _record(change) for name, change in delta.changes.items()},
        transposed=tuple(sorted(delta.transposed)),
        base=dict(delta.base),
        state={key: tuple(t.shape) for key, t in delta.state.items()},
        provenance=delta.provenance,
        adapter="" if lora else reason,
        files={n: FileRecord(sha256=_sha(d), size=len(d)) for n, d in files.items()},
    )
    content = _plain(document.model_dump())
    content["sha256"] = _sha(_text(content))
    files[MANIFEST] = _text(content)
    with new_directory(directory) as part:
        for name, data in files.items():
            write_synced(part / name, data)
    return directory


def manifest(directory: str | Path) -> Manifest:
    """Read and check `delta.json` alone: provenance without the tensors.

    Raises `DeltaError` where there is no delta or it has an unknown version, and `TamperedError`
    if the file is damaged.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if (directory / CHANGES).exists():
            raise TamperedError(
                f"{directory} is damaged: {MANIFEST} is missing. Restore it from a copy, or save "
                "the delta again."
            ) from None
        hint = "It holds a PEFT adapter of another origin." if _is_adapter(directory) else ""
        raise DeltaError(
            f"There is no saved delta at {directory} (no {MANIFEST}). {hint} Give the directory "
            "that `delta.save` or `corrigenda edit -o` wrote.".replace("  ", " ")
        ) from None
    try:
        content = json.loads(raw.decode("utf-8"))
        stated, content["sha256"] = content["sha256"], ""
        # Compare the bytes too: a blank changed for a tab parses to the same content.
        whole = _sha(_text(content)) == stated
        content["sha256"] = stated
        whole = whole and _text(content) == raw
    except (ValueError, KeyError, TypeError, RecursionError):
        whole, content = False, {}
    if not whole:
        raise TamperedError(
            f"{path} is truncated or was changed after it was written: its checksum does not "
            "match. Restore it from a copy, or solve the edit again."
        )
    if (found := (content.get("format"), content.get("version"))) != (FORMAT, VERSION):
        raise DeltaError(
            f"{path} has format {found[0]!r}, version {found[1]!r}; this corrigenda reads "
            f"{FORMAT!r}, version {VERSION}. Upgrade corrigenda to read it."
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DeltaError(
            f"{path} is not understood at {where!r}: {first['msg']}. It was probably written by "
            "a newer corrigenda; upgrade to read it."
        ) from None


def load(directory: str | Path) -> Delta:
    """Read what `save` wrote: the same changes, state and id, bit for bit.

    Raises `DeltaError` where there is no delta, and `TamperedError` if any file is missing,
    truncated or changed. Whether the delta fits a model is checked when it is applied.
    """
    directory = Path(directory)
    about = manifest(directory)
    content = b""
    for name, record in about.files.items():
        data = _checked(directory / name, record)
        if name == CHANGES:
            content = data
    try:
        tensors = safetensors.torch.load(content)
        changes = {name: _change(name, r, tensors) for name, r in about.changes.items()}
        state = {key: tensors[f"state:{key}"] for key in about.state}
    except (safetensors.SafetensorError, KeyError) as error:
        raise TamperedError(
            f"{directory / CHANGES} does not hold what is announced: {error}."
        ) from None
    delta = Delta(changes, frozenset(about.transposed), about.base, state, about.provenance)
    if delta.id != about.id:
        raise TamperedError(
            f"{directory} holds the changes of {delta.id[:12]}, but says that it is "
            f"{about.id[:12]}. Its files come from different deltas."
        )
    return delta


def _check_place(directory: Path, overwrite: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise DeltaError(f"{directory} is a file. A delta is saved as a directory; name a new one.")
    found = {p.name for p in directory.iterdir()}
    if not found:
        return
    if foreign := sorted(found - OURS) or (sorted(found) if MANIFEST not in found else []):
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise DeltaError(
            f"{directory} holds files that are no part of a delta ({shown}); nothing was written. "
            "Name a new or empty directory."
        )
    if not overwrite:
        raise DeltaError(
            f"{directory} holds a delta already. Name another directory, or pass overwrite=True "
            "(--overwrite) to replace it."
        )


def _checked(path: Path, record: FileRecord) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise TamperedError(f"{path} is missing. Restore it from a copy.") from None
    if len(data) != record.size:
        raise TamperedError(
            f"{path} has {len(data)} bytes, but {record.size} were written. It is truncated or "
            "was replaced; restore it from a copy, or solve the edit again."
        )
    if _sha(data) != record.sha256:
        raise TamperedError(
            f"{path} was changed after it was written: its sha256 does not match. Restore it "
            "from a copy, or solve the edit again."
        )
    return data


def _is_adapter(directory: Path) -> bool:
    return (directory / ADAPTER_CONFIG).exists()


def _record(change: Change) -> ChangeRecord:
    kind, names = type(change).__name__, tuple(change.tensors())
    if not isinstance(change, LowRank | Dense):
        return ChangeRecord(kind=kind, tensors=names, settings=change.settings())
    rank = change.rank if isinstance(change, LowRank) else None
    return ChangeRecord(kind=kind, tensors=names, shape=change.shape, rank=rank, norm=change.norm())


def _change(name: str, record: ChangeRecord, tensors: dict[str, Tensor]) -> Change:
    own = {key: tensors[f"change:{name}:{key}"] for key in record.tensors}
    if record.kind not in KINDS:
        raise DeltaError(
            f"The change of {name} is of the kind {record.kind!r}, which this corrigenda does not "
            "know. Upgrade corrigenda to read it."
        )
    kind = KINDS[record.kind]
    if kind in (LowRank, Dense):
        return kind(**own)
    return kind.restored(own, record.settings)


def _tensors(delta: Delta) -> dict[str, Tensor]:
    named = {
        f"change:{name}:{key}": tensor
        for name, change in delta.changes.items()
        for key, tensor in change.tensors().items()
    }
    named |= {f"state:{key}": tensor for key, tensor in delta.state.items()}
    # safetensors refuses tensors that share memory, as one key used at two sites does.
    seen: set[int] = set()
    for key, tensor in named.items():
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            named[key] = tensor.clone()
        seen.add(storage.data_ptr())
    return named


def _framed(content: Any) -> bytes:
    """JSON with its length in front, so that no two contents run into each other."""
    text = json.dumps(content).encode()
    return f"{len(text)}:".encode() + text


def _plain(value: Any) -> Any:
    """The same for JSON. What JSON has no word for (a dtype among the arguments, NaN) becomes text
    or null rather than an error: provenance is for reading."""
    if isinstance(value, Mapping):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _text(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
