"""Queue, LifoQueue and PriorityQueue, shared by coroutines, greenlets and threads."""

from __future__ import annotations

import asyncio
import queue
import threading

import pytest
from worlds import every_world, on_loop, refused_on_foreign_loop

import puff

KINDS = [puff.Queue, puff.LifoQueue, puff.PriorityQueue]
kinds = pytest.mark.parametrize("kind", KINDS)


async def turns(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


@kinds
@every_world
def test_put_and_get(world, kind) -> None:
    q = kind(2)
    world(lambda: q.put("a"))
    assert q.qsize() == 1 and not q.empty() and not q.full()
    world(lambda: q.put("b"))
    assert q.full()
    with pytest.raises(puff.QueueFull):
        world(lambda: q.put("c", timeout=0.01))
    assert {world(q.get), world(q.get)} == {"a", "b"}
    with pytest.raises(puff.QueueEmpty):
        world(lambda: q.get(block=False))
    with pytest.raises(puff.QueueEmpty):
        world(lambda: q.get(timeout=0.01))


@pytest.mark.parametrize(
    ("kind", "order"), [(puff.Queue, "bac"), (puff.LifoQueue, "cab"), (puff.PriorityQueue, "abc")]
)
def test_the_order_of_items(kind, order) -> None:
    q = kind()
    for item in "bac":
        q.put_nowait(item)
    assert "".join(q.get_nowait() for _ in range(3)) == order


def test_exceptions_are_those_of_both_libraries() -> None:
    q = puff.Queue(1)
    for error in (queue.Empty, asyncio.QueueEmpty):
        with pytest.raises(error):
            q.get_nowait()
    q.put_nowait(1)
    for error in (queue.Full, asyncio.QueueFull):
        with pytest.raises(error):
            q.put_nowait(2)


@kinds
def test_between_all_worlds_nothing_is_lost_or_doubled(kind) -> None:
    async def main():
        q, got = kind(3), []

        def sync_put(first):
            for n in range(first, first + 50):
                q.put(n)

        async def coro_put(first):
            for n in range(first, first + 50):
                await q.put(n)

        def sync_get():
            for _ in range(50):
                got.append(q.get())

        async def coro_get():
            for _ in range(50):
                got.append(await q.get())

        await asyncio.gather(
            coro_put(0), puff.spawn(sync_put, 50).join(), asyncio.to_thread(sync_put, 100),
            coro_get(), puff.spawn(sync_get).join(), asyncio.to_thread(sync_get),
        )  # fmt: skip
        return sorted(got)

    assert on_loop(main()) == list(range(150))


@kinds
def test_a_cancelled_get_leaves_the_item(kind) -> None:
    async def main():
        q = kind()
        task = asyncio.ensure_future(q.get())
        await turns()
        q.put_nowait("first")  # is given to the task
        q.put_nowait("second")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return {q.get_nowait(), q.get_nowait()}

    assert on_loop(main()) == {"first", "second"}


def test_an_item_that_comes_back_is_the_first_again() -> None:
    async def main():
        q = puff.Queue()
        greenlet = puff.spawn(q.get)
        await turns()
        q.put_nowait("first")
        q.put_nowait("second")
        greenlet._kill()
        await greenlet.join()
        return [q.get_nowait(), q.get_nowait()]

    assert on_loop(main()) == ["first", "second"]


@kinds
def test_a_cancelled_put_puts_nothing(kind) -> None:
    async def main():
        q = kind(1)
        q.put_nowait(1)
        tasks = [asyncio.ensure_future(q.put(n)) for n in (2, 3)]
        await turns()
        assert q.get_nowait() == 1  # its place goes to the first task
        tasks[0].cancel()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        assert q.qsize() == 1
        return q.get_nowait()

    assert on_loop(main()) == 3


def test_join_waits_for_task_done() -> None:
    async def main():
        q = puff.Queue()
        for n in range(3):
            q.put_nowait(n)
        joins = [asyncio.ensure_future(q.join()), asyncio.ensure_future(asyncio.to_thread(q.join))]
        with pytest.raises(TimeoutError):
            await q.join(timeout=0.01)

        def work():
            for _ in range(3):
                q.get()
                assert not joins[0].done()
                q.task_done()

        await puff.spawn(work).join()
        await asyncio.gather(*joins)
        with pytest.raises(ValueError, match="too many"):
            q.task_done()

    on_loop(main())


@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown(immediate) -> None:
    async def main():
        full, empty = puff.Queue(1), puff.Queue()
        full.put_nowait(1)
        waits = [
            asyncio.ensure_future(full.put(2)),
            asyncio.ensure_future(empty.get()),
            asyncio.ensure_future(asyncio.to_thread(empty.get)),
        ]
        await asyncio.sleep(0.02)
        full.shutdown(immediate)
        empty.shutdown(immediate)
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(end) for end in ends] == [puff.QueueShutDown] * 3
        with pytest.raises(puff.QueueShutDown):
            full.put_nowait(3)
        if not immediate:
            assert full.get_nowait() == 1
        with pytest.raises(puff.QueueShutDown):
            await full.get()

    on_loop(main())


def test_items_may_compare_in_python_and_badly() -> None:
    class Bad:
        def __lt__(self, other):
            raise ZeroDivisionError

    q = puff.PriorityQueue()
    q.put_nowait(Bad())
    with pytest.raises(ZeroDivisionError):
        q.put_nowait(Bad())


def test_a_priority_queue_under_threads_stays_a_heap() -> None:
    class Item:
        def __init__(self, n):
            self.n = n

        def __lt__(self, other):
            return self.n < other.n

    q = puff.PriorityQueue()
    numbers = [list(range(start, 3000, 3)) for start in range(3)]
    threads = [
        threading.Thread(target=lambda ns=ns: [q.put(Item(n)) for n in reversed(ns)])
        for ns in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [q.get_nowait().n for _ in range(3000)] == list(range(3000))


def test_two_scripts_pass_items_across_their_loops() -> None:
    q, back = puff.Queue(1), puff.Queue(1)

    def script():
        for _ in range(50):
            back.put(q.get() + 1)

    thread = threading.Thread(target=script)
    thread.start()
    n = 0
    for _ in range(50):
        q.put(n)
        n = back.get()
    thread.join(10)
    assert n == 50


@kinds
def test_foreign_loops_are_refused(kind) -> None:
    refused_on_foreign_loop(kind().get)


def test_it_can_be_written_as_a_generic_type() -> None:
    assert puff.Queue[int].__origin__ is puff.Queue
