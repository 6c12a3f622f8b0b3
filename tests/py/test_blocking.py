"""spawn_blocking() and @blocking: Python that blocks, on threads of ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import pytest
from worlds import every_world, in_coroutine, on_loop, refused_on_foreign_loop, script

import puff

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


def thread_name():
    return threading.current_thread().name


# ---- spawn_blocking() ----------------------------------------------------------------------------


@every_world
def test_it_runs_on_a_thread_of_ours(world) -> None:
    assert world(lambda: puff.spawn_blocking(thread_name).join()).startswith("puff-blocking-")


@every_world
def test_exceptions_come_with_their_traceback(world) -> None:
    def broken():
        raise LookupError("there")

    with pytest.raises(LookupError, match="there") as caught:
        world(lambda: puff.spawn_blocking(broken).join())
    assert "broken" in [entry.name for entry in caught.traceback]


def test_the_loop_goes_on_meanwhile() -> None:
    async def main():
        go_on = threading.Event()
        greenlet = puff.spawn_blocking(go_on.wait, 10)
        await asyncio.sleep(0.01)
        assert not greenlet.dead and greenlet.value is None
        go_on.set()
        assert await greenlet.join() is True
        return greenlet.dead, greenlet.value

    assert on_loop(main()) == (True, True)


def test_arguments_and_a_copy_of_the_context() -> None:
    def job(*args, **kwargs):
        before = var.get()
        var.set("thread")
        return args, kwargs, before

    async def main():
        var.set("caller")
        answer = await puff.spawn_blocking(job, 1, b=2).join()
        return answer, var.get()

    assert on_loop(main()) == (((1,), {"b": 2}, "caller"), "caller")


def test_puff_calls_in_it_block_its_thread_only() -> None:
    def job(n):
        puff.sleep_ms(2)
        return puff.spawn(lambda: n).join()

    async def main():
        return await puff.join_all([puff.spawn_blocking(job, n) for n in range(20)])

    assert on_loop(main()) == list(range(20))


@pytest.mark.leaves("a reused thread keeps its own loop")
def test_puff_calls_in_it_without_a_loop() -> None:
    assert puff.spawn_blocking(lambda: puff.sleep_ms(1) or "slept").join(10) == "slept"


def test_join_takes_a_timeout_and_the_job_goes_on() -> None:
    async def main():
        go_on = threading.Event()
        greenlet = puff.spawn_blocking(go_on.wait, 10)
        with pytest.raises(TimeoutError):
            await greenlet.join(timeout=0.01)
        go_on.set()
        return await greenlet.join()

    assert on_loop(main())


def test_threads_are_reused_and_bounded() -> None:
    out = script(
        "import puff, threading, time\n"
        "names = set()\n"
        "def job():\n"
        "    names.add(threading.current_thread().name)\n"
        "    time.sleep(0.001)\n"
        "async def main():\n"
        "    await puff.join_all([puff.spawn_blocking(job) for _ in range(100)])\n"
        "puff.run(main())\n"
        "print(sorted(names))\n",
        PUFF_BLOCKING_THREADS="2",
    )
    assert "".join(out) == "['puff-blocking-1','puff-blocking-2']"


def test_one_after_the_other_takes_one_thread() -> None:
    out = script(
        "import puff, threading\n"
        "async def main():\n"
        "    name = lambda: threading.current_thread().name\n"
        "    print(*{await puff.spawn_blocking(name).join() for _ in range(100)})\n"
        "puff.run(main())\n"
    )
    assert out == ["puff-blocking-1"]


def test_kill_takes_back_what_has_not_begun() -> None:
    out = script(
        "import puff, threading\n"
        "async def main():\n"
        "    go_on, ran = threading.Event(), []\n"
        "    first = puff.spawn_blocking(go_on.wait, 10)\n"
        "    second = puff.spawn_blocking(ran.append, 2)\n"
        "    second.kill()\n"
        "    print(repr(await second.join()))\n"
        "    go_on.set()\n"
        "    print(await first.join(), await puff.spawn_blocking(lambda: 3).join(), ran)\n"
        "puff.run(main())\n",
        PUFF_BLOCKING_THREADS="1",
    )
    assert out == ["GreenletExit()", "True", "3", "[]"]


def test_kill_of_one_that_runs_lets_the_joiners_go() -> None:
    async def main():
        go_on, ended = threading.Event(), threading.Event()

        def job():
            go_on.wait(10)
            ended.set()

        greenlet = puff.spawn_blocking(job)
        joins = [asyncio.ensure_future(greenlet.join()) for _ in range(3)]
        await asyncio.sleep(0.01)
        greenlet.kill()
        greenlet.kill()
        for exit_ in await asyncio.gather(*joins):
            assert isinstance(exit_, puff.GreenletExit)
        go_on.set()
        assert await puff.spawn_blocking(ended.wait, 10).join()

    on_loop(main())


def test_system_exit_leaves_where_it_is_joined() -> None:
    async def main():
        await puff.spawn_blocking(sys.exit, 3).join()

    with pytest.raises(SystemExit) as caught:
        on_loop(main())
    assert caught.value.code == 3


def test_unjoined_exceptions_are_reported() -> None:
    async def main():
        seen = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        greenlet = puff.spawn_blocking(lambda: 1 / 0)
        while not greenlet.dead:
            await asyncio.sleep(0.001)
        del greenlet
        gc.collect()
        return seen[0]["message"]

    assert "never retrieved" in on_loop(main())


def test_nothing_is_kept_of_a_job_that_has_ended() -> None:
    class Thing:
        pass

    async def main():
        thing = Thing()
        ref = weakref.ref(thing)
        await puff.spawn_blocking(id, thing).join()
        del thing
        gc.collect()
        return ref()

    assert on_loop(main()) is None


def test_refuses_what_is_not_callable_and_foreign_loops() -> None:
    with pytest.raises(TypeError, match="callable"):
        puff.spawn_blocking(5)  # type: ignore[arg-type]
    refused_on_foreign_loop(lambda: puff.spawn_blocking(pytest.fail))


@pytest.mark.parametrize("given", ["0", "-1", "many", "10001"])
def test_a_bad_number_of_threads_is_named(given) -> None:
    out = script(
        "import puff, puff.errors\ntry: puff.spawn_blocking(int)\n"
        "except puff.errors.ConfigError as exc: print(exc)\n",
        PUFF_BLOCKING_THREADS=given,
    )
    assert out[0] == "PUFF_BLOCKING_THREADS"


# ---- the end -------------------------------------------------------------------------------------


def test_a_loop_that_closes_leaves_its_jobs_behind() -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def job():
        started.set()
        go_on.wait(10)
        ended.set()

    async def main():
        greenlet = puff.spawn_blocking(job)
        while not started.is_set():  # else the end of the loop would take it back
            await asyncio.sleep(0.001)
        return greenlet

    greenlet = on_loop(main())
    assert greenlet.dead and isinstance(greenlet.value, puff.GreenletExit)
    go_on.set()
    assert ended.wait(10)


def test_exit_does_not_wait_for_a_job_that_blocks() -> None:
    out = script(
        "import puff, threading\n"
        "began = threading.Event()\n"
        "def forever():\n"
        "    began.set(); threading.Event().wait()\n"
        "async def main():\n"
        "    puff.spawn_blocking(forever)\n"
        "    began.wait(10)\n"
        "    print('main ends')\n"
        "puff.run(main())\n"
        "puff.spawn_blocking(forever)\n"
        "print('script ends')\n"
    )
    assert out == ["main", "ends", "script", "ends"]


def test_a_forked_child_has_threads_of_its_own() -> None:
    out = script(
        "import os, puff\n"
        "assert puff.spawn_blocking(lambda: 1).join() == 1\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(puff.spawn_blocking(lambda: 7).join(10))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert out == ["7"]


# ---- @blocking -----------------------------------------------------------------------------------


@puff.blocking
def where():
    """Which thread is this?"""
    return thread_name()


@every_world
def test_decorated_is_a_call_in_every_world(world) -> None:
    name = world(where)
    if world.__name__ in ("in_thread", "in_script"):
        assert not name.startswith("puff-blocking")
    else:
        assert name.startswith("puff-blocking")


def test_the_decorated_function_keeps_its_face() -> None:
    assert where.__name__ == "where" and where.__doc__ == "Which thread is this?"


def test_decorated_calls_nest_without_taking_more_threads() -> None:
    @puff.blocking
    def down(n):
        return down(n - 1) + 1 if n else 0

    assert in_coroutine(lambda: down(200)) == 200


def test_a_cancelled_call_lets_its_waiter_go() -> None:
    go_on = threading.Event()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(puff.blocking(go_on.wait)(10), 0.05)
        go_on.set()

    on_loop(main())


def test_decorating_a_coroutine_function_is_refused() -> None:
    async def coro():
        pass

    with pytest.raises(TypeError, match="blocks"):
        puff.blocking(coro)


def test_a_decorated_method_gets_its_self() -> None:
    class Thing:
        @puff.blocking
        def me(self):
            return self

    thing = Thing()
    assert in_coroutine(thing.me) is thing


def test_a_foreign_loop_is_refused() -> None:
    refused_on_foreign_loop(where)


def test_many_submitters_lose_no_job() -> None:
    async def main():
        def submit(n):
            return sum(puff.join_all([puff.spawn_blocking(int, n) for _ in range(20)]))

        totals = await asyncio.gather(*(asyncio.to_thread(submit, n) for n in range(10)))
        return list(totals)

    assert on_loop(main()) == [20 * n for n in range(10)]
