"""One function in every world: coroutine, greenlet, thread, script, foreign loop. docs/design.md,
"Who waits".
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import puff


def run(main: Callable[[], Any]) -> Any:
    """Runs the coroutine function within a bound."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main(), 20)

    return puff.run(bounded())


# ---- the five worlds -----------------------------------------------------------------------------


def test_coroutine_gets_an_awaitable_and_the_loop_goes_on() -> None:
    async def main() -> float:
        start = time.perf_counter()
        await asyncio.gather(*(puff.sleep_ms(30) for _ in range(50)))
        return time.perf_counter() - start

    assert 0.03 <= run(main) < 1.0


def test_awaitable_is_a_coroutine_for_asyncio() -> None:
    async def main() -> None:
        call = puff.sleep_ms(1)
        assert asyncio.iscoroutine(call)
        await asyncio.create_task(call)
        await asyncio.wait_for(puff.sleep_ms(1), 5)
        await asyncio.shield(asyncio.ensure_future(puff.sleep_ms(1)))

    run(main)


def test_greenlet_parks_and_gets_the_value() -> None:
    order: list[str] = []

    def slow() -> str:
        order.append("slow begins")
        assert puff.sleep_ms(20) is None
        order.append("slow ends")
        return "slow"

    def quick() -> str:
        order.append("quick")
        return "quick"

    async def main() -> None:
        assert await puff.join_all([puff.spawn(slow), puff.spawn(quick)]) == ["slow", "quick"]

    run(main)
    assert order == ["slow begins", "quick", "slow ends"]


def test_thread_blocks_alone() -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticker = asyncio.create_task(tick())
        assert await asyncio.to_thread(puff.sleep_ms, 50) is None
        ticker.cancel()
        assert ticks > 5

    run(main)


def test_thread_gets_the_exception() -> None:
    async def main() -> None:
        greenlet = puff.spawn(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(greenlet.join)

    run(main)


def test_thread_is_told_when_the_loop_has_stopped() -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            puff.sleep_ms(60_000)
        except RuntimeError as exc:
            caught.append(exc)

    thread = threading.Thread(target=wait)

    async def main() -> None:
        thread.start()
        await asyncio.sleep(0.05)

    run(main)
    thread.join(10)
    assert "stopped" in str(caught[0])


def test_script_runs_its_own_loop() -> None:
    assert puff.sleep_ms(1) is None
    assert puff.spawn(lambda: puff.sleep_ms(1) or 5).join() == 5


def test_scripts_of_several_threads_do_not_disturb_each_other() -> None:
    done: list[int] = []

    def script(n: int) -> None:
        puff.sleep_ms(5)
        done.append(puff.value_of(puff.spawn(lambda: n).join()))

    threads = [threading.Thread(target=script, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == list(range(8))


def test_foreign_loop_is_refused_with_the_fix() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"puff\.run\(main\(\)\)"):
            puff.sleep_ms(1)

    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


# ---- awaitables ----------------------------------------------------------------------------------


def test_never_awaited_is_reported() -> None:
    async def main() -> None:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            puff.sleep_ms(1)
            gc.collect()
        # What other tests have left may be collected here too.
        ours = [w for w in seen if "a puff call (_Sleep) was never awaited" in str(w.message)]
        assert len(ours) == 1

    run(main)


def test_awaited_twice_is_an_error() -> None:
    async def main() -> None:
        call = puff.sleep_ms(1)
        await call
        with pytest.raises(RuntimeError, match="once"):
            await call

    run(main)


def test_cancelled_task_leaves_nothing_behind() -> None:
    async def main() -> None:
        task = asyncio.create_task(puff.sleep_ms(60_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not [
            t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()
        ][1:]

    run(main)


# ---- greenlets -----------------------------------------------------------------------------------


def test_running_loop_is_hidden_in_a_greenlet_and_right_after_each_switch() -> None:
    def job() -> None:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            assert puff.is_greenlet() and not puff.is_asyncio()
            puff.sleep_ms(1)

    async def main() -> None:
        greenlets = [puff.spawn(job) for _ in range(5)]
        while not all(g.dead for g in greenlets):
            assert asyncio.get_running_loop() and puff.is_asyncio() and not puff.is_greenlet()
            await asyncio.sleep(0.001)
        await puff.join_all(greenlets)

    run(main)
    assert not puff.is_greenlet() and not puff.is_asyncio()


def test_each_greenlet_has_a_copy_of_its_spawners_context() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")

    def job(n: int) -> str:
        inherited = var.get()
        var.set(f"mine {n}")
        puff.sleep_ms(2)
        assert var.get() == f"mine {n}"
        return inherited

    async def main() -> None:
        for outer in ("a", "b"):  # the second round takes pooled greenlets
            var.set(outer)
            assert await puff.join_all([puff.spawn(job, n) for n in range(10)]) == [outer] * 10
            assert var.get() == outer

    run(main)


def test_kill_raises_greenlet_exit_where_it_is_parked() -> None:
    seen: list[str] = []

    def job() -> None:
        try:
            puff.sleep_ms(60_000)
        except puff.GreenletExit:
            seen.append("exit")
            raise
        finally:
            puff.sleep_ms(1)  # it may still wait while it cleans up
            seen.append("cleaned")

    async def main() -> None:
        greenlet = puff.spawn(job)
        await puff.sleep_ms(5)
        assert not greenlet.dead
        greenlet.kill()
        greenlet.kill()
        assert isinstance(await greenlet.join(), puff.GreenletExit)
        assert greenlet.dead

    run(main)
    assert seen[0] == "exit" and seen[-1] == "cleaned"


def test_kill_before_it_began() -> None:
    async def main() -> None:
        greenlet = puff.spawn(pytest.fail, "it ran")
        greenlet._kill()
        assert greenlet.dead
        assert isinstance(await greenlet.join(), puff.GreenletExit)

    run(main)


def test_stale_wake_up_does_not_resume_the_next_wait() -> None:
    """The answer of the first wait is on the ring when the kill arrives; it must not end the
    second.
    """

    def job() -> float:
        try:
            puff.sleep_ms(5)
        except puff.GreenletExit:
            start = time.perf_counter()
            puff.sleep_ms(30)
            return time.perf_counter() - start
        return 1.0

    async def main() -> None:
        greenlet = puff.spawn(job)
        await puff.sleep_ms(1)
        time.sleep(0.01)  # the timer and the kill are due in the same turn
        greenlet.kill()
        assert await greenlet.join() >= 0.03

    run(main)


def test_idle_worker_keeps_no_context_alive() -> None:
    var: contextvars.ContextVar[Any] = contextvars.ContextVar("var")

    class Request:
        pass

    async def main() -> None:
        def begin() -> tuple[puff.Greenlet[None], weakref.ref[Request]]:
            request = Request()
            var.set(request)
            return puff.spawn(lambda: None), weakref.ref(request)

        job, request = contextvars.copy_context().run(begin)
        await job.join()
        gc.collect()
        assert request() is None

    run(main)


def test_join_of_another_loops_greenlet_is_refused() -> None:
    box: list[puff.Greenlet[None]] = []
    # In a thread without a loop it would begin when that thread waits for something.
    thread = threading.Thread(target=lambda: box.append(puff.spawn(lambda: None)))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="another loop"):
        box[0].join(timeout=10)


def test_join_itself_is_refused() -> None:
    async def main() -> None:
        box: list[puff.Greenlet[None]] = []
        box.append(puff.spawn(lambda: box[0].join()))
        with pytest.raises(RuntimeError, match="join itself"):
            await box[0].join()

    run(main)


def test_join_in_a_greenlet_and_with_a_timeout() -> None:
    def outer() -> str:
        inner = puff.spawn(puff.sleep_ms, 60_000)
        with pytest.raises(TimeoutError):
            inner.join(timeout=0.01)
        inner.kill()
        inner.join()
        with pytest.raises(ZeroDivisionError):
            puff.spawn(lambda: 1 / 0).join()
        return "done"

    async def main() -> None:
        assert await puff.spawn(outer).join() == "done"

    run(main)


def test_unjoined_exception_is_reported() -> None:
    async def main() -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        greenlet = puff.spawn(lambda: 1 / 0)
        while not greenlet.dead:
            await asyncio.sleep(0)
        del greenlet
        gc.collect()
        return seen

    assert "never retrieved" in run(main)[0]["message"]


def test_system_exit_in_a_greenlet_leaves_the_loop() -> None:
    async def main() -> None:
        puff.spawn(exit, 3)
        await asyncio.sleep(20)

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 3


def test_parked_greenlets_end_with_their_loop() -> None:
    ended: list[int] = []

    def job(n: int) -> None:
        try:
            puff.sleep_ms(60_000)
        finally:
            ended.append(n)

    async def main() -> None:
        for n in range(10):
            puff.spawn(job, n)
        await puff.sleep_ms(5)

    run(main)
    assert sorted(ended) == list(range(10))


def test_thousands_of_greenlets_at_once() -> None:
    def job(n: int) -> int:
        puff.sleep_ms(n % 7)
        return n

    async def main() -> None:
        assert (
            sum(await puff.join_all([puff.spawn(job, n) for n in range(5000)])) == 5000 * 4999 // 2
        )

    run(main)


def test_spawn_refuses_what_is_not_callable() -> None:
    with pytest.raises(TypeError, match="callable"):
        puff.spawn(5)  # type: ignore[arg-type]


def test_sleep_refuses_the_past() -> None:
    with pytest.raises(ValueError, match="negative"):
        puff.sleep_ms(-1)
