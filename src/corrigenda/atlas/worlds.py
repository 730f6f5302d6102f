"""The worlds that models are trained on, by name.

    atlas    real facts of countries, cities, people and works, read from tables (`graph.py`)
    census   invented people, any number of them, made from a seed (`census_world.py`)
    lingual  the world of Atlas in English, French, German and Spanish (`lingual.py`)

A `World` carries its own relations and wordings, so all that follows (documents, probes, edits,
training, recall) works on each of them alike. A world is built when it is asked for, once.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import UnknownNameError

if TYPE_CHECKING:
    from .graph import World

__all__ = ["WORLDS", "world_named", "world_of"]

WORLDS: dict[str, str] = {
    "atlas": "graph:world",
    "census": "census_world:census",
    "lingual": "lingual:world",
}
"""Name -> "module:function"; called without arguments, the function returns the `World`."""


@cache
def world_named(name: str) -> World:
    """The world with this name. Raises `UnknownNameError` if there is none."""
    if name not in WORLDS:
        raise UnknownNameError("world", name, WORLDS)
    module, _, function = WORLDS[name].partition(":")
    return getattr(import_module(f".{module}", __package__), function)()


def world_of(model: str) -> World:
    """The world that a shipped model knows: "atlas-census" knows the census, other models Atlas."""
    name = model.removeprefix("atlas").lstrip("-")
    return world_named(name if name in WORLDS else "atlas")
