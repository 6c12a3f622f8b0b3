"""time.sleep() parks the greenlet; in threads and coroutines it sleeps as ever."""

from __future__ import annotations

import time

from puff.monkey._patches import Patches
from puff.monkey._wait import parks, pause

__all__ = ["patch"]

_sleep = time.sleep
_LONGEST_S = 2.0**62 / 10**9  # with much more the original raises OverflowError


def sleep(seconds: float, /) -> None:
    """time.sleep(). A greenlet that sleeps for 0 seconds lets the loop have a turn."""
    if not parks() or not 0 <= seconds <= _LONGEST_S:
        _sleep(seconds)
    else:
        pause(seconds)


def patch(patches: Patches) -> None:
    patches.replace(time, "sleep", sleep)
