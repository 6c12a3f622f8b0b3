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

from puff._bind.blocking import blocking, spawn_blocking
from puff._bind.bridge import await_, to_greenlet
from puff._bind.completion import wrap_async
from puff._bind.greenlet import (
    Greenlet,
    GreenletExit,
    JoinIter,
    is_asyncio,
    is_greenlet,
    join_all as _join_all,
    join_iter as _join_iter,
    sleep_ms,
    spawn,
)
from puff._types import Reply

__all__ = [
    "Greenlet", "GreenletExit", "await_", "blocking", "is_asyncio", "is_greenlet", "join_all",
    "join_iter", "sleep_ms", "spawn", "spawn_blocking", "to_greenlet", "wrap_async",
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


def join_iter(greenlets: Iterable[Greenlet[T]]) -> JoinIter[T]:
    """Iterate over what the greenlets return, in the order in which they end.

    `for` in a greenlet, a thread or a script; `async for` in a coroutine. The exception of one is
    raised when its turn has come, and the iteration may go on after it. Leaving early leaves the
    others running.

        for row in puff.join_iter([puff.spawn(fetch, n) for n in range(10)]):
            print(row)
    """
    return _join_iter(list(greenlets))
