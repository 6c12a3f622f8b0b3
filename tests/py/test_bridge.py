"""to_greenlet() and await_(): between coroutines and sync code on one thread."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import greenlet
import pytest

import puff
from puff._bind.bridge import flow_locals

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


def nap(value):
    """Sync code that waits: by a puff call, then by an awaitable."""
    puff.sleep_ms(1)
    return puff.await_(asyncio.sleep(0.001, value))


async def echo(value):
    await asyncio.sleep(0)
    return value


# ---- values and exceptions -----------------------------------------------------------------------


def test_to_greenlet_returns_the_value() -> None:
    async def main():
        return await puff.to_greenlet(divmod, 7, 2), await puff.to_greenlet(dict, a=1)

    assert puff.run(main()) == ((3, 1), {"a": 1})


@pytest.mark.parametrize("value", [None, (1, 2), (), ValueError("not raised"), StopIteration(5)])
def test_any_value_comes_back_as_it_is(value) -> None:
    async def main():
        return await puff.to_greenlet(nap, value), await puff.to_greenlet(lambda: value)

    assert puff.run(main()) == (value, value)


def test_puff_calls_in_the_function_let_the_loop_run() -> None:
    async def main():
        ticks = []

        async def ticker():
            while True:
                ticks.append(1)
                await asyncio.sleep(0)

        task = asyncio.create_task(ticker())
        await puff.to_greenlet(puff.sleep_ms, 20)
        task.cancel()
        return len(ticks)

    assert puff.run(main()) > 10


def test_exceptions_pass_with_their_traceback() -> None:
    def broken():
        nap(1)
        raise LookupError("here")

    async def main():
        await puff.to_greenlet(broken)

    with pytest.raises(LookupError, match="here") as caught:
        puff.run(main())
    assert "broken" in [entry.name for entry in caught.traceback]


def test_exceptions_of_what_is_awaited_reach_the_function() -> None:
    async def fail():
        await asyncio.sleep(0)
        raise KeyError("x")

    def sync():
        try:
            puff.await_(fail())
        except KeyError:
            return "caught"

    async def main():
        return await puff.to_greenlet(sync)

    assert puff.run(main()) == "caught"


def test_exc_info_is_the_functions_own() -> None:
    def sync():
        assert sys.exc_info() == (None, None, None)
        try:
            raise ValueError("inside")
        except ValueError:
            nap(1)
            return repr(sys.exc_info()[1])

    async def main():
        try:
            raise TypeError("outside")
        except TypeError:
            inside = await puff.to_greenlet(sync)
            return inside, repr(sys.exc_info()[1])

    assert puff.run(main()) == ("ValueError('inside')", "TypeError('outside')")


@pytest.mark.parametrize("exit_", [SystemExit(3), KeyboardInterrupt()])
def test_exits_leave_the_loop(exit_) -> None:
    def sync():
        nap(1)
        raise exit_

    async def main():
        await puff.to_greenlet(sync)

    with pytest.raises(type(exit_)):
        puff.run(main())


# ---- nesting -------------------------------------------------------------------------------------


def test_nesting_in_both_directions_to_any_depth() -> None:
    def down(n):
        return puff.await_(up(n - 1)) if n else nap("bottom")

    async def up(n):
        await asyncio.sleep(0)
        return await puff.to_greenlet(down, n)

    assert puff.run(up(60)) == "bottom"


def test_a_thousand_at_once() -> None:
    async def main():
        return await asyncio.gather(*(puff.to_greenlet(nap, n) for n in range(1000)))

    assert puff.run(main()) == list(range(1000))


def test_in_sync_code_to_greenlet_just_calls() -> None:
    def sync():
        here = greenlet.getcurrent()
        return puff.to_greenlet(greenlet.getcurrent) is here

    async def main():
        return await puff.to_greenlet(sync)

    assert puff.to_greenlet(divmod, 7, 2) == (3, 1)
    assert puff.run(main())


def test_a_greenlet_made_in_the_function_may_wait() -> None:
    def sync():
        return greenlet.greenlet(nap).switch("inner")

    async def main():
        return await puff.to_greenlet(sync)

    assert puff.run(main()) == "inner"


# ---- task, context, running loop -----------------------------------------------------------------


def test_the_task_is_that_of_the_coroutine() -> None:
    async def who():
        return asyncio.current_task()

    async def main():
        return await puff.to_greenlet(lambda: puff.await_(who())) is asyncio.current_task()

    assert puff.run(main())


def test_the_running_loop_is_hidden_in_the_function_only() -> None:
    def sync():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        loop = puff.await_(inside())
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return loop

    async def inside():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main():
        loop = asyncio.get_running_loop()
        assert await puff.to_greenlet(sync) is loop
        assert asyncio.get_running_loop() is loop

    puff.run(main())


def test_contextvars_flow_both_ways() -> None:
    async def inner():
        assert var.get() == "function"
        await asyncio.sleep(0)
        var.set("inner")

    def sync():
        assert var.get() == "main"
        var.set("function")
        puff.await_(inner())
        assert var.get() == "inner"
        puff.sleep_ms(1)
        var.set("after")

    async def main():
        var.set("main")
        await puff.to_greenlet(sync)
        return var.get()

    assert puff.run(main()) == "after"
    assert var.get() == "unset"


# ---- cancellation --------------------------------------------------------------------------------


async def cancelled_while(wait):
    """What a function sees of the cancellation of its task while it waits."""
    seen, waits = [], asyncio.Event()

    def sync():
        waits.set()
        try:
            wait()
        except BaseException as exc:
            seen.append(type(exc))
            raise

    task = asyncio.create_task(puff.to_greenlet(sync))
    await asyncio.wait_for(waits.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return seen


@pytest.mark.parametrize(
    "wait",
    [lambda: puff.sleep_ms(60_000), lambda: puff.await_(asyncio.sleep(60))],
    ids=["call", "await"],
)
def test_cancelling_the_task_raises_in_the_function(wait) -> None:
    assert puff.run(cancelled_while(wait)) == [asyncio.CancelledError]


def test_cancelled_before_it_began_it_never_runs() -> None:
    ran = []

    async def main():
        task = asyncio.create_task(puff.to_greenlet(ran.append, 1))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert puff.run(main())
    assert ran == []


def test_timeouts_work_on_both_sides() -> None:
    async def slow():
        await asyncio.wait_for(asyncio.sleep(60), 0.01)

    def sync():
        with pytest.raises(asyncio.TimeoutError):
            puff.await_(slow())
        puff.sleep_ms(60_000)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(puff.to_greenlet(sync), 0.1)

    puff.run(main())


def test_a_function_may_swallow_its_cancellation() -> None:
    def sync():
        try:
            puff.sleep_ms(60_000)
        except asyncio.CancelledError:
            return nap("went on")

    async def main():
        task = asyncio.create_task(puff.to_greenlet(sync))
        await asyncio.sleep(0.01)
        task.cancel()
        return await task

    assert puff.run(main()) == "went on"


# ---- ends ----------------------------------------------------------------------------------------


def test_a_loop_that_closes_ends_functions_that_wait() -> None:
    ended = []

    def sync():
        try:
            puff.sleep_ms(60_000)
        finally:
            ended.append(True)

    async def waits():
        await puff.to_greenlet(sync)

    loop = puff.new_event_loop()
    task = loop.create_task(waits())
    loop.run_until_complete(asyncio.sleep(0.01))
    task._log_destroy_pending = False
    loop.close()
    assert ended == [True]


def test_a_coroutine_that_is_thrown_away_ends_its_function() -> None:
    ended = []

    def sync():
        try:
            puff.sleep_ms(60_000)
        except puff.GreenletExit:
            ended.append(True)
            raise

    async def main():
        bridge = puff.to_greenlet(sync)
        bridge.send(None)
        bridge.close()
        bridge.close()
        assert ended == [True]
        with pytest.raises(RuntimeError, match="already awaited"):
            await bridge

    puff.run(main())


def test_a_bridge_leaves_nothing_behind() -> None:
    class Thing:
        pass

    async def main():
        thing = Thing()
        ref = weakref.ref(thing)
        assert await puff.to_greenlet(nap, thing) is thing
        del thing
        await asyncio.sleep(0)
        gc.collect()
        return ref()

    assert puff.run(main()) is None


def test_never_awaited_warns() -> None:
    async def main():
        with pytest.warns(RuntimeWarning, match="never awaited"):
            puff.to_greenlet(nap, 1)

    puff.run(main())


def test_on_another_loop_it_says_what_to_do() -> None:
    async def main():
        with pytest.raises(RuntimeError, match=r"puff\.run"):
            await puff.to_greenlet(nap, 1)

    asyncio.run(main())


# ---- await_() elsewhere --------------------------------------------------------------------------


def test_await_in_a_spawned_greenlet() -> None:
    async def set_and_wait():
        task = asyncio.current_task()
        assert task is not None
        assert var.get() == "greenlet"
        await asyncio.sleep(0.001)
        var.set("task")
        return "value"

    def job():
        var.set("greenlet")
        value = puff.await_(set_and_wait())
        return value, var.get()

    async def main():
        return await puff.spawn(job).join()

    assert puff.run(main()) == ("value", "task")


def test_a_killed_greenlet_cancels_what_it_awaits() -> None:
    async def main():
        future = asyncio.get_running_loop().create_future()
        ended = asyncio.Event()

        async def waits():
            try:
                await future
            finally:
                ended.set()

        g = puff.spawn(lambda: puff.await_(waits()))
        await asyncio.sleep(0.01)
        g.kill()
        assert isinstance(await g.join(timeout=5), puff.GreenletExit)
        await asyncio.wait_for(ended.wait(), 5)

    puff.run(main())


class Cleanup:
    """A coroutine with a slow clean-up, and sync code that awaits it; `log` tells the order."""

    def __init__(self, ends=None) -> None:
        self.log: list[str] = []
        self.ends = ends

    async def work(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.002)
            self.log.append("coroutine")
            if self.ends is None:
                raise
            return self.ends()

    def job(self):
        try:
            return puff.await_(self.work())
        finally:
            self.log.append("caller")

    async def killed(self):
        g = puff.spawn(self.job)
        await asyncio.sleep(0.002)
        g.kill()
        try:
            return await g.join(timeout=5)
        finally:
            assert self.log == ["coroutine", "caller"]


def raises(exc):
    raise exc


def test_what_a_killed_greenlet_awaits_cleans_up_first() -> None:
    assert isinstance(puff.run(Cleanup().killed()), puff.GreenletExit)


def test_the_exit_comes_also_when_the_cancellation_was_swallowed() -> None:
    assert isinstance(puff.run(Cleanup(lambda: "value").killed()), puff.GreenletExit)


def test_what_the_clean_up_raises_comes_instead_of_the_exit() -> None:
    with pytest.raises(LookupError, match="clean-up"):
        puff.run(Cleanup(lambda: raises(LookupError("clean-up"))).killed())


def test_a_second_kill_cancels_again_what_has_not_ended() -> None:
    async def main():
        log = []

        async def work():
            for _ in range(2):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    log.append("cancelled")

        async def clean_up():
            await asyncio.sleep(0.002)
            log.append("cleaned up")

        def job():
            try:
                puff.await_(work())
            finally:
                puff.await_(clean_up())

        g = puff.spawn(job)
        await asyncio.sleep(0.002)
        for _ in range(2):
            g.kill()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        g.kill()  # the caller's own clean-up is not interrupted
        assert isinstance(await g.join(timeout=5), puff.GreenletExit)
        return log

    assert puff.run(main()) == ["cancelled", "cancelled", "cleaned up"]


def test_killed_with_the_answer_of_the_coroutine_on_the_way() -> None:
    async def main(n):
        event = asyncio.Event()
        g = puff.spawn(lambda: puff.await_(event.wait()))
        await asyncio.sleep(0.002)
        event.set()
        for _ in range(n):
            await asyncio.sleep(0)
        g.kill()
        return await g.join(timeout=5)

    for n in range(5):
        assert isinstance(puff.run(main(n)), (puff.GreenletExit, bool))


def test_a_loop_that_closes_ends_what_greenlets_await_without_a_word() -> None:
    log, reported = [], []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            log.append("coroutine")

    def job():
        try:
            puff.await_(work())
        finally:
            log.append("caller")

    loop = puff.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    loop.call_soon(puff.spawn, job)
    loop.run_until_complete(asyncio.sleep(0.002))
    loop.close()
    gc.collect()
    assert log == ["coroutine", "caller"]
    assert not reported


def test_await_in_a_thread_blocks_that_thread() -> None:
    async def main():
        return await asyncio.to_thread(lambda: puff.await_(echo(threading.get_ident())))

    assert puff.run(main()) != threading.get_ident()


def test_await_in_a_script_runs_its_own_loop() -> None:
    assert puff.await_(echo("script")) == "script"


def test_await_in_a_coroutine_is_an_error() -> None:
    async def main():
        coro = echo(1)
        with pytest.raises(RuntimeError, match="write `await`"):
            puff.await_(coro)
        coro.close()

    puff.run(main())
    asyncio.run(main())


def test_await_takes_awaitables_only() -> None:
    async def main():
        with pytest.raises(TypeError, match="await"):
            await puff.to_greenlet(lambda: puff.await_(17))

    puff.run(main())


@pytest.mark.parametrize("world", ["spawn", "to_greenlet"])
def test_a_future_of_another_loop_is_refused_with_what_to_do(world) -> None:
    other = asyncio.new_event_loop()
    future = other.create_future()

    async def main():
        job = puff.spawn if world == "spawn" else puff.to_greenlet
        call = job(lambda: puff.await_(future))
        with pytest.raises(RuntimeError, match="make it in a coroutine"):
            await (call.join() if world == "spawn" else call)
        future.set_result("done")  # then no loop has to wake anybody
        call = job(lambda: puff.await_(future))
        return await (call.join() if world == "spawn" else call)

    try:
        assert puff.run(main()) == "done"
    finally:
        other.close()


# ---- what is local -------------------------------------------------------------------------------


def test_locals_are_those_of_the_flow() -> None:
    def mark(name):
        before = getattr(flow_locals(), "name", None)
        flow_locals().name = name
        puff.sleep_ms(1)
        assert flow_locals().name == name
        return before

    async def flow(name):
        return [await puff.to_greenlet(mark, name) for _ in range(3)]

    async def main():
        assert flow_locals() is None
        flows = await asyncio.gather(*(flow(name) for name in "abc"))
        spawned = await puff.join_all([puff.spawn(mark, name) for name in "de"])
        return flows, spawned

    flows, spawned = puff.run(main())
    assert flows == [[None, name, name] for name in "abc"]
    assert spawned == [None, None]


def test_a_greenlet_and_what_it_awaits_are_one_flow() -> None:
    async def down():
        await asyncio.sleep(0)
        return await puff.to_greenlet(flow_locals)

    def job():
        return puff.await_(down()) is flow_locals()

    async def main():
        return await puff.spawn(job).join(), await puff.to_greenlet(job)

    assert puff.run(main()) == (True, True)


def test_locals_end_with_their_flow() -> None:
    refs = []

    def keep():
        refs.append(weakref.ref(flow_locals()))

    async def main():
        await puff.spawn(keep).join()
        await asyncio.create_task(puff.to_greenlet(keep))
        await asyncio.sleep(0)
        gc.collect()

    puff.run(main())
    assert [ref() for ref in refs] == [None, None]
