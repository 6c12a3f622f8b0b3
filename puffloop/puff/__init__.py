"""Puff: an asyncio event loop, an HTTP server, Postgres, Redis and greenlets in one native runtime.

Names are found in their modules when first used, so that `import puff` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# name -> the module that has it
_WHERE = {
    "Block": "puff.watchdog",
    "BoundedSemaphore": "puff.sync",
    "Condition": "puff.sync",
    "Event": "puff.sync",
    "File": "puff.files",
    "Greenlet": "puff.greenlet",
    "GreenletExit": "puff.greenlet",
    "LifoQueue": "puff.sync",
    "Lock": "puff.sync",
    "Loop": "puff.policy",
    "LoopStats": "puff.stats",
    "Policy": "puff.policy",
    "PriorityQueue": "puff.sync",
    "Queue": "puff.sync",
    "QueueEmpty": "puff.sync",
    "QueueFull": "puff.sync",
    "QueueShutDown": "puff.sync",
    "RLock": "puff.sync",
    "Semaphore": "puff.sync",
    "await_": "puff.greenlet",
    "blocking": "puff.greenlet",
    "install": "puff.policy",
    "is_asyncio": "puff.greenlet",
    "is_greenlet": "puff.greenlet",
    "join_all": "puff.greenlet",
    "join_iter": "puff.greenlet",
    "new_event_loop": "puff.policy",
    "open_file": "puff.files",
    "read_file_bytes": "puff.files",
    "run": "puff.policy",
    "sleep_ms": "puff.greenlet",
    "spawn": "puff.greenlet",
    "spawn_blocking": "puff.greenlet",
    "to_greenlet": "puff.greenlet",
    "value_of": "puff._types",
    "wrap_async": "puff.greenlet",
    "write_file_bytes": "puff.files",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
