"""What a test leaves behind: open descriptors, loops that nobody has closed, threads, and memory of
the core that a loop has not given back when it was closed."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import puff
from puff._bind.loop import _close_own_loop, _count_memory, _memory_left

PATIENCE_S = 2.0  # a thread that has been told to end does so soon
# Bounded crews of the process, and the thread of a fixture: they stay.
REUSED = ("puff-blocking-", "puff-file-", "private-server-")

_count_memory()
_loops: weakref.WeakSet[puff.Loop] = weakref.WeakSet()


def _watch(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def watched(self: puff.Loop, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _loops.add(self)

    return watched


puff.Loop.__init__ = _watch(puff.Loop.__init__)  # type: ignore[method-assign]


def descriptors() -> dict[int, str]:
    """{number: what it is}"""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that has listed the others
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


class State(NamedTuple):
    fds: dict[int, str]
    loops: set[int]
    threads: set[threading.Thread]
    blocks: int  # of the core's, of loops that are closed


def state() -> State:
    open_loops = {id(loop) for loop in _loops if not loop.is_closed()}
    return State(descriptors(), open_loops, set(threading.enumerate()), _memory_left())


def left(before: State) -> list[str]:
    """What is there now and was not before, in words."""
    now = state()
    lines = [f"{fd} -> {what}" for fd, what in now.fds.items() if before.fds.get(fd) != what]
    lines += [
        f"{loop!r} is not closed"
        for loop in list(_loops)
        if not loop.is_closed() and id(loop) not in before.loops
    ]
    lines += [f"{thread!r} runs" for thread in now.threads - before.threads if not stays(thread)]
    if (blocks := now.blocks - before.blocks) > 0:
        lines.append(f"{blocks} blocks of memory of loops that are closed")
    return lines


def stays(thread: threading.Thread) -> bool:
    """A dummy is a C thread that has logged: up to 3.12 it never leaves the list."""
    return thread.name.startswith(REUSED) or isinstance(thread, threading._DummyThread)


def left_for_good(before: State) -> list[str]:
    """The same of what neither goes with the garbage nor ends soon."""
    found = left(before)
    if not found:
        return found
    _close_own_loop()  # scripts' connections are pooled on it
    give_up = time.monotonic() + PATIENCE_S
    while True:
        gc.collect()
        found = left(before)
        if not found or time.monotonic() > give_up:
            return found
        time.sleep(0.01)
