"""loop.stats(): what a loop says of itself."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import weakref

import pytest

import puff


def run(coro):
    return puff.run(coro)


def test_counters_grow() -> None:
    async def main():
        loop = asyncio.get_running_loop()
        before = loop.stats()
        for _ in range(10):
            await asyncio.sleep(0)
        turned = loop.stats()
        await asyncio.sleep(0.05)
        return before, turned, loop.stats()

    before, turned, slept = run(main())
    assert before.iterations + 10 <= turned.iterations < slept.iterations
    assert slept.waits > turned.waits
    assert 0.04 < slept.idle_s - turned.idle_s < 1


def test_ready_and_timers_are_those_of_now() -> None:
    async def main():
        loop = asyncio.get_running_loop()
        handles = [loop.call_later(60, print), loop.call_later(60, print)]
        loop.call_soon(int)
        stats = loop.stats()
        for handle in handles:
            handle.cancel()
        return stats, loop.stats()

    stats, after = run(main())
    assert (stats.ready, stats.timers, after.timers) == (1, 2, 0)


def sluggish() -> None:
    time.sleep(0.02)


def test_the_slowest_callback_is_named_among_others() -> None:
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.03)  # until the loop knows its clock
        loop.stats(reset=True)
        for _ in range(100):
            loop.call_soon(int)
        loop.call_soon(sluggish)
        for _ in range(100):
            loop.call_soon(int)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return loop.stats(reset=True), loop.stats()

    stats, after = run(main())
    assert 0.015 < stats.slowest_s < 1
    assert "sluggish" in stats.slowest and "test_stats.py" in stats.slowest
    assert after.slowest is None and after.slowest_s < stats.slowest_s


def test_a_slow_task_is_named() -> None:
    async def lazy():
        time.sleep(0.02)

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.03)
        loop.stats(reset=True)
        await asyncio.create_task(lazy(), name="slow-coach")
        return loop.stats()

    assert "slow-coach" in run(main()).slowest


def test_what_was_slow_is_not_kept_alive() -> None:
    class Slow:
        def __call__(self) -> None:
            time.sleep(0.01)

    async def main():
        loop = asyncio.get_running_loop()
        slow = Slow()
        ref = weakref.ref(slow)
        loop.call_soon(slow)
        del slow
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        return ref()

    assert run(main()) is None


def test_a_repr_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def __call__(self) -> None:
            time.sleep(0.02)

        def __repr__(self) -> str:
            raise ValueError("no repr")

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.03)
        loop.stats(reset=True)
        loop.call_soon(Odd())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return loop.stats()

    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_value))
    assert run(main()).slowest_s > 0.015
    assert [str(exc) for exc in said] == ["no repr"]


def test_a_closed_loop_has_none() -> None:
    loop = puff.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.stats()


def test_an_interrupt_while_the_slowest_callback_is_described_ends_the_run() -> None:
    class Slow:
        def __call__(self) -> None:
            until = time.monotonic() + 0.02
            while time.monotonic() < until:
                pass

        def __repr__(self) -> str:
            raise KeyboardInterrupt

    loop = puff.new_event_loop()
    try:
        loop.run_until_complete(asyncio.sleep(0.005))  # it knows its clock
        loop.call_soon(Slow())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
