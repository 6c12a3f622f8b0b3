"""Greenlets: functions that look blocking and are not.

    def job(n):
        puff.sleep_ms(10)              # parks this greenlet; the loop runs
        return n * 2

    async def main():
        greenlets = [puff.spawn(job, n) for n in range(100)]
        assert sum(await puff.join_all(greenlets)) == 9900      # after about 10 ms

docs/worlds.md says which call does what where.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from puff._bind.bridge import await_, to_greenlet
from puff._bind.greenlet import (
    Greenlet,
    GreenletExit,
    is_asyncio,
    is_greenlet,
    join_all as _join_all,
    sleep_ms,
    spawn,
)
from puff._types import Reply

__all__ = [
    "Greenlet", "GreenletExit", "await_", "is_asyncio", "is_greenlet", "join_all", "sleep_ms",
    "spawn", "to_greenlet",
]  # fmt: skip

T = TypeVar("T")


def join_all(greenlets: Iterable[Greenlet[T]], timeout: float | None = None) -> Reply[list[T]]:
    """Wait until all have ended; return what they returned, in order.

    The first exception of any of them is raised as soon as it happens; the others go on. `timeout`
    is in seconds; TimeoutError
    when it passes.

        assert puff.join_all([puff.spawn(int, "1"), puff.spawn(int, "2")]) == [1, 2]
    """
    return _join_all(list(greenlets), timeout)
