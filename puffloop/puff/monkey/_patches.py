"""What has been replaced where, so that it can be put back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["Patches"]

_MISSING = object()


class Patches:
    """The replacements of one noun. Attributes of modules and of classes alike."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []
        self.of_modules: dict[str, Any] = {}  # what others may have imported: name -> the original

    def replace(self, owner: Any, name: str, value: Any) -> None:
        # vars(): a class's own attribute, not what it inherits, and a staticmethod as one.
        before = vars(owner).get(name, _MISSING)
        if before is _MISSING:
            self.when_undone(lambda: delattr(owner, name))
        else:
            self.when_undone(lambda: setattr(owner, name, before))
            if isinstance(owner, ModuleType) and callable(before) and name[0] != "_":
                self.of_modules[f"{owner.__name__}.{name}"] = before
        setattr(owner, name, value)

    def when_undone(self, step: Callable[[], Any]) -> None:
        self._undo.append(step)

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()
