"""The waits that all patched modules share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from puff._bind.poll import READABLE, WRITABLE, closing, own_loop, parks, pause, poll, wait

__all__ = [
    "READABLE", "WRITABLE", "Deadline", "closing", "in_thread", "own_loop", "parks", "pause",
    "poll", "wait",
]  # fmt: skip

_monotonic = time.monotonic


class Deadline:
    """A timeout in seconds (None: none) that several waits share."""

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else _monotonic() + timeout

    def left(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - _monotonic())

    def passed(self) -> bool:
        return self._at is not None and _monotonic() >= self._at


def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """On a greenlet: what blocks with no descriptor to wait for, in the loop's executor."""
    from puff.greenlet import await_

    return await_(own_loop().run_in_executor(None, fn, *args))
