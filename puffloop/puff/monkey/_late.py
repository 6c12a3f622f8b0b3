"""Who has imported what is being replaced: `from time import sleep` keeps the old one for good."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__all__ = ["importers"]

_NAMED_AT_MOST = 8


def _is_exempt(module: str) -> bool:
    """The standard library's own are looked after by the patches; Puff's call the originals."""
    top = module.partition(".")[0]
    return top == "puff" or top in sys.stdlib_module_names


def importers(replaced: dict[str, Any]) -> str:
    """{"time.sleep": the original} -> "module.sleep (time.sleep), ...", or nothing."""
    names = {id(original): name for name, original in replaced.items()}
    found = []
    for module_name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or _is_exempt(module_name):
            continue
        for name, value in list(vars(module).items()):
            if id(value) in names:
                found.append(f"{module_name}.{name} ({names[id(value)]})")
    more = len(found) - _NAMED_AT_MOST
    shown = sorted(found)[:_NAMED_AT_MOST] + ([f"and {more} more"] if more > 0 else [])
    return ", ".join(shown)
