"""work_greenlet.py CONTENDER CASE - sync code beside an event loop, N operations at a time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from timing import report

N = 20_000
BATCH = 100  # as many as run at once
contender, case = sys.argv[1], sys.argv[2]


def nothing(*_: object) -> None:
    pass


# ---- spawn and join, and one yield to the others -------------------------------------------------


def gevent_spawn() -> int:
    import gevent

    for _ in range(N // BATCH):
        gevent.joinall([gevent.spawn(nothing) for _ in range(BATCH)])
    return N


def gevent_yield() -> int:
    import gevent

    def yields() -> None:
        for _ in range(N // BATCH):
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(yields) for _ in range(BATCH)])
    return N


async def puff_spawn() -> int:
    import puff

    for _ in range(N // BATCH):
        await puff.join_all([puff.spawn(nothing) for _ in range(BATCH)])
    return N


async def puff_yield() -> int:
    import puff

    def yields() -> None:
        for _ in range(N // BATCH):
            puff.sleep_ms(0)

    await puff.join_all([puff.spawn(yields) for _ in range(BATCH)])
    return N


async def task_spawn() -> int:
    async def noop() -> None:
        pass

    for _ in range(N // BATCH):
        await asyncio.gather(*[noop() for _ in range(BATCH)])
    return N


async def task_yield() -> int:
    async def yields() -> None:
        for _ in range(N // BATCH):
            await asyncio.sleep(0)

    await asyncio.gather(*[yields() for _ in range(BATCH)])
    return N


# ---- asgiref, on whichever loop runs: on Puff's it is patched ------------------------------------


async def sync_to_async() -> int:
    from asgiref.sync import sync_to_async

    call = sync_to_async(nothing)
    for _ in range(N):
        await call()
    return N


async def sync_to_async_wrapped_anew() -> int:
    """As Django does for each middleware, signal receiver and view of a request."""
    from asgiref.sync import sync_to_async

    for _ in range(N):
        await sync_to_async(nothing, thread_sensitive=True)()
    return N


async def async_to_sync() -> int:
    """There and back: a coroutine calls sync code, which awaits a coroutine."""
    from asgiref.sync import async_to_sync, sync_to_async

    async def inner() -> None:
        pass

    back = async_to_sync(inner)

    def calls_back() -> None:
        for _ in range(BATCH):
            back()

    call = sync_to_async(calls_back)
    for _ in range(N // BATCH // 4):
        await call()
    return N // 4


async def to_greenlet() -> int:
    import puff

    for _ in range(N):
        await puff.to_greenlet(nothing)
    return N


PLAIN: dict[tuple[str, str], Callable[[], int]] = {
    ("gevent", "spawn"): gevent_spawn,
    ("gevent", "yield"): gevent_yield,
}
COROUTINES: dict[tuple[str, str], Callable[[], Coroutine[Any, Any, int]]] = {
    ("puff", "spawn"): puff_spawn,
    ("puff", "yield"): puff_yield,
    ("tasks", "spawn"): task_spawn,
    ("tasks", "yield"): task_yield,
    ("puff.to_greenlet", "sync_to_async"): to_greenlet,
}
ASGIREF = {each.__name__: each for each in (sync_to_async, sync_to_async_wrapped_anew,
                                            async_to_sync)}  # fmt: skip


def main() -> None:
    plain = PLAIN.get((contender, case))
    if plain:
        report(plain)
        return
    from loops import factory

    loop = factory({"tasks": "uvloop", "puff.to_greenlet": "puff"}.get(contender, contender))()
    asyncio.set_event_loop(loop)
    run = COROUTINES.get((contender, case)) or ASGIREF[case]
    report(lambda: loop.run_until_complete(run()))


main()
