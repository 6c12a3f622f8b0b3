"""The standard library made cooperative: code that blocks a thread parks its greenlet instead.

    import puff.monkey

    puff.monkey.patch_all()     # first thing, before others import what is replaced

    import requests

    def fetch(url):
        return requests.get(url).status_code

    def main():
        return puff.join_all([puff.spawn(fetch, "https://example.org") for _ in range(50)])

A patched call parks only on a greenlet of Puff. In a coroutine, in another thread and where no loop
runs it does what it always did, and blocks. docs/monkey.md says what is replaced.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from puff.monkey._late import importers
from puff.monkey._patches import Patches

__all__ = ["patch_all", "patched", "unpatch_all"]

# In this order: a socket's connect() asks the DNS that is patched by then.
_NOUNS = (
    "time", "select", "dns", "socket", "ssl", "threading", "queue", "subprocess", "psycopg",
)  # fmt: skip

_done: dict[str, Patches] = {}


def patch_all(
    *,
    time: bool = True,
    select: bool = True,
    dns: bool = True,
    socket: bool = True,
    ssl: bool = True,
    threading: bool = True,
    queue: bool = True,
    subprocess: bool = True,
    psycopg: bool = True,
) -> None:
    """Replace what blocks in the standard library, or the parts of it that are True.

    For the whole process, and at any time; but names that others have imported already (`from time
    import sleep`) stay as they are: call it first. A RuntimeWarning names them. A second call adds
    what the first left out.
    """
    wanted = locals()
    replaced: dict[str, Any] = {}
    for noun in _NOUNS:
        if wanted[noun] and noun not in _done:
            patches = _done[noun] = Patches()
            import_module(f"puff.monkey.{noun}").patch(patches)
            replaced |= patches.of_modules
    if late := importers(replaced):
        warnings.warn(
            f"imported before puff.monkey.patch_all(), and blocking still: {late}",
            RuntimeWarning,
            stacklevel=2,
        )


def patched() -> frozenset[str]:
    """The parts that are replaced now, by the names of patch_all()'s arguments."""
    return frozenset(_done)


def unpatch_all() -> None:
    """Put everything back. For tests: objects made in between keep their types."""
    while _done:
        _done.popitem()[1].undo()
