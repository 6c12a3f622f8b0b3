"""work_micro.py LOOP CASE - prints operations, seconds, user and kernel CPU seconds."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from loops import factory

N = 100_000
loop = factory(sys.argv[1])()


def nothing(*_: object) -> None:
    pass


def burst(add: object) -> int:
    """Queues N callbacks and a stop, then runs them."""
    for _ in range(N):
        add()  # type: ignore[operator]
    loop.call_soon(loop.stop)
    loop.run_forever()
    return N


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


def later() -> int:
    for _ in range(N):
        loop.call_later(30, nothing).cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    return N


async def sleep0() -> int:
    for _ in range(N):
        await asyncio.sleep(0)
    return N


async def noop() -> None:
    pass


async def task() -> int:
    for _ in range(N):
        await asyncio.create_task(noop())
    return N


CASES = {
    "call_soon": lambda: burst(lambda: loop.call_soon(nothing)),
    "call_soon_args": lambda: burst(lambda: loop.call_soon(nothing, 1, 2, 3)),
    "chain": chain,
    "call_later_cancel": later,
    "threadsafe": lambda: burst(lambda: loop.call_soon_threadsafe(nothing)),
    "sleep0": lambda: loop.run_until_complete(sleep0()),
    "task": lambda: loop.run_until_complete(task()),
}

run = CASES[sys.argv[2]]
run()
before, start, done = os.times(), time.perf_counter(), 0
while time.perf_counter() - start < 1:
    done += run()
elapsed, after = time.perf_counter() - start, os.times()
print(done, elapsed, after.user - before.user, after.system - before.system)
