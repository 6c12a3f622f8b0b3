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


# ---- psycopg 3: its waiting in Python, over selectors --------------------------------------------


def on_psycopg3(waiting: ModuleType) -> None:
    original = waiting.wait

    @functools.wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Any:
        return (waiting.wait_selector if parks() else original)(*args, **kwargs)

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
