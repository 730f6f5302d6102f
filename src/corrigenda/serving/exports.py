"""Edits for use elsewhere: archives, and the command that goes with each.

delta   the exact change, for this package
peft    a LoRA adapter, for PEFT and vLLM
merged  a whole checkpoint with the edits in its weights, rounded to their dtype
gguf    an adapter for llama.cpp, which its own script makes of the PEFT adapter
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

from ..adapter import as_adapter
from ..delta import Delta
from ..errors import CorrigendaError, DeltaError
from ..ledger import write_merged
from ..models.layouts import GGUF_ADAPTERS
from ..models.text import TextModel
from ..models.twin import twin
from ..store import save
from .refusals import Conflict, Unknown
from .schemas import ExportFormat

__all__ = ["FORMATS", "archive", "formats", "pieces"]

FORMATS = ("delta", "peft", "merged", "gguf")
LARGEST = 4 << 30
"""Bytes of weights up to which a checkpoint is sent over the network."""


def formats(model: TextModel, deltas: Sequence[Delta]) -> list[ExportFormat]:
    """What these edits can be written as, or why not."""
    name, kind = model.id, model.module.config.model_type
    nothing = None if deltas else "There is no active edit to export. Make one first."
    adapter = nothing or _why_no_adapter(deltas)
    vllm = adapter
    if adapter is None and model.kind != "causal":
        vllm = f"vLLM does not serve {model.kind} models with LoRA adapters; PEFT loads it."
    serve = (
        f"vllm serve {name} --enable-lora --lora-modules edited=./corrigenda-peft"
        if vllm is None
        else f'PeftModel.from_pretrained(model, "./corrigenda-peft")  # the base is {name}'
    )
    gguf = adapter or (
        "It is made of the PEFT adapter by llama.cpp's convert_lora_to_gguf.py, which is not part "
        "of this package. Export peft, then run the command."
        if kind in GGUF_ADAPTERS
        else f"llama.cpp has no LoRA adapters for the architecture {kind}. Export merged, and "
        "convert the checkpoint with its convert_hf_to_gguf.py."
    )
    return [
        ExportFormat(
            format="delta",
            possible=nothing is None,
            why_not=nothing,
            command=f'corrigenda ask {name} "..." --delta corrigenda-delta',
        ),
        ExportFormat(format="peft", possible=adapter is None, why_not=adapter, command=serve),
        ExportFormat(
            format="merged",
            possible=(why := nothing or _why_not_merged(model, deltas)) is None,
            why_not=why,
            command="vllm serve ./corrigenda-merged"
            if model.kind == "causal"
            else 'AutoModel.from_pretrained("./corrigenda-merged")',
        ),
        ExportFormat(
            format="gguf",
            possible=False,
            why_not=gguf,
            command="python convert_lora_to_gguf.py ./corrigenda-peft && llama-server -m base.gguf "
            "--lora corrigenda-peft.gguf"
            if adapter is None and kind in GGUF_ADAPTERS
            else "python convert_hf_to_gguf.py ./corrigenda-merged && llama-server -m merged.gguf",
        ),
    ]


def archive(model: TextModel, deltas: Sequence[Delta], form: str) -> Path:
    """A zip of what was asked for, in a temporary directory of its own.

    Raises `Unknown` for another format, `Conflict` with the reason where it cannot be.
    """
    if form not in FORMATS:
        raise Unknown(f"There is no format {form[:40]!r}. There are: {', '.join(FORMATS)}.")
    told = next(one for one in formats(model, deltas) if one.format == form)
    if not told.possible:
        raise Conflict(told.why_not or "It cannot be exported.")
    room = Path(tempfile.mkdtemp(prefix="corrigenda-export-"))
    try:
        content = room / f"corrigenda-{form}"
        if form == "merged":
            write_merged(twin(model), list(deltas), content)
        else:
            save(reduce(lambda a, b: a + b, deltas), content, adapter=form == "peft")
        return Path(shutil.make_archive(str(content), "zip", room, content.name))
    except CorrigendaError as error:
        shutil.rmtree(room, ignore_errors=True)
        raise Conflict(str(error)) from None
    except BaseException:
        shutil.rmtree(room, ignore_errors=True)
        raise


def pieces(path: Path) -> Iterator[bytes]:
    """An archive in pieces; afterwards it is gone."""
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)


def _why_no_adapter(deltas: Sequence[Delta]) -> str | None:
    try:
        as_adapter(reduce(lambda a, b: a + b, deltas))
    except DeltaError as error:
        return str(error)
    return None


def _why_not_merged(model: TextModel, deltas: Sequence[Delta]) -> str | None:
    for delta in deltas:
        if set(delta.changes) - set(delta.weights):
            return "An edit acts on activations or on the prompt, which no checkpoint holds."
    size = sum(p.numel() * p.element_size() for p in model.module.parameters())
    if size > LARGEST:
        return (
            f"The checkpoint has {size / 2**30:.0f} GiB, more than is sent from here. Run "
            "`corrigenda export LEDGER --format merged -o merged` beside the server."
        )
    return None
