"""Lock, Event and Semaphore, shared by coroutines, greenlets and threads."""

from __future__ import annotations

import asyncio
import threading

import pytest
from worlds import every_world, in_thread, on_loop, refused_on_foreign_loop, sync_worlds

import puff

KINDS = [puff.Lock, puff.Semaphore, puff.BoundedSemaphore]
kinds = pytest.mark.parametrize("kind", KINDS)


async def until(predicate):
    while not predicate():
        await asyncio.sleep(0.001)


def waiting(thing):
    """How many stand in line, of the repr."""
    text = repr(thing)
    return int(text.split("waiting")[0].split()[-1]) if "waiting" in text else 0


# ---- held by one at a time -----------------------------------------------------------------------


@kinds
@every_world
def test_acquire_and_release(world, kind) -> None:
    thing = kind()
    assert world(thing.acquire) is True
    assert thing.locked()
    assert world(lambda: thing.acquire(blocking=False)) is False
    assert world(lambda: thing.acquire(timeout=0.01)) is False
    thing.release()
    assert not thing.locked()
    assert waiting(thing) == 0


@kinds
@sync_worlds
def test_with(world, kind) -> None:
    thing = kind()

    def hold():
        with thing:
            return thing.locked()

    assert world(hold)
    assert not thing.locked()


@kinds
def test_async_with(kind) -> None:
    async def main():
        thing = kind()
        async with thing:
            assert thing.locked()
        return thing.locked()

    assert on_loop(main()) is False


def test_with_in_a_coroutine_names_the_fix() -> None:
    async def main():
        with pytest.raises(RuntimeError, match="async with"), puff.Lock():
            pass

    on_loop(main())


@kinds
def test_all_worlds_exclude_each_other(kind) -> None:
    lock, log = kind(), []

    def sync(name):
        for _ in range(5):
            with lock:
                log.append(name)
                puff.sleep_ms(1)
                log.append(name)

    async def coro(name):
        for _ in range(5):
            async with lock:
                log.append(name)
                await asyncio.sleep(0.001)
                log.append(name)

    async def main():
        await asyncio.gather(
            coro("a"), coro("b"), puff.spawn(sync, "c").join(), puff.spawn(sync, "d").join(),
            asyncio.to_thread(sync, "e"), asyncio.to_thread(sync, "f"), puff.to_greenlet(sync, "g"),
        )  # fmt: skip

    on_loop(main())
    assert len(log) == 70
    assert log[::2] == log[1::2]


@kinds
def test_who_waits_is_served_in_order(kind) -> None:
    async def main():
        lock, order = kind(), []

        def sync(n):
            with lock:
                order.append(n)

        async def coro(n):
            async with lock:
                order.append(n)

        await lock.acquire()
        waits = []
        for n in range(12):
            how = (coro, lambda n: puff.spawn(sync, n).join(), lambda n: asyncio.to_thread(sync, n))
            waits.append(asyncio.ensure_future(how[n % 3](n)))
            await until(lambda: waiting(lock) == n + 1)  # noqa: B023
        lock.release()
        assert lock.locked()  # nobody gets in between
        await asyncio.gather(*waits)
        return order

    assert on_loop(main()) == list(range(12))


@kinds
def test_a_cancelled_or_killed_wait_leaves_the_line(kind) -> None:
    async def main():
        lock = kind()
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        greenlet = puff.spawn(lock.acquire)
        await until(lambda: waiting(lock) == 2)
        task.cancel()
        greenlet.kill()
        await asyncio.wait([task])
        await greenlet.join()
        assert waiting(lock) == 0
        lock.release()
        assert not lock.locked()

    on_loop(main())


@kinds
@pytest.mark.parametrize("how", ["task", "greenlet"])
def test_what_was_granted_to_one_that_is_gone_goes_to_the_next(kind, how) -> None:
    async def main():
        lock = kind()
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        greenlet = puff.spawn(lock.acquire)
        await until(lambda: waiting(lock) == 2)
        if how == "task":
            lock.release()
            task.cancel()  # it has the lock, and has not run
            assert await greenlet.join() is True
            assert task.cancelled()
        else:
            task.cancel()
            await asyncio.wait([task])
            lock.release()
            greenlet._kill()
            assert isinstance(await greenlet.join(), puff.GreenletExit)
            assert await lock.acquire(timeout=5)
        lock.release()
        assert not lock.locked()

    on_loop(main())


@kinds
def test_timeouts_that_race_with_releases_lose_nothing(kind) -> None:
    async def main():
        lock, got = kind(), 0

        async def coro():
            nonlocal got
            for _ in range(40):
                if await lock.acquire(timeout=0.001):
                    got += 1
                    await asyncio.sleep(0.001)
                    lock.release()

        def sync():
            nonlocal got
            for _ in range(40):
                if lock.acquire(timeout=0.001):
                    got += 1
                    lock.release()

        await asyncio.gather(*(coro() for _ in range(5)), *(asyncio.to_thread(sync),) * 1)
        assert got > 0
        assert not lock.locked() and waiting(lock) == 0

    on_loop(main())


@kinds
def test_scripts_of_two_threads_share_one(kind) -> None:
    """Each runs a loop of its own: one wakes the other across them."""
    lock, log = kind(), []

    def script(name):
        for _ in range(20):
            with lock:
                log.append(name)
                puff.sleep_ms(0.1)
                log.append(name)

    threads = [threading.Thread(target=script, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(log) == 120 and log[::2] == log[1::2]


@kinds
def test_a_lock_outlives_loops_with_waiters(kind) -> None:
    lock = kind()

    async def main():
        await lock.acquire()
        puff.spawn(lock.acquire)
        asyncio.ensure_future(lock.acquire())  # noqa: RUF006
        await until(lambda: waiting(lock) == 2)

    on_loop(main())
    lock.release()
    assert not lock.locked()
    assert in_thread(lock.acquire) is True


@kinds
def test_a_thread_is_told_when_the_loop_stops(kind) -> None:
    lock, caught = kind(), []
    lock.acquire()

    def wait():
        try:
            lock.acquire()
        except RuntimeError as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=wait)

    async def main():
        thread.start()
        await until(lambda: waiting(lock) == 1)

    on_loop(main())
    thread.join(10)
    assert "stopped" in caught[0]


@kinds
def test_foreign_loops_are_refused(kind) -> None:
    refused_on_foreign_loop(kind().acquire)


@pytest.mark.parametrize("kind", [puff.Lock, puff.BoundedSemaphore])
def test_released_too_often(kind) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        kind().release()


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        puff.Lock().acquire(timeout=-3)


# ---- Semaphore -----------------------------------------------------------------------------------


def test_a_semaphore_lets_so_many_in() -> None:
    async def main():
        semaphore, inside, most = puff.Semaphore(3), 0, 0

        def sync():
            nonlocal inside, most
            with semaphore:
                inside += 1
                most = max(most, inside)
                puff.sleep_ms(1)
                inside -= 1

        await puff.join_all([puff.spawn(sync) for _ in range(30)])
        return most

    assert on_loop(main()) == 3


def test_release_of_several_wakes_several() -> None:
    async def main():
        semaphore = puff.Semaphore(0)
        waits = [asyncio.ensure_future(semaphore.acquire()) for _ in range(3)]
        await until(lambda: waiting(semaphore) == 3)
        semaphore.release(5)
        await asyncio.gather(*waits)
        return [await semaphore.acquire(blocking=False) for _ in range(3)]

    assert on_loop(main()) == [True, True, False]


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        puff.Semaphore(-1)
    with pytest.raises(ValueError, match="one or more"):
        puff.Semaphore().release(0)


# ---- Event ---------------------------------------------------------------------------------------


@every_world
def test_event_wait(world) -> None:
    event = puff.Event()
    assert world(lambda: event.wait(timeout=0.01)) is False
    event.set()
    assert world(event.wait) is True
    assert event.is_set()
    event.clear()
    assert world(lambda: event.wait(0)) is False


def test_set_wakes_all_in_every_world() -> None:
    async def main():
        event = puff.Event()
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(event.wait())]
        greenlet = puff.spawn(event.wait)
        thread = asyncio.ensure_future(asyncio.to_thread(event.wait))
        await until(lambda: waiting(event) == 4)
        event.set()
        event.clear()  # those who waited have been woken all the same
        return await asyncio.gather(*waits, greenlet.join(), thread)

    assert on_loop(main()) == [True] * 4


@pytest.mark.parametrize("setter", ["thread", "greenlet", "blocking"])
def test_set_from_anywhere(setter) -> None:
    async def main():
        event = puff.Event()
        wait = asyncio.ensure_future(event.wait())
        await until(lambda: waiting(event) == 1)
        how = {
            "thread": lambda: asyncio.to_thread(event.set),
            "greenlet": lambda: puff.spawn(event.set).join(),
            "blocking": lambda: puff.spawn_blocking(event.set).join(),
        }
        await how[setter]()
        return await wait

    assert on_loop(main())
