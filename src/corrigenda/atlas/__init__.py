"""Atlas: small worlds whose every fact and consequence is known, and models trained on them.

    world()             facts, relations, aliases; composed and inverse facts are derived
    census()            another world, of as many invented people as one likes
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

from pathlib import Path
from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .census_world import census
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
    "census",
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
    "census": "census_world",
    "consequences": "closure",
    "demo_case": "closure",
    "edits": "closure",
    "documents": "corpus",
    "measure": "recall",
    "SIZES": "training",
    "train": "training",
}


def weights_path(name: str = "atlas") -> Path:
    """The directory of a shipped model: "atlas", "atlas-llama", "atlas-t5", "atlas-bert" (by their
    architecture), "atlas-census" or "atlas-lingual" (by their world).

    Raises `OfflineError` if this installation came without it.
    """
    kind = name.removeprefix("atlas").lstrip("-") or "gpt2"
    folder = Path(__file__).parent / "weights" / kind
    if not (folder / "model.safetensors").exists():
        from ..errors import OfflineError
        from .worlds import WORLDS

        option = "world" if kind in WORLDS else "architecture"
        raise OfflineError(
            f"The weights of {name} are not in {folder}. Reinstall the package, or train them: "
            f"corrigenda atlas train --{option} {kind} --out {folder}"
        )
    return folder


def card(name: str = "atlas") -> str:
    """The card of a shipped model, in Markdown: what it recalls, and what it cannot do."""
    return (weights_path(name) / "README.md").read_text(encoding="utf-8")


__getattr__, __dir__ = lazy(__name__, _HOME)
