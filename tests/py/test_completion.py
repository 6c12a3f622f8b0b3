"""wrap_async(): any callback API as a puff call."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from typing import Any

import pytest
from worlds import every_world, in_coroutine, on_loop, refused_on_foreign_loop, sync_worlds

import puff


def at_once(*answer: Any) -> Any:
    return lambda ret: ret(*answer)


def from_thread(*answer: Any) -> Any:
    """Some library's own thread calls back."""
    return lambda ret: threading.Thread(target=ret, args=answer).start()


answers = pytest.mark.parametrize("how", [at_once, from_thread])


@every_world
@answers
def test_the_value_arrives(world, how) -> None:
    assert world(lambda: puff.wrap_async(how("value", None))) == "value"


@every_world
@answers
def test_the_exception_is_raised(world, how) -> None:
    with pytest.raises(LookupError, match="there"):
        world(lambda: puff.wrap_async(how(None, LookupError("there"))))


@every_world
def test_what_f_raises_is_raised(world) -> None:
    def f(ret):
        raise ZeroDivisionError("in f")

    with pytest.raises(ZeroDivisionError, match="in f"):
        world(lambda: puff.wrap_async(f))


@every_world
@answers
def test_wrap_return_makes_the_result(world, how) -> None:
    assert world(lambda: puff.wrap_async(how("7", None), wrap_return=int)) == 7


@every_world
@answers
def test_what_wrap_return_raises_is_raised(world, how) -> None:
    with pytest.raises(ValueError, match="seven"):
        world(lambda: puff.wrap_async(how("seven", None), True, int))


def test_wrap_return_is_for_values_only() -> None:
    with pytest.raises(KeyError):
        in_coroutine(lambda: puff.wrap_async(at_once(1, KeyError()), wrap_return=pytest.fail))


@sync_worlds
def test_join_false_gives_a_greenlet(world) -> None:
    def call():
        greenlet = puff.wrap_async(from_thread("later"), join=False)
        assert isinstance(greenlet, puff.Greenlet)
        return greenlet.join(timeout=10)

    assert world(call) == "later"


def test_join_false_is_an_awaitable_in_a_coroutine() -> None:
    assert in_coroutine(lambda: puff.wrap_async(at_once(1), join=False)) == 1


@every_world
def test_dropping_ret_is_an_error_and_not_a_hang(world) -> None:
    with pytest.raises(RuntimeError, match="dropped"):
        world(lambda: puff.wrap_async(lambda ret: None))


def test_a_second_call_is_refused_and_changes_nothing() -> None:
    seen = []

    def f(ret):
        ret("first")
        with pytest.raises(RuntimeError, match="already"):
            ret("second")
        seen.append(True)

    assert in_coroutine(lambda: puff.wrap_async(f)) == "first"
    assert seen == [True]


def test_an_exception_class_and_what_is_no_exception() -> None:
    with pytest.raises(KeyError):
        in_coroutine(lambda: puff.wrap_async(at_once(None, KeyError)))
    with pytest.raises(TypeError, match="not str"):
        in_coroutine(lambda: puff.wrap_async(at_once(None, "broken")))


def test_f_must_be_callable() -> None:
    with pytest.raises(TypeError, match="callable"):
        puff.wrap_async(5)  # type: ignore[call-overload]


def test_in_a_coroutine_f_runs_when_it_is_awaited() -> None:
    called = []

    async def main():
        call = puff.wrap_async(lambda ret: called.append(1) or ret(2))
        assert called == []
        return await call

    assert on_loop(main()) == 2


def test_f_sees_the_callers_context() -> None:
    var = contextvars.ContextVar("var")

    async def main():
        var.set("caller")
        here = await puff.wrap_async(lambda ret: ret(var.get()))
        there = await puff.spawn(puff.wrap_async, lambda ret: ret(var.get())).join()
        return here, there

    assert on_loop(main()) == ("caller", "caller")


# ---- answers that nobody waits for ---------------------------------------------------------------


def test_an_answer_after_a_timeout_is_dropped() -> None:
    kept: list[Any] = []

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(puff.wrap_async(kept.append), 0.01)
        kept[0]("late")
        await asyncio.sleep(0)

    on_loop(main())


def test_an_answer_after_a_kill_is_dropped() -> None:
    kept: list[Any] = []

    async def main():
        greenlet = puff.spawn(puff.wrap_async, kept.append)
        while not kept:
            await asyncio.sleep(0)
        greenlet.kill()
        assert isinstance(await greenlet.join(), puff.GreenletExit)
        kept[0]("late")

    on_loop(main())


def test_an_answer_after_the_loop_has_closed_is_dropped() -> None:
    kept: list[Any] = []

    async def main():
        puff.spawn(puff.wrap_async, kept.append)
        while not kept:
            await asyncio.sleep(0)

    on_loop(main())
    kept.pop()("late")
    gc.collect()


def test_many_threads_answer_in_any_order() -> None:
    async def main():
        calls = [puff.wrap_async(from_thread(n)) for n in range(300)]
        return await asyncio.gather(*calls)

    assert on_loop(main()) == list(range(300))


def test_a_foreign_loop_is_refused() -> None:
    refused_on_foreign_loop(lambda: puff.wrap_async(pytest.fail))
