"""Does something to a module as soon as that has been imported: now, later, and again if reloaded.

    when_imported("asgiref.sync", "puff.contrib.asgiref:patch_sync")

The function gets the module. Its own module is imported only then, so that waiting costs nothing
but a look into a dict for each import. An exception of it is the importer's.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["when_imported"]

# module -> "module:function" of what waits for it
_waiting: dict[str, list[str]] = {}


def when_imported(name: str, function: str) -> None:
    """Calls `function`, a path "module:function", with the module `name` once it is imported."""
    waiting = _waiting.setdefault(name, [])
    if function in waiting:
        return
    waiting.append(function)
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    if name in sys.modules:
        _call(function, import_module(name))  # waits for a thread that is importing it


def _call(function: str, module: ModuleType) -> None:
    where, _, name = function.partition(":")
    getattr(import_module(where), name)(module)


class _Finder:
    """Finds what is waited for as the other finders do, and gives it our loader."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    """Another loader, whose modules are shown around once they are there. They do not know it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for function in _waiting[module.__name__]:
            _call(function, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
