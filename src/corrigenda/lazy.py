"""Names of a package that are looked up when they are first used (PEP 562).

Importing such a package imports nothing heavy, which keeps `corrigenda --help` quick.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

__all__ = ["lazy"]


def lazy(
    package: str, home: Mapping[str, str], packages: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    home      {public name: module inside the package that defines it}.
    packages  subpackages that are imported by their own name.

    Where a module has the name of what it defines (`evaluate`), the package's attribute is what is
    defined, whichever of the two was asked for first.
    """
    module = sys.modules[package]

    def find(name: str) -> Any:
        if name in packages:
            return importlib.import_module(f".{name}", package)
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{home[name]}", package), name)
        setattr(module, name, value)
        return value

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            # The import system binds an imported submodule here.
            if isinstance(value, ModuleType) and home.get(name) == name:
                value = getattr(value, name)
            super().__setattr__(name, value)

    module.__class__ = Package
    return find, lambda: sorted({*getattr(module, "__all__", ()), *home, *packages})
