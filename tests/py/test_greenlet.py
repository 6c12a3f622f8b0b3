"""Greenlets of spawn(): joining and killing them, and what becomes of them in the end."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from worlds import on_loop, refused_on_foreign_loop, script, sync_worlds

import puff


def nap(ms, value=None):
    puff.sleep_ms(ms)
    if isinstance(value, Exception):
        raise value
    return value


# ---- join_iter() ---------------------------------------------------------------------------------


def three():
    return [puff.spawn(nap, ms, ms) for ms in (30, 1, 15)]


@sync_worlds
def test_join_iter_in_the_order_of_their_ends(world) -> None:
    assert world(lambda: list(puff.join_iter(three()))) == [1, 15, 30]


def test_join_iter_in_a_coroutine() -> None:
    async def main():
        return [value async for value in puff.join_iter(three())]

    assert on_loop(main()) == [1, 15, 30]


def test_join_iter_with_for_in_a_coroutine_gives_awaitables() -> None:
    async def main():
        return [await value for value in puff.join_iter(three())]  # type: ignore[misc]

    assert on_loop(main()) == [1, 15, 30]


@sync_worlds
def test_join_iter_of_nothing(world) -> None:
    assert world(lambda: list(puff.join_iter([]))) == []


@sync_worlds
def test_join_iter_raises_each_exception_at_its_turn(world) -> None:
    def call():
        jobs = [(20, "last"), (1, "first"), (10, KeyError("second"))]
        ended = puff.join_iter(puff.spawn(nap, *job) for job in jobs)
        assert next(ended) == "first"
        with pytest.raises(KeyError):
            next(ended)
        assert next(ended) == "last"
        with pytest.raises(StopIteration):
            next(ended)
        return True

    assert world(call)


def test_join_iter_knows_in_what_order_the_dead_have_ended() -> None:
    async def main():
        greenlets = three()
        await puff.join_all(greenlets)
        return [value async for value in puff.join_iter(reversed(greenlets))]

    assert on_loop(main()) == [1, 15, 30]


def test_join_iter_that_is_cancelled_loses_nothing() -> None:
    async def main():
        ended = puff.join_iter([puff.spawn(nap, 20, "late"), puff.spawn(nap, 1, "early")])
        assert await anext(ended) == "early"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(ended), 0.001)
        return [value async for value in ended]

    assert on_loop(main()) == ["late"]


def test_join_iter_cancelled_with_the_answer_there_loses_nothing() -> None:
    async def main():
        job = puff.spawn(nap, 1, "kept")
        ended = puff.join_iter([job])
        task = asyncio.ensure_future(anext(ended))
        while not job.dead:
            await asyncio.sleep(0)
        task.cancel()  # it has been woken, and has not run
        with pytest.raises(asyncio.CancelledError):
            await task
        return [value async for value in ended]

    assert on_loop(main()) == ["kept"]


def test_join_iter_of_many_is_not_quadratic() -> None:
    async def main():
        greenlets = [puff.spawn(nap, n % 5, n) for n in range(5000)]
        return [value async for value in puff.join_iter(greenlets)]

    assert sorted(on_loop(main())) == list(range(5000))


def test_join_iter_left_early_leaves_the_others_running() -> None:
    async def main():
        greenlets = three()
        async for _ in puff.join_iter(greenlets):
            break
        gc.collect()
        return await puff.join_all(greenlets)

    assert on_loop(main()) == [30, 1, 15]


def test_join_iter_of_itself_is_refused() -> None:
    async def main():
        box = []
        box.append(puff.spawn(lambda: next(puff.join_iter(box))))
        with pytest.raises(RuntimeError, match="join itself"):
            await box[0].join()

    on_loop(main())


def test_join_iter_takes_greenlets_only() -> None:
    with pytest.raises(TypeError):
        puff.join_iter([5])  # type: ignore[list-item]


def test_join_iter_on_a_foreign_loop_is_refused() -> None:
    ended = puff.spawn(int)
    ended.join()
    refused_on_foreign_loop(lambda: next(puff.join_iter([ended])))


def test_join_iter_mixes_greenlets_and_blocking_ones() -> None:
    async def main():
        greenlets = [puff.spawn(nap, 1, "greenlet"), puff.spawn_blocking(lambda: "thread")]
        return {value async for value in puff.join_iter(greenlets)}

    assert on_loop(main()) == {"greenlet", "thread"}


# ---- join() and kill() ---------------------------------------------------------------------------


async def parked(job, *args):
    """A greenlet that waits already."""
    greenlet = puff.spawn(job, *args)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not greenlet.dead
    return greenlet


def test_several_join_with_timeouts_of_their_own() -> None:
    async def main():
        greenlet = puff.spawn(nap, 40, "value")
        joins = [greenlet.join(timeout=t) for t in (0.001, 5, None, 0.001)]
        return await asyncio.gather(
            *joins, asyncio.to_thread(greenlet.join), return_exceptions=True
        )

    a, *values, b, thread = on_loop(main())
    assert type(a) is type(b) is TimeoutError
    assert values == ["value"] * 2 and thread == "value"


@pytest.mark.parametrize("ends", ["value", ValueError("raised")])
def test_joined_again_it_ends_the_same(ends) -> None:
    async def main():
        greenlet = puff.spawn(nap, 1, ends)
        first = await asyncio.gather(greenlet.join(), return_exceptions=True)
        again = await asyncio.gather(greenlet.join(), greenlet.join(0), return_exceptions=True)
        return [*first, *again]

    assert on_loop(main()) == [ends] * 3


def test_killed_before_it_has_begun_it_never_runs() -> None:
    ran = []

    async def main():
        greenlet = puff.spawn(ran.append, 1)
        joiner = puff.spawn(greenlet.join)
        greenlet.kill()
        assert isinstance(await joiner.join(timeout=5), puff.GreenletExit)
        assert greenlet.dead
        return await greenlet.join(timeout=5), greenlet.value

    value, same = on_loop(main())
    assert isinstance(value, puff.GreenletExit)
    assert value is same
    assert not ran


def test_killed_before_it_has_begun_by_a_script_or_thread() -> None:
    ran = []
    greenlet = puff.spawn(ran.append, 1)
    greenlet.kill()
    assert isinstance(greenlet.join(timeout=5), puff.GreenletExit)

    async def main():
        made = []

        def in_thread():
            made.append(puff.spawn(ran.append, 1))
            made[0].kill()

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join(5)  # the loop waits: it cannot have begun
        return await made[0].join(timeout=5)

    assert isinstance(on_loop(main()), puff.GreenletExit)
    assert not ran


def test_killed_when_its_loop_is_closed_nothing_happens() -> None:
    loop = puff.new_event_loop()

    async def main():
        ended = puff.spawn(int)
        await ended.join()
        return ended, puff.spawn(int)

    ended, late = loop.run_until_complete(main())
    loop.close()
    ended.kill()
    late.kill()
    assert ended.value == 0


def test_spawn_on_a_foreign_loop_is_refused() -> None:
    refused_on_foreign_loop(lambda: puff.spawn(int))
    refused_on_foreign_loop(lambda: puff.spawn_blocking(int))


def test_only_spawn_makes_one() -> None:
    with pytest.raises(TypeError, match=r"use puff\.spawn\(\)"):
        puff.Greenlet()


def test_killed_by_itself_it_ends_where_it_waits_next() -> None:
    steps = []

    def job(box):
        box[0].kill()
        steps.append("runs on")
        puff.sleep_ms(60_000)
        steps.append("never")

    async def main():
        box = []
        box.append(puff.spawn(job, box))
        return await box[0].join(timeout=5)

    assert isinstance(on_loop(main()), puff.GreenletExit)
    assert steps == ["runs on"]


def test_killed_from_a_thread() -> None:
    async def main():
        greenlet = await parked(nap, 60_000)
        await asyncio.to_thread(greenlet.kill)
        return await greenlet.join(timeout=5)

    assert isinstance(on_loop(main()), puff.GreenletExit)


def test_killed_with_its_answer_on_the_way() -> None:
    async def main():
        event = puff.Event()
        greenlet = await parked(event.wait)
        event.set()  # it is on the ring
        greenlet._kill()
        return await greenlet.join(timeout=5)

    assert isinstance(on_loop(main()), puff.GreenletExit)


def test_killed_when_it_has_ended_it_stays_as_it_is() -> None:
    async def main():
        greenlet = puff.spawn(nap, 1, "value")
        await greenlet.join()
        greenlet.kill()
        await asyncio.sleep(0.001)
        return await greenlet.join(), greenlet.value

    assert on_loop(main()) == ("value", "value")


def test_it_may_ignore_a_kill() -> None:
    def stubborn():
        try:
            puff.sleep_ms(60_000)
        except puff.GreenletExit:
            return nap(1, "went on")

    async def main():
        greenlet = await parked(stubborn)
        greenlet.kill()
        return await greenlet.join(timeout=5)

    assert on_loop(main()) == "went on"


def test_what_its_cleanup_raises_is_what_join_raises() -> None:
    def job():
        try:
            puff.sleep_ms(60_000)
        finally:
            raise LookupError("cleanup")

    async def main():
        greenlet = await parked(job)
        greenlet.kill()
        with pytest.raises(LookupError, match="cleanup") as caught:
            await greenlet.join(timeout=5)
        assert isinstance(caught.value.__context__, puff.GreenletExit)

    on_loop(main())


def test_keyboard_interrupt_leaves_the_loop() -> None:
    def job():
        puff.sleep_ms(1)
        raise KeyboardInterrupt

    async def main():
        puff.spawn(job)
        await asyncio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        on_loop(main())


def test_no_task_is_current_in_a_greenlet() -> None:
    def job():
        with pytest.raises(RuntimeError):
            asyncio.current_task()
        return True

    async def main():
        return await puff.spawn(job).join()

    assert on_loop(main())


# ---- depth ---------------------------------------------------------------------------------------


def test_recursion_without_end_is_an_error_and_not_a_crash() -> None:
    def down(n):
        return down(n + 1)

    def park_below(n):
        return park_below(n - 1) + 1 if n else nap(1, 0)

    async def main():
        for _ in range(3):
            greenlets = [puff.spawn(down, 0) for _ in range(3)]
            deep = [puff.spawn(park_below, 300) for _ in range(20)]
            for greenlet in greenlets:
                with pytest.raises(RecursionError):
                    await greenlet.join()
            assert await puff.join_all(deep) == [300] * 20
        return await puff.spawn(nap, 1, "well").join()

    assert on_loop(main()) == "well"


# ---- what becomes of those that still wait -------------------------------------------------------


def test_a_loop_closes_with_a_thousand_that_wait() -> None:
    ended = []

    def job(n):
        try:
            puff.sleep_ms(60_000)
        finally:
            ended.append(n)

    async def main():
        greenlets = [puff.spawn(job, n) for n in range(1000)]
        await puff.sleep_ms(5)
        return greenlets

    greenlets = on_loop(main())
    assert sorted(ended) == list(range(1000))
    assert all(greenlet.dead for greenlet in greenlets)


def test_collected_with_a_loop_that_was_never_closed() -> None:
    out = script(
        "import gc, puff\n"
        "loop = puff.new_event_loop()\n"
        "async def main():\n"
        "    for _ in range(10): puff.spawn(puff.sleep_ms, 60_000)\n"
        "    await puff.sleep_ms(2)\n"
        "loop.run_until_complete(main())\n"
        "del loop\n"
        "gc.collect()\n"
        "print('alive')\n"
    )
    assert out == ["alive"]


@pytest.mark.parametrize("where", ["in a script", "on a loop"])
def test_the_interpreter_exits_while_some_wait(where) -> None:
    run = "puff.sleep_ms(2)" if where == "in a script" else "loop.run_until_complete(main())"
    out = script(
        "import puff\n"
        "async def main(): await puff.sleep_ms(2)\n"
        "loop = puff.new_event_loop()\n"
        "def job():\n"
        "    puff.spawn(puff.sleep_ms, 60_000); puff.sleep_ms(60_000)\n"
        "async def start(): puff.spawn(job)\n"
        "if 'script' in " + repr(where) + ": puff.spawn(job)\n"
        "else: loop.run_until_complete(start())\n" + run + "\n"
        "print('end')\n"
    )
    assert out == ["end"]


def test_fork_in_a_greenlet() -> None:
    out = script(
        "import os, puff\n"
        "def job():\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os._exit(7)\n"
        "    puff.sleep_ms(1)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "async def main(): print(await puff.spawn(job).join())\n"
        "puff.run(main())\n"
    )
    assert out == ["7"]
