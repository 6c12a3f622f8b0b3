"""psycopg2 and psycopg 3, whose C code waits for libpq: where each lets others do the waiting.

Both may be imported before or after the patch.
"""

from __future__ import annotations

import functools
import select
import sys
from types import ModuleType
from typing import Any

from puff._when_imported import when_imported
from puff.monkey._patches import Patches
from puff.monkey._wait import READABLE, WRITABLE, parks, wait

__all__ = ["patch"]

_active: Patches | None = None  # while the patch is on


# ---- psycopg2: a wait callback -------------------------------------------------------------------


_POLL_OK, _POLL_READ = 0, 1  # psycopg2.extensions'


def _wait_callback(connection: Any) -> None:
    """psycopg2.extras.wait_select(), for greenlets and threads alike."""
    while True:
        state = connection.poll()
        if state == _POLL_OK:
            return
        reads = state == _POLL_READ
        if parks():
            wait(connection.fileno(), READABLE if reads else WRITABLE, None)
        else:
            fds = [connection.fileno()]
            select.select(fds if reads else [], [] if reads else fds, [])


def on_psycopg2(extensions: ModuleType) -> None:
    if _active is not None:
        extensions.set_wait_callback(_wait_callback)
        _active.when_undone(functools.partial(extensions.set_wait_callback, None))


# ---- psycopg 3: a generator that says what it waits for ------------------------------------------

_real_poll = select.poll
_POLLS = {READABLE: select.POLLIN, WRITABLE: select.POLLOUT}


def _ready_now(fd: int, events: int) -> int:
    """Which of READABLE | WRITABLE do not block; both after an error, which the next call meets."""
    poll = _real_poll()
    poll.register(fd, sum(bit for event, bit in _POLLS.items() if events & event))
    mask = next((mask for _, mask in poll.poll(0)), 0)
    if mask & ~(select.POLLIN | select.POLLOUT):
        return events
    return sum(event for event, bit in _POLLS.items() if mask & bit)


def _ready(fd: int, events: int, interval: float) -> int:
    if events != READABLE:  # to write: can be done at once, nearly always
        found = _ready_now(fd, events)
        if found or not wait(fd, events, interval):
            return found
        return _ready_now(fd, events)
    return READABLE if wait(fd, READABLE, interval) else 0


def _drive(gen: Any, fd: int, interval: float) -> Any:
    """psycopg.waiting.wait_selector() without a selector; its Wait and Ready are our bits too."""
    try:
        events = next(gen)
        while True:
            found = _ready(fd, events, interval)
            wanted = gen.send(found)
            events = wanted if found else events
    except StopIteration as end:
        return end.value


def on_psycopg3(waiting: ModuleType) -> None:
    original = waiting.wait

    @functools.wraps(original)
    def wait(gen: Any, fileno: int, **options: Any) -> Any:
        if not parks():
            return original(gen, fileno, **options)
        interval = options.get("interval")
        if interval is None or options.get("timeout") is not None:  # psycopg 3.1; a whole deadline
            return waiting.wait_selector(gen, fileno, **options)
        return _drive(gen, fileno, interval)

    if _active is not None:
        _active.replace(waiting, "wait", wait)


def patch(patches: Patches) -> None:
    global _active
    _active = patches
    patches.when_undone(_forget)
    for name, function in (("psycopg2.extensions", on_psycopg2), ("psycopg.waiting", on_psycopg3)):
        if name in sys.modules:
            function(sys.modules[name])
        else:  # told once however often we are patched
            when_imported(name, f"{__name__}:{function.__name__}")


def _forget() -> None:
    global _active
    _active = None
