"""work_micro.py LOOP CASE - the small change of a loop, N operations at a time."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

from loops import factory
from timing import report

N = 100_000
loop = factory(sys.argv[1])()


def nothing(*_: object) -> None:
    pass


def burst(add: Callable[[], object]) -> int:
    """Queues N callbacks and a stop, then runs them."""
    for _ in range(N):
        add()
    loop.call_soon(loop.stop)
    loop.run_forever()
    return N


def countdown() -> Callable[[], None]:
    """A callback that stops the loop when it is called for the N-th time."""
    left = N

    def step() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    return step


def chain() -> int:
    left = N

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    return N


def call_later_cancel() -> int:
    for _ in range(N):
        loop.call_later(30, nothing).cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    return N


def timers() -> int:
    """Deadlines spread over two milliseconds, so that a heap has something to sort."""
    step = countdown()
    for i in range(N):
        loop.call_later(i * 7919 % 2000 * 1e-6, step)
    loop.run_forever()
    return N


def threadsafe_thread() -> int:
    step = countdown()

    def hammer() -> None:
        for _ in range(N):
            loop.call_soon_threadsafe(step)

    thread = threading.Thread(target=hammer)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    return N


async def sleep0() -> int:
    for _ in range(N):
        await asyncio.sleep(0)
    return N


async def future() -> int:
    for _ in range(N):
        hop = loop.create_future()
        loop.call_soon(hop.set_result, None)
        await hop
    return N


async def noop() -> None:
    pass


async def task() -> int:
    for _ in range(N):
        await asyncio.create_task(noop())
    return N


async def gather() -> int:
    for _ in range(N // 100):
        await asyncio.gather(*[noop() for _ in range(100)])
    return N


async def executor() -> int:
    for _ in range(N // 50):
        await loop.run_in_executor(None, nothing)
    return N // 50


async def getaddrinfo() -> int:
    for _ in range(N // 50):
        await loop.getaddrinfo("127.0.0.1", 80)
    return N // 50


BURSTS: dict[str, Callable[[], object]] = {
    "call_soon": lambda: loop.call_soon(nothing),
    "call_soon_args": lambda: loop.call_soon(nothing, 1, 2, 3),
    "threadsafe": lambda: loop.call_soon_threadsafe(nothing),
}
PLAIN = (chain, call_later_cancel, timers, threadsafe_thread)
COROUTINES = (sleep0, future, task, gather, executor, getaddrinfo)


def case(name: str) -> Callable[[], int]:
    if name in BURSTS:
        return lambda: burst(BURSTS[name])
    for plain in PLAIN:
        if plain.__name__ == name:
            return plain
    coroutine = {each.__name__: each for each in COROUTINES}[name]
    return lambda: loop.run_until_complete(coroutine())


report(case(sys.argv[2]))
