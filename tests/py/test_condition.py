"""RLock and Condition, shared by coroutines, greenlets and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from worlds import every_world, in_thread, on_loop, refused_on_foreign_loop, sync_worlds

import puff

BOUND_S = 20.0


async def until(predicate: Callable[[], object]) -> None:
    while not predicate():
        await asyncio.sleep(0.001)


def waiting(thing: object) -> int:
    """How many stand in line, of the repr."""
    text = repr(thing)
    return int(text.split(" waiting")[0].split()[-1]) if " waiting" in text else 0


# ---- RLock ---------------------------------------------------------------------------------------


@sync_worlds
def test_the_holder_may_acquire_again(world: Any) -> None:
    lock = puff.RLock()

    def hold() -> bool:
        with lock, lock:
            lock.acquire()
            lock.release()
            assert lock.locked()
        return lock.locked()

    assert world(hold) is False


def test_a_coroutine_may_acquire_again() -> None:
    async def main() -> None:
        lock = puff.RLock()
        async with lock:
            assert await lock.acquire() is True
            assert await asyncio.wait_for(lock.acquire(), BOUND_S)  # by a Task of wait_for, for us
            assert await lock.acquire(blocking=False) is True
            for _ in range(3):
                lock.release()
            assert lock.locked()
        assert not lock.locked()

    on_loop(main())


def test_others_wait_until_it_is_released_as_often() -> None:
    async def main() -> None:
        lock, order = puff.RLock(), []

        def in_sync(name: str) -> None:
            with lock, lock:
                order.append(name)
                puff.sleep_ms(0)
                order.append(name)

        async with lock, lock:
            others = [puff.spawn(in_sync, "greenlet"), puff.spawn_blocking(in_sync, "thread")]
            task = asyncio.create_task(puff.to_greenlet(in_sync, "task"))
            await until(lambda: waiting(lock) == 3)
            order.append("first")
        await puff.join_all(others)
        await task
        assert order[0] == "first"
        assert sorted(order[1::2]) == sorted(order[2::2]) == ["greenlet", "task", "thread"]
        assert order[1::2] == order[2::2]
        assert not lock.locked()

    on_loop(main())


def test_a_task_and_the_sync_code_that_it_runs_are_one_holder() -> None:
    async def main() -> None:
        lock = puff.RLock()

        async def inner() -> None:
            async with lock:
                pass

        def in_sync() -> None:
            with lock:
                puff.await_(inner())

        async with lock:
            await puff.to_greenlet(in_sync)
        await puff.spawn(in_sync).join()
        assert not lock.locked()

    on_loop(main())


def test_nobody_else_may_release_it() -> None:
    async def main() -> None:
        lock = puff.RLock()
        with pytest.raises(RuntimeError, match="not held here"):
            lock.release()
        async with lock:
            for elsewhere in (puff.spawn(lock.release), puff.spawn_blocking(lock.release)):
                with pytest.raises(RuntimeError, match="not held here"):
                    await elsewhere.join()
            with pytest.raises(RuntimeError, match="not held here"):
                await asyncio.create_task(_release(lock))
        assert not lock.locked()

    on_loop(main())


async def _release(lock: puff.RLock) -> None:
    lock.release()


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_one_that_is_gone_is_passed_over(how: str) -> None:
    async def main() -> None:
        lock = puff.RLock()
        async with lock:
            gone: Any = (
                asyncio.create_task(_hold(lock)) if how == "cancelled" else puff.spawn(_sync, lock)
            )
            await until(lambda: waiting(lock) == 1)
            next_one = asyncio.create_task(_hold(lock))
            await until(lambda: waiting(lock) == 2)
        # It has been given to the first, who is gone before it runs.
        gone.cancel() if how == "cancelled" else gone.kill()
        await asyncio.wait_for(next_one, BOUND_S)
        assert not lock.locked()

    on_loop(main())


async def _hold(lock: puff.RLock) -> None:
    async with lock:
        pass


def _sync(lock: puff.RLock) -> None:
    with lock:
        puff.sleep_ms(0)


# ---- Condition -----------------------------------------------------------------------------------

LOCKS = [None, puff.Lock, puff.RLock]
locks = pytest.mark.parametrize("lock", LOCKS, ids=["default", "Lock", "RLock"])


def make(lock: Any) -> puff.Condition:
    return puff.Condition(None if lock is None else lock())


@locks
@sync_worlds
def test_nobody_notifies(world: Any, lock: Any) -> None:
    condition = make(lock)

    def late() -> list[bool]:
        with condition:
            return [condition.wait(0.01), condition.wait(0), condition.locked()]

    assert world(late) == [False, False, True]
    assert not condition.locked()
    assert waiting(condition) == 0


@locks
def test_every_world_waits_and_every_world_notifies(lock: Any) -> None:
    async def main() -> None:
        condition, n, got = make(lock), 0, []

        def in_sync(name: str) -> None:
            nonlocal n
            with condition:
                condition.wait_for(lambda: n > 0)
                n -= 1
                got.append(name)

        async def in_task() -> None:
            nonlocal n
            async with condition:
                await condition.wait_for(lambda: n > 0)
                n -= 1
                got.append("task")

        def put() -> None:
            nonlocal n
            with condition:
                n += 1
                condition.notify()

        others = [puff.spawn(in_sync, "greenlet"), puff.spawn_blocking(in_sync, "thread")]
        tasks = [asyncio.create_task(in_task())]
        tasks.append(asyncio.create_task(puff.to_greenlet(in_sync, "bridge")))
        await until(lambda: waiting(condition) == 4)
        put_here = puff.spawn(put)
        await put_here.join()
        await puff.spawn_blocking(put).join()
        await puff.to_greenlet(put)
        async with condition:
            n += 1
            condition.notify_all()
        await asyncio.wait_for(asyncio.gather(*tasks), BOUND_S)
        await puff.join_all(others, timeout=BOUND_S)
        assert sorted(got) == ["bridge", "greenlet", "task", "thread"]
        assert not condition.locked()

    on_loop(main())


def test_as_many_are_woken_as_notify_says_in_order() -> None:
    async def main() -> None:
        condition, woken = puff.Condition(), []

        async def wait(n: int) -> None:
            async with condition:
                await condition.wait()
                woken.append(n)

        tasks = []
        for n in range(5):
            tasks.append(asyncio.create_task(wait(n)))
            await until(lambda: waiting(condition) == len(tasks))
        async with condition:
            condition.notify(2)
        await until(lambda: len(woken) == 2)
        assert woken == [0, 1]
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        assert woken == [0, 1, 2, 3, 4]

    on_loop(main())


@locks
@pytest.mark.parametrize("how", ["cancelled", "killed", "bridge"])
def test_a_wait_that_is_ended_has_the_lock_again(how: str, lock: Any) -> None:
    async def main() -> None:
        condition, held = make(lock), []

        def in_sync() -> None:
            with condition:
                try:
                    condition.wait()
                finally:
                    held.append(condition.locked())

        async def in_task() -> None:
            async with condition:
                try:
                    await condition.wait()
                finally:
                    held.append(condition.locked())

        waits: dict[str, Callable[[], Any]] = {
            "cancelled": lambda: asyncio.create_task(in_task()),
            "bridge": lambda: asyncio.create_task(puff.to_greenlet(in_sync)),
            "killed": lambda: puff.spawn(in_sync),
        }
        wait = waits[how]()
        await until(lambda: waiting(condition) == 1)
        async with condition:  # it must wait for the lock before it can go
            wait.kill() if how == "killed" else wait.cancel()
            await asyncio.sleep(0.01)
            assert held == []
        if how == "killed":
            assert isinstance(await wait.join(), puff.GreenletExit)
        else:
            with pytest.raises(asyncio.CancelledError):
                await wait
        assert held == [True]
        assert not condition.locked()
        assert waiting(condition) == 0

    on_loop(main())


def test_a_notification_of_one_that_is_gone_goes_to_the_next() -> None:
    async def main() -> None:
        condition = puff.Condition()

        async def wait() -> bool:
            async with condition:
                return await condition.wait()

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await until(lambda: waiting(condition) == 2)
        async with condition:
            condition.notify()
            first.cancel()  # it has been notified, and has not run yet
        assert await asyncio.wait_for(second, BOUND_S) is True
        with pytest.raises(asyncio.CancelledError):
            await first

    on_loop(main())


def test_an_rlock_held_twice_is_let_go_and_held_twice_again() -> None:
    async def main() -> None:
        lock = puff.RLock()
        condition = puff.Condition(lock)

        def in_sync() -> None:
            with condition, condition:
                condition.wait()
                assert "held 2 times" in repr(lock)

        g = puff.spawn(in_sync)
        await until(lambda: waiting(condition) == 1)
        async with condition:
            condition.notify()
        await g.join()
        assert not lock.locked()

    on_loop(main())


@every_world
def test_without_the_lock_it_is_refused(world: Any) -> None:
    condition = puff.Condition()
    with pytest.raises(RuntimeError, match=r"wait\(\) without holding"):
        world(condition.wait)
    with pytest.raises(RuntimeError, match=r"notify\(\) without holding"):
        world(condition.notify)


def test_anothers_lock_is_not_enough() -> None:
    condition = puff.Condition()
    condition.acquire()
    assert in_thread(lambda: _refused(condition)) is True
    condition.release()


def _refused(condition: puff.Condition) -> bool:
    with pytest.raises(RuntimeError, match="without holding"):
        condition.notify()
    return True


def test_a_lock_of_another_kind_is_refused() -> None:
    for lock in (threading.Lock(), asyncio.Lock(), 5):
        with pytest.raises(TypeError, match=r"puff\.Lock"):
            puff.Condition(lock)  # type: ignore[arg-type]


def test_with_in_a_coroutine_names_the_fix() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="async with"), puff.Condition():
            pass

    on_loop(main())


def test_foreign_loops_are_refused() -> None:
    condition = puff.Condition()
    refused_on_foreign_loop(condition.acquire)


def test_wait_for_gives_up_in_time() -> None:
    async def main() -> None:
        condition = puff.Condition()
        async with condition:
            assert await condition.wait_for(lambda: 0, timeout=0.01) == 0
            assert await condition.wait_for(lambda: 7, timeout=0) == 7

    on_loop(main())


def test_producers_and_consumers_of_all_worlds_lose_nothing() -> None:
    async def main() -> None:
        condition, items, taken = puff.Condition(), list[int](), list[int]()

        def produce(start: int) -> None:
            for n in range(start, start + 50):
                with condition:
                    items.append(n)
                    condition.notify()

        def consume() -> None:
            for _ in range(50):
                with condition:
                    condition.wait_for(lambda: items)
                    taken.append(items.pop())

        async def consume_here() -> None:
            for _ in range(50):
                async with condition:
                    await condition.wait_for(lambda: items)
                    taken.append(items.pop())

        others = [puff.spawn(consume), puff.spawn_blocking(consume)]
        task = asyncio.create_task(consume_here())
        others += [puff.spawn(produce, 0), puff.spawn_blocking(produce, 50)]
        others.append(puff.spawn_blocking(produce, 100))
        await puff.join_all(others, timeout=BOUND_S)
        await asyncio.wait_for(task, BOUND_S)
        assert sorted(taken) == list(range(150))

    on_loop(main())


class Uninitialised(puff.Condition):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.acquire(), lambda c: c.release(), lambda c: c.locked(), lambda c: c.notify(),
        lambda c: c.notify_all(), lambda c: c.wait(), lambda c: c.wait_for(lambda: False),
        lambda c: c.__enter__(),
    ],
)  # fmt: skip
def test_one_whose_init_has_not_run_says_so(call) -> None:
    for condition in puff.Condition.__new__(puff.Condition), Uninitialised():
        with pytest.raises(RuntimeError, match="not initialised"):
            call(condition)
