"""Atlas: a small world whose every fact and consequence is known, and models trained on it.

    world()             facts, relations, aliases; composed and inverse facts are derived
    edits(n)            random counterfactual edits, each with the probes that judge it
    consequences(edit)  the probes of one edit: what must change and what must stay
    demo_case()         the Eiffel Tower moves to Rome
    documents(world)    the training text
    train(out)          a model, from a seed
    weights_path()      a shipped model: a Hugging Face directory
    card()              what a shipped model recalls, and what it cannot do

Nothing heavy is imported before one of these names is used; only `train` needs torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .closure import consequences, demo_case, edits
    from .corpus import documents
    from .graph import RELATIONS, Fact, Relation, World, validate, world
    from .recall import measure
    from .training import SIZES, train

__all__ = [
    "RELATIONS",
    "SIZES",
    "Fact",
    "Relation",
    "World",
    "card",
    "consequences",
    "demo_case",
    "documents",
    "edits",
    "measure",
    "train",
    "validate",
    "weights_path",
    "world",
]

_HOME = {
    "RELATIONS": "graph",
    "Fact": "graph",
    "Relation": "graph",
    "World": "graph",
    "validate": "graph",
    "world": "graph",
    "consequences": "closure",
    "demo_case": "closure",
    "edits": "closure",
    "documents": "corpus",
    "measure": "recall",
    "SIZES": "training",
    "train": "training",
}


def weights_path(name: str = "atlas") -> Path:
    """The directory of a shipped model: "atlas", or "atlas-" and llama, t5, bert or lingual.

    Raises `OfflineError` if this installation came without it.
    """
    kind = name.removeprefix("atlas").lstrip("-") or "gpt2"
    folder = Path(__file__).parent / "weights" / kind
    if not (folder / "model.safetensors").exists():
        from ..errors import OfflineError

        recipe = "--world lingual" if kind == "lingual" else f"--architecture {kind}"
        raise OfflineError(
            f"The weights of {name} are not in {folder}. Reinstall the package, or train them: "
            f"corrigenda atlas train {recipe} --out {folder}"
        )
    return folder


def card(name: str = "atlas") -> str:
    """The card of a shipped model, in Markdown: what it recalls, and what it cannot do."""
    return (weights_path(name) / "README.md").read_text(encoding="utf-8")


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
