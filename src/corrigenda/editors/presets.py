"""Where to edit which model: recommended values per editor, model type and depth.

A hyperparameter that is None takes the preset for the model, else the paper's value
(`Editor.paper_values`). Layers without a preset are proposed from the depth of the model; the
choice is recorded in the delta and printed by the command line.

Layers of GPT-2 XL, GPT-J and NeoX are those of ROME (2202.05262) and MEMIT (2210.07229); of
LLaMA-3 those of AlphaEdit (2410.02355). Those of Atlas were chosen by edit outcome; see
docs/results.md.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from ..editor import Editor
from ..models.text import TextModel

__all__ = ["proposed_layers", "resolved", "source_of_layers"]

E = TypeVar("E", bound=Editor)

_SEVERAL = ("memit", "alphaedit")
"""Editors that spread a change over several layers; the others change one."""

_LIKE = {
    "r-rome": "rome",
    "core": "memit",
    "encore": "memit",
    "nse": "memit",
    "pmet": "memit",
}
"""Methods that edit the layers of another one: its presets are theirs where they have none."""


def _family(
    one: int, several: tuple[int, ...], **more: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Presets of all key-value editors for a model: one layer for ROME's kind, several for MEMIT's."""
    single = {name: {"layers": (one,)} for name in ("rome", "emmet")}
    spread = {name: {"layers": several} for name in _SEVERAL}
    table = {**single, **spread}
    for name, values in more.items():
        table[name] = {**table.get(name, {}), **values}
    return table


# (model type, number of layers) -> editor -> values
PRESETS: dict[tuple[str, int], dict[str, dict[str, Any]]] = {
    ("atlas", 6): {
        # Small weights beside large values: a single edit may be as large as W and do no harm.
        # Few contexts, because a subject at the very start has a key unlike that after a sentence.
        "rome": {
            "layers": (1,),
            "clamp": 6.0,
            "steps": 30,
            "stop": "answer",
            "max_norm": 2.0,
            "prefixes": ((2, 5), (2, 10)),
        },
        "emmet": {
            "layers": (1,),
            "clamp": 6.0,
            "steps": 30,
            "stop": "answer",
            "max_norm": 2.0,
            "prefixes": ((2, 5), (2, 10)),
            "weight": 100.0,
        },
        "memit": {"layers": (0, 1), "lr": 0.25, "weight": 10.0, "max_norm": 2.0},
        "alphaedit": {"layers": (0, 1), "lr": 0.3, "ridge": 0.1, "max_norm": 2.0},
        "kn": {"layers": (3, 4, 5), "threshold": 0.2, "unit": "column", "new": 2.0, "old": 1.0},
        # λ_n and λ beside the small keys of this model: as published, they hold everything fast.
        "encore": {"norm_weight": 0.1, "patience": 4},
        "pmet": {"lr": 0.5, "clamp": 4.0, "weight": 1.0},
        "simie": {"weight": 0.01},
    },
    # On census edits of seed 5; at layer 1, as on Atlas, an edit takes more than twice the norm of W.
    ("atlas-census", 8): {
        "rome": {"layers": (0,), "clamp": 2.0},
        "emmet": {"layers": (0,), "clamp": 2.0},
    },
    # On edits of seed 9: within one layer, the published 0.75 is too small for the target to be said.
    ("atlas-bert", 5): {"memit": {"clamp": 4.0}, "alphaedit": {"clamp": 4.0}},
    ("gpt2", 12): _family(4, (3, 4, 5), rome={"clamp": 3.0}),
    ("gpt2", 24): _family(8, (6, 7, 8, 9), rome={"clamp": 3.0}),
    ("gpt2", 36): _family(12, (9, 10, 11, 12, 13)),
    ("gpt2", 48): _family(
        17,
        (13, 14, 15, 16, 17),
        memit={"weight": 20000.0},
        encore={"norm_weight": 10.0, "patience": 4},
        kn={"threshold": 0.2, "share": 0.4},
        nse={"weight": 10000.0, "lower": 35.0, "upper": 150.0},
    ),
    ("gptj", 28): _family(5, (3, 4, 5, 6, 7, 8), nse={"share": 0.8, "lower": 15.0, "upper": 100.0}),
    ("gpt_neox", 44): _family(15, (6, 7, 8, 9, 10)),
    ("llama", 32): _family(
        5,
        (4, 5, 6, 7, 8),
        rome={"weight_decay": 1e-3, "steps": 25},
        memit={"lr": 0.1},
        alphaedit={"lr": 0.1},
        core={"lr": 0.5, "clamp": 3.0, "weight_decay": 1e-3},
        nse={"lower": 2.5, "upper": 50.0},
        pmet={"lr": 0.5, "clamp": 1.0, "steps": 25},
    ),
    ("mistral", 32): _family(5, (4, 5, 6, 7, 8), rome={"weight_decay": 1e-3, "steps": 25}),
    ("qwen2", 28): _family(5, (4, 5, 6, 7, 8), rome={"weight_decay": 1e-3, "steps": 25}),
    ("qwen3", 36): _family(6, (5, 6, 7, 8, 9), rome={"weight_decay": 1e-3, "steps": 25}),
}

# The same for fine-tuning editors: FT and FT-L from ROME's baselines, LLaMA from EasyEdit (FT-M)
# and LocFT-BF (2509.22072), Atlas by edit outcome.
FINE_TUNING: dict[tuple[str, int], dict[str, dict[str, Any]]] = {
    ("atlas", 6): {
        "ft-l": {"layers": (5,), "box": 2e-2, "lr": 2e-3},
        "ft-m": {"layers": (5,), "lr": 2e-3},
        "locft-bf": {"layers": (5,), "lr": 2e-3},
        "lora": {"layers": (4, 5), "roles": ("down",), "lr": 2e-3},
        # Atlas uses so much of its small maps that 99 % of the curvature leaves too little room.
        "crispedit": {"layers": (5,), "lr": 2e-3, "energy": 0.8},
        "ultraedit": {"layers": (3, 4, 5), "step": 5e-4},
        "task-vector": {"lr": 2e-4},
        # New facts are told in the form in which Atlas learned to read them.
        "definition": {"form": "New fact: {}. "},
        "context-distillation": {"context": "New fact: {}. ", "lr": 3e-4},
        "unke": {"layers": (2,), "fit_lr": 1e-3},
        "anyedit": {"layers": (2,), "fit_lr": 1e-3},
        "wise": {
            "layers": (3,),
            "lr": 0.1,
            "alpha": 1.0,
            "beta": 5.0,
            "gamma": 3.0,
            "act_ratio": 0.7,
        },
        "memoir": {"layers": (3,), "share": 0.2, "least": 0.55},
        "rag-ike": {"least": 0.83},
        # Prompts about one fact lie close together here, far from all others.
        "grace": {"layers": (4,), "radius": 9.0},
        "melo": {"layers": (5,), "key_layer": 4, "radius": 10.0, "lr": 1e-2},
        "t-patcher": {"steps": 150, "memory": 4000},
        "calinet": {"steps": 100, "prefixes": ((1, 5), (1, 10))},
    },
    ("gpt2", 24): {"ft-l": {"layers": (0,), "box": 2e-3}},
    ("gpt2", 36): {"ft-l": {"layers": (0,), "box": 1e-3}},
    ("gpt2", 48): {
        "ft-l": {"layers": (0,), "box": 5e-4},
        "ft-m": {"layers": (1,)},
        "grace": {"layers": (35,), "role": "up"},
    },
    ("gptj", 28): {
        "ft-l": {"layers": (0,), "box": 5e-5},
        "ft-m": {"layers": (21,)},
        "ultraedit": {"layers": tuple(range(18, 27))},
    },
    ("llama", 32): {
        "ft-l": {"layers": (21,)},
        "ft-m": {"layers": (21,)},
        "locft-bf": {"layers": (22,)},
        "grace": {"layers": (27,), "steps": 50},
        "crispedit": {"layers": (19, 20, 21, 22, 23)},
        "unke": {"layers": (7,)},
        "ultraedit": {"layers": (18, 19, 20, 21, 22, 23, 24), "roles": ("up",)},
    },
}

# The same for editors with a trained network, on Atlas by edit outcome: networks of a few hundred
# kilobytes, trained in minutes.
_SMALL = {
    "roles": ("down",),
    "rate": 2e-4,
    "steps": 400,
    "emphasis": 1.0,
    "locality": 2.0,
    "clip": 1.0,
}
_FACTORS = {**_SMALL, "rank": 64, "step": 5e-4, "step_rate": 2e-5}
META_LEARNED: dict[str, dict[str, dict[str, Any]]] = {
    "atlas": {
        "malmen": {**_FACTORS, "lessons": 16},
        "mend": {**_FACTORS, "lessons": 8},
        "rledit": {
            **_FACTORS,
            "blocks": 2,
            "lessons": 16,
            "length": 4,
            "window": 2,
            "steps": 300,
        },
        "ke": {
            **_SMALL,
            "rate": 3e-3,
            "steps": 500,
            "lessons": 8,
            "locality": 1.0,
            "scale": 30.0,
            "width": 64,
            "hidden": 32,
            "margin": (0.3, 0.1),
            "ascent": 0.02,
        },
    },
}

_DEPTH = {
    "ft-l": 0.0,
    "ft-m": 0.66,
    "locft-bf": 0.69,
    "crispedit": 0.66,
    "ultraedit": 0.64,
    "wise": 0.84,
    "memoir": 0.84,
}
"""Where fine-tuning without a preset takes place, as a share of the depth (FT-L, LLaMA)."""


_EVERYWHERE = ("lora", "kn", "task-vector", "context-distillation")
"""Methods that change every block."""

_FINAL = ("t-patcher", "calinet")
"""Methods that add neurons to the very last block."""

_READING = {"grace": 0.75, "melo": 0.75}
"""Where a prompt is recognised, as a share of the layers that read it (GRACE on GPT-2 XL and T5)."""

_LAST = ("ke", "mend", "malmen", "rledit")
"""Methods that change the last blocks: three (MEND), or two of an encoder and two of its decoder."""


def _proposed(editor: Editor, model: TextModel) -> tuple[int, ...]:
    if editor.name in _LAST:
        n, read = model.n_layers, len(model.prompt_layers)
        if read == n:
            return tuple(range(max(0, n - 3), n))
        return (*range(max(0, read - 2), read), *range(max(read, n - 2), n))
    if editor.name in _FINAL:
        return (model.n_layers - 1,)
    if editor.name in _READING:
        reads = model.prompt_layers
        return (reads[int(_READING[editor.name] * len(reads))],)
    if editor.name in _EVERYWHERE:
        return tuple(range(model.n_layers))
    if editor.name in _DEPTH:
        return (int(_DEPTH[editor.name] * model.n_layers),)
    return proposed_layers(model, _LIKE.get(editor.name, editor.name) in _SEVERAL)


def proposed_layers(model: TextModel, several: bool) -> tuple[int, ...]:
    """Layers at about a fifth of the depth, where published presets lie; one or a window of them.

    Blocks with a norm after the MLP get one layer: a residual cannot be spread through the norm.
    """
    n = len(model.prompt_layers)  # where the subject is looked up
    last = min(n - 1, max(0, round(0.25 * n) if several else round(0.18 * n)))
    if not several or model.layout.post_norm is not None:
        return (last,)
    return tuple(range(max(0, last - max(1, round(0.14 * n))), last + 1))


def _key(model: TextModel) -> tuple[str, int]:
    return model.id if model.is_atlas else model.layout.model_type, model.n_layers


def _preset(editor: Editor, model: TextModel) -> dict[str, Any]:
    key = _key(model)
    own: dict[str, Any] = {}
    if model.is_atlas and key != _ATLAS:
        depth = len(model.prompt_layers) if editor.name in _READING else model.n_layers
        own = {n: _alike(model, depth, n, value) for n, value in _of(editor, _ATLAS).items()}
    return {**own, **_of(editor, key)}


def _of(editor: Editor, key: tuple[str, int]) -> dict[str, Any]:
    """What the tables hold for an editor; a likeness (MEMIT for PMET) where they hold nothing."""
    return {
        **PRESETS.get(key, {}).get(_LIKE.get(editor.name, ""), {}),
        **PRESETS.get(key, {}).get(editor.name, {}),
        **FINE_TUNING.get(key, {}).get(editor.name, {}),
        **(META_LEARNED.get(key[0], {}).get(editor.name, {})),
    }


_ATLAS = ("atlas", 6)


def _alike(model: TextModel, depth: int, name: str, value: Any) -> Any:
    """A value for Atlas on another model of its world: layers at the same share of the depth; one
    of them where a norm after the MLP lets a change not be spread."""
    share = (depth - 1) / (_ATLAS[1] - 1)
    if name == "key_layer":
        return min(round(value * share), len(model.prompt_layers) - 1)
    if name != "layers":
        return value
    layers = tuple(dict.fromkeys(round(layer * share) for layer in value))
    return layers[-1:] if model.layout.post_norm is not None else layers


def source_of_layers(editor: Editor, model: TextModel) -> str:
    """Say in words where the layers of an (unresolved) editor come from."""
    editor = getattr(editor, "inner", editor)  # a wrapper edits where its inner editor does
    if getattr(editor, "layers", None) is not None:
        return "given"
    if "training" in editor.needs:
        return "as its network was trained"
    if "layers" in _preset(editor, model):
        return "preset for {} with {} layers".format(*_key(model))
    return f"proposed from the depth of {model.n_layers} layers; check them on a few edits"


def resolved(editor: E, model: TextModel) -> E:
    """The editor with every None replaced: by the preset, the paper's value, or proposed layers."""
    preset = _preset(editor, model)
    values: dict[str, Any] = {}
    for field in fields(editor):
        if getattr(editor, field.name) is not None:
            continue
        if field.name in preset:
            values[field.name] = preset[field.name]
        elif field.name in editor.paper_values:
            values[field.name] = editor.paper_values[field.name]
        elif field.name == "layers":
            values["layers"] = _proposed(editor, model)
    for layer in values.get("layers", getattr(editor, "layers", None) or ()):
        model.block(layer)  # raises for a layer that does not exist
    return replace(editor, **values)
