"""The event loops under test, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    module = __import__(name)
    found: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return found
