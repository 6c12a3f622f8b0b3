"""queue.SimpleQueue, which is C and blocks. The others are Python over threading's locks."""

from __future__ import annotations

import concurrent.futures.thread as pool
import queue
from types import SimpleNamespace

from puff.monkey._patches import Patches

__all__ = ["patch"]

_SimpleQueue = queue.SimpleQueue


def patch(patches: Patches) -> None:
    patches.replace(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined]
    # Only threads wait for an executor's queue: those keep the fast one.
    own = SimpleNamespace(**{**vars(queue), "SimpleQueue": _SimpleQueue})
    patches.replace(pool, "queue", own)
