"""run_in_executor(): each behaviour is tried on asyncio's loop and on ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from oracle import MAKERS

import puff

LIMIT = 20


@pytest.fixture(params=MAKERS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = MAKERS[request.param]()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """One thread, which is there already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result(LIMIT)
        yield pool


class Held:
    """A function that runs until it is let go."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.released.wait(LIMIT)
        return "held"

    async def wait_begun(self) -> None:
        while not self.begun.is_set():
            await asyncio.sleep(0.001)


def test_results_come_back_and_the_thread_is_another(loop, pool) -> None:
    async def main() -> None:
        for executor in (None, pool):
            for n in range(50):
                assert await loop.run_in_executor(executor, lambda *args: args, n, "x") == (n, "x")
            assert await loop.run_in_executor(executor, threading.get_ident) != (
                threading.get_ident()
            )
        assert await asyncio.gather(
            *[loop.run_in_executor(None, pow, n, 2) for n in range(500)]
        ) == [n * n for n in range(500)]

    loop.run_until_complete(main())


def test_it_returns_an_asyncio_future_at_once(loop, pool) -> None:
    future = loop.run_in_executor(pool, int)
    assert isinstance(future, asyncio.Future) and future.get_loop() is loop and not future.done()
    assert loop.run_until_complete(future) == 0


def test_the_parameters_have_names(loop) -> None:
    assert loop.run_until_complete(loop.run_in_executor(executor=None, func=int)) == 0
    with pytest.raises(TypeError):
        loop.run_in_executor(None)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, int, nonsense=1)


@pytest.mark.parametrize("exc", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_the_function_raises_is_raised(loop, pool, exc) -> None:
    def fail() -> None:
        raise exc

    async def main() -> None:
        try:
            await loop.run_in_executor(pool, fail)
        except BaseException as seen:
            assert seen is exc
        else:
            raise AssertionError("nothing was raised")

    loop.run_until_complete(main())


def test_the_pools_own_cancelled_error_becomes_asyncios(loop, pool) -> None:
    def fail() -> None:
        raise concurrent.futures.CancelledError("x")

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(loop.run_in_executor(pool, fail))


def test_the_context_stays_behind(loop, pool) -> None:
    var = contextvars.ContextVar("var", default=0)
    var.set(1)
    assert loop.run_until_complete(loop.run_in_executor(pool, var.get)) == 0


def test_what_is_cancelled_in_the_queue_does_not_run(loop, pool) -> None:
    held, seen = Held(), []

    async def main() -> None:
        first = loop.run_in_executor(pool, held)
        await held.wait_begun()
        second = loop.run_in_executor(pool, seen.append, 2)
        third = loop.run_in_executor(pool, seen.append, 3)
        second.cancel()
        await asyncio.sleep(0)
        held.released.set()
        assert await first == "held"
        await third
        assert second.cancelled() and seen == [3]

    loop.run_until_complete(main())


def test_what_is_cancelled_while_it_runs_goes_on_unheard(loop, pool) -> None:
    held, errors = Held(), []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def main() -> None:
        future = loop.run_in_executor(pool, held)
        await held.wait_begun()
        future.cancel()
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await future
        await loop.run_in_executor(pool, int)

    loop.run_until_complete(main())
    assert errors == []


def test_a_pool_that_drops_its_queue_cancels_those_who_wait(loop) -> None:
    held, pool = Held(), ThreadPoolExecutor(1)

    async def main() -> None:
        first = loop.run_in_executor(pool, held)
        await held.wait_begun()
        second = loop.run_in_executor(pool, int)
        pool.shutdown(wait=False, cancel_futures=True)
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await first == "held"
        with pytest.raises(RuntimeError, match="after shutdown"):
            loop.run_in_executor(pool, int)

    loop.run_until_complete(asyncio.wait_for(main(), LIMIT))


def test_a_pool_whose_thread_fails_to_begin_says_so(loop) -> None:
    go = threading.Event()

    def initializer() -> None:
        assert go.wait(LIMIT)
        raise ValueError

    with ThreadPoolExecutor(1, initializer=initializer) as pool:
        waiting = [loop.run_in_executor(pool, int) for _ in range(3)]
        go.set()
        for future in waiting:
            with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
                loop.run_until_complete(asyncio.wait_for(future, LIMIT))
        with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
            loop.run_in_executor(pool, int)


def test_the_default_pool_is_a_plain_one_and_ends_when_told(loop) -> None:
    async def main() -> None:
        assert await loop.run_in_executor(None, lambda: threading.current_thread().name) == (
            "asyncio_0"
        )
        assert type(loop._default_executor) is ThreadPoolExecutor
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)

    loop.run_until_complete(main())


def test_a_pool_starts_as_many_threads_as_it_is_asked_for(loop) -> None:
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:

        async def main() -> None:
            for _ in range(20):
                calls = [loop.run_in_executor(pool, barrier.wait, LIMIT) for _ in range(4)]
                assert sorted(await asyncio.gather(*calls)) == [0, 1, 2, 3]

        loop.run_until_complete(main())
        assert len(pool._threads) == 4


def test_threads_and_loops_may_share_a_pool() -> None:
    with ThreadPoolExecutor(3) as pool:
        sums, left = [], threading.Barrier(5)

        async def ask() -> int:
            loop, total = asyncio.get_running_loop(), 0
            for n in range(200):
                total += await loop.run_in_executor(pool, int, n)
            return total

        def one() -> None:
            sums.append(puff.run(ask()))
            left.wait(LIMIT)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(500):
            assert pool.submit(int, n).result(LIMIT) == n
        left.wait(LIMIT)
        for thread in threads:
            thread.join()
    assert sums == [sum(range(200))] * 4


@pytest.mark.parametrize("where", ["class", "pool", "subclass"])
def test_whoever_wraps_submit_sees_every_call(loop, monkeypatch, where) -> None:
    seen, original = [], ThreadPoolExecutor.submit

    def submit(pool, fn, /, *args, **kwargs):
        seen.append(fn)
        return original(pool, fn, *args, **kwargs)

    class Sub(ThreadPoolExecutor):
        pass

    pool = (Sub if where == "subclass" else ThreadPoolExecutor)(1)
    pool.submit(int).result(LIMIT)
    if where == "pool":
        pool.submit = submit.__get__(pool)
    else:
        monkeypatch.setattr(type(pool), "submit", submit)
    for _ in range(3):
        loop.run_until_complete(loop.run_in_executor(pool, int))
    pool.shutdown()
    assert seen == [int] * 3


def test_whoever_replaces_the_work_item_sees_every_call(loop, pool, monkeypatch) -> None:
    seen = []

    class Item(concurrent.futures.thread._WorkItem):
        def run(self, *context):
            seen.append(1)
            super().run(*context)

    monkeypatch.setattr(concurrent.futures.thread, "_WorkItem", Item)
    loop.run_until_complete(loop.run_in_executor(pool, int))
    assert seen == [1]


def test_other_executors_are_asked_as_ever(loop) -> None:
    class Inline(concurrent.futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            future: concurrent.futures.Future = concurrent.futures.Future()
            future.set_result(fn(*args, **kwargs))
            return future

    assert loop.run_until_complete(loop.run_in_executor(Inline(), int, "7")) == 7


def test_a_lock_that_is_held_is_waited_for(loop, pool) -> None:
    pool._shutdown_lock.acquire()
    threading.Timer(0.05, pool._shutdown_lock.release).start()
    assert loop.run_until_complete(loop.run_in_executor(pool, int)) == 0


def test_a_loop_may_close_before_its_call_ends(loop, pool) -> None:
    held = Held()
    future = loop.run_in_executor(pool, held)
    loop.run_until_complete(held.wait_begun())
    loop.close()
    held.released.set()
    assert pool.submit(int).result(LIMIT) == 0
    assert not future.done()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_in_executor(pool, int)


def test_nothing_of_a_call_is_kept(loop, pool) -> None:
    class Thing:
        def __call__(self, other: Thing) -> Thing:
            return Thing()

    func, arg = Thing(), Thing()
    refs = [weakref.ref(func), weakref.ref(arg)]
    future = loop.run_in_executor(pool, func, arg)
    refs.append(weakref.ref(loop.run_until_complete(future)))
    del func, arg, future
    pool.submit(int).result(LIMIT)  # the thread has let go of the item before
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_a_result_for_a_future_that_has_one_is_reported(loop, pool) -> None:
    errors: list[dict] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    held = Held()

    async def main() -> None:
        future = loop.run_in_executor(pool, held)
        await held.wait_begun()
        future.set_result("mine")
        held.released.set()
        await loop.run_in_executor(pool, int)
        assert await future == "mine"

    loop.run_until_complete(main())
    assert len(errors) == 1 and "Exception in callback" in errors[0]["message"]


def test_debug_mode_refuses_coroutines(loop) -> None:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, coroutine)
    assert loop.run_until_complete(loop.run_in_executor(None, os.getpid)) == os.getpid()


def test_to_thread_keeps_the_context(loop) -> None:
    var = contextvars.ContextVar("var", default=0)
    var.set(1)
    assert loop.run_until_complete(asyncio.to_thread(var.get)) == 1
