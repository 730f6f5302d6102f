"""The methods, one paper per file. A class is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import UnknownNameError

if TYPE_CHECKING:
    from ..editor import Editor

# Adding an editor is one file and one line here.
TABLE: dict[str, str] = {
    "actadd": "actadd:ActAdd",
    "alphaedit": "alphaedit:AlphaEdit",
    "anyedit": "anyedit:AnyEdit",
    "caa": "caa:CAA",
    "calinet": "calinet:CaliNET",
    "context-distillation": "context_distillation:ContextDistillation",
    "core": "core:CORE",
    "crispedit": "crispedit:CrispEdit",
    "definition": "definition:Definition",
    "dinm": "dinm:DINM",
    "emmet": "emmet:EMMET",
    "encore": "encore:ENCORE",
    "ft-l": "ft:FTL",
    "ft-m": "ft:FTM",
    "grace": "grace:GRACE",
    "ike": "ike:IKE",
    "ke": "ke:KE",
    "kn": "kn:KN",
    "leace": "leace:LEACE",
    "locft-bf": "locft_bf:LocFTBF",
    "lora": "lora:LoRA",
    "malmen": "malmen:MALMEN",
    "mello": "mello:MeLLo",
    "melo": "melo:MELO",
    "memit": "memit:MEMIT",
    "memoir": "memoir:MEMOIR",
    "mend": "mend:MEND",
    "nse": "nse:NSE",
    "pmet": "pmet:PMET",
    "prune": "prune:PRUNE",
    "r-rome": "r_rome:RROME",
    "rag-ike": "rag_ike:RAGIKE",
    "rect": "rect:RECT",
    "repe": "repe:RepE",
    "rledit": "rledit:RLEdit",
    "rome": "rome:ROME",
    "scrubbing": "scrubbing:Scrubbing",
    "serac": "serac:SERAC",
    "simie": "simie:SimIE",
    "skill-neurons": "skill_neurons:SkillNeurons",
    "sphere": "sphere:SPHERE",
    "t-patcher": "t_patcher:TPatcher",
    "task-vector": "task_vector:TaskVector",
    "ultraedit": "ultraedit:UltraEdit",
    "unke": "unke:UnKE",
    "wise": "wise:WISE",
}
_CLASSES = {entry.split(":")[1]: name for name, entry in TABLE.items()}

__all__ = ["TABLE", "editor_class", "make", *_CLASSES]  # pyright: ignore


def editor_class(name: str) -> type[Editor]:
    """The class of an editor by its command-line name. Raises `UnknownNameError`."""
    entry = TABLE.get(name.lower())
    if entry is None:
        raise UnknownNameError("editor", name, TABLE)
    module, attribute = entry.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def make(name: str, **arguments: Any) -> Editor:
    """An editor by name: `make("rome", clamp=3)`."""
    return editor_class(name)(**arguments)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return editor_class(_CLASSES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
