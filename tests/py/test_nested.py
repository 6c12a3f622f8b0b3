"""Runs inside runs: puff.Loop(nested=True), and what nest_asyncio makes of any of our loops."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import RunPython

import puff

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


@pytest.fixture
def loop() -> Iterator[puff.Loop]:
    loop = puff.Loop(nested=True)
    try:
        yield loop
    finally:
        loop.close()


async def later(value: int) -> int:
    await asyncio.sleep(0.001)
    return value


# ---- results, tasks, contexts --------------------------------------------------------------------


def test_run_until_complete_inside_a_coroutine(loop: puff.Loop) -> None:
    async def main() -> int:
        return loop.run_until_complete(later(1)) + await later(2)

    assert loop.run_until_complete(main()) == 3
    assert not loop.is_running()


def test_runs_nest_deeply(loop: puff.Loop) -> None:
    async def level(n: int) -> int:
        me = asyncio.current_task()
        await asyncio.sleep(0)
        total = n + (loop.run_until_complete(level(n - 1)) if n else 0)
        assert asyncio.current_task() is me
        assert asyncio.get_running_loop() is loop
        return total

    assert loop.run_until_complete(level(50)) == sum(range(51))


def test_other_tasks_go_on_meanwhile(loop: puff.Loop) -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def other() -> None:
            for n in range(3):
                seen.append(f"other {n}")
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        loop.run_until_complete(later(1))
        seen.append("main")
        await task
        return seen

    assert loop.run_until_complete(main()) == ["other 0", "other 1", "other 2", "main"]


def test_run_inside_a_plain_callback(loop: puff.Loop) -> None:
    got = loop.create_future()

    def callback() -> None:
        assert asyncio.current_task() is None
        got.set_result(loop.run_until_complete(later(4)))

    loop.call_soon(callback)
    assert loop.run_until_complete(got) == 4


def test_variables_of_the_caller_are_seen_and_kept(loop: puff.Loop) -> None:
    async def inner() -> str:
        seen = VAR.get()
        VAR.set("inner")
        return seen

    async def main() -> tuple[str, str]:
        VAR.set("main")
        return loop.run_until_complete(inner()), VAR.get()

    assert loop.run_until_complete(main()) == ("main", "main")
    assert VAR.get() == "unset"


def test_callback_in_the_callers_own_context_runs(loop: puff.Loop) -> None:
    """asyncio could not: "cannot enter context". A Jupyter kernel's cells all share one."""
    context = contextvars.copy_context()
    seen: list[str] = []

    def inner(done: asyncio.Future[None]) -> None:
        seen.append(VAR.get())
        VAR.set("inner")
        done.set_result(None)

    def outer() -> None:
        VAR.set("outer")
        done = loop.create_future()
        loop.call_soon(inner, done, context=context)
        loop.run_until_complete(done)
        seen.append(VAR.get())
        loop.stop()

    loop.call_soon(outer, context=context)
    loop.run_forever()
    assert seen == ["outer", "inner"]


def test_contexts_entered_by_hand_are_entered_again(loop: puff.Loop) -> None:
    async def main() -> None:
        a, b = contextvars.copy_context(), contextvars.copy_context()

        def inside() -> None:
            VAR.set("b")
            loop.run_until_complete(later(0))
            assert VAR.get() == "b"

        def between() -> None:
            VAR.set("a")
            b.run(inside)
            assert VAR.get() == "a"

        a.run(between)
        assert (a[VAR], b[VAR], VAR.get()) == ("a", "b", "unset")

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_run_inside_an_eager_task(loop: puff.Loop) -> None:
    async def eager() -> int:
        return loop.run_until_complete(later(5))

    async def main() -> int:
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(eager())
        assert task.done()
        return await task

    assert loop.run_until_complete(main()) == 5


# ---- exceptions, cancellation, stop() ------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError]
)
def test_exception_reaches_the_inner_caller(kind: type[BaseException], loop: puff.Loop) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise kind("inner")

    async def main() -> str:
        me = asyncio.current_task()
        with pytest.raises(kind):
            loop.run_until_complete(fails())
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        return "went on"

    assert loop.run_until_complete(main()) == "went on"


def test_outer_task_cancelled_meanwhile_learns_it_at_its_next_await(loop: puff.Loop) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me
        loop.call_soon(me.cancel)
        assert loop.run_until_complete(later(1)) == 1
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "cancelled"
        return "not"

    assert loop.run_until_complete(main()) == "cancelled"


def test_run_ends_although_one_above_it_ends_first(loop: puff.Loop) -> None:
    """Whose future is done while another run lies on top waits for that, and disturbs nobody."""
    first = loop.create_future()

    async def on_top() -> int:
        loop.call_soon(first.set_result, "first")
        await asyncio.sleep(0.005)
        return loop.run_until_complete(later(2))

    loop.create_task(on_top())
    inner: list[int] = []
    loop.call_soon(lambda: inner.append(loop.run_until_complete(on_top_again())))

    async def on_top_again() -> int:
        await first
        return await later(3)

    assert loop.run_until_complete(first) == "first"
    assert inner == [3]


def test_done_callbacks_added_before_have_run(loop: puff.Loop) -> None:
    async def main() -> bool:
        task = asyncio.create_task(later(1))
        called: list[object] = []
        task.add_done_callback(called.append)
        loop.run_until_complete(task)
        return bool(called)

    assert loop.run_until_complete(main())


def test_finished_future_is_answered_at_once(loop: puff.Loop) -> None:
    async def main() -> int:
        done = loop.create_future()
        done.set_result(6)
        return loop.run_until_complete(done)

    assert loop.run_until_complete(main()) == 6


def test_stop_ends_every_run_until_complete(loop: puff.Loop) -> None:
    async def main() -> None:
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            loop.run_until_complete(loop.create_future())
        await asyncio.sleep(10)

    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_stop_ends_only_the_innermost_run_forever(loop: puff.Loop) -> None:
    async def main() -> str:
        loop.call_soon(loop.stop)
        loop.run_forever()
        return "went on"

    assert loop.run_until_complete(main()) == "went on"


# ---- refusals ------------------------------------------------------------------------------------


def test_loop_that_was_not_asked_to_nest_refuses() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        coroutine = later(1)
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_until_complete(coroutine)
        coroutine.close()
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()
        coroutine = later(1)
        with pytest.raises(RuntimeError, match="from a running event loop"):
            puff.run(coroutine)
        coroutine.close()

    puff.run(main())


def test_another_loop_may_not_run_inside(loop: puff.Loop) -> None:
    async def main() -> None:
        other = puff.Loop(nested=True)
        coroutine = later(1)
        with pytest.raises(RuntimeError, match="while another loop is running"):
            other.run_until_complete(coroutine)
        coroutine.close()
        other.close()

    loop.run_until_complete(main())


def test_another_thread_may_not_run_it(loop: puff.Loop) -> None:
    async def main() -> None:
        coroutine = later(1)
        with pytest.raises(RuntimeError, match="already running"):
            await asyncio.to_thread(loop.run_until_complete, coroutine)
        coroutine.close()

    loop.run_until_complete(main())


def test_closed_loop_refuses_in_asyncios_words() -> None:
    loop = puff.Loop(nested=True)
    loop.close()
    coroutine = later(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(coroutine)
    coroutine.close()


def test_closing_inside_is_refused(loop: puff.Loop) -> None:
    async def closes() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    async def main() -> None:
        loop.run_until_complete(closes())

    loop.run_until_complete(main())


def test_protocols_method_may_not_turn_the_loop_that_polls(loop: puff.Loop) -> None:
    said: asyncio.Future[str] = loop.create_future()

    class Reads(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            coroutine = later(1)
            task = loop.create_task(coroutine)
            try:
                loop.run_until_complete(task)
            except RuntimeError as exc:
                said.set_result(str(exc))

    async def main() -> str:
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Reads, sock=ours)
        theirs.send(b"x")
        try:
            return await said
        finally:
            transport.close()
            theirs.close()
            await asyncio.sleep(0.01)

    assert "inside a protocol's method" in loop.run_until_complete(main())


def test_streams_work_in_inner_runs(loop: puff.Loop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        writer.write(loop.run_until_complete(upper(line)))
        writer.close()

    async def upper(line: bytes) -> bytes:
        await asyncio.sleep(0.001)
        return line.upper()

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        return answer

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            return loop.run_until_complete(ask(server.sockets[0].getsockname()[1]))

    assert loop.run_until_complete(main()) == b"HELLO\n"


# ---- the other ways to it ------------------------------------------------------------------------


def test_puff_run_inside_runs_on_the_loop_that_is_there(loop: puff.Loop) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def main() -> bool:
        return puff.run(where()) is loop

    assert loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="no policies")
def test_policy_and_factory_make_loops_that_nest() -> None:
    for make in (puff.Policy(nested=True).new_event_loop, lambda: puff.new_event_loop(nested=True)):
        loop = make()
        assert loop.nested
        loop.close()
    for make in (puff.Policy().new_event_loop, puff.new_event_loop):
        loop = make()
        assert not loop.nested
        loop.close()


NEST = """
import asyncio, sys, puff
import {module} as nest

async def later(value):
    await asyncio.sleep(0.001)
    return value

async def level(n):
    return n + (asyncio.run(level(n - 1)) if n else await later(0))

def patched(loop):
    return [getattr(type(loop), m) for m in ("run_forever", "run_until_complete", "_run_once")]

async def main():
    loop = asyncio.get_running_loop()
    assert type(loop).__module__ == "puff.policy", loop
    methods = patched(loop)
    nest.apply()
    assert loop.run_until_complete(later(1)) == 1
    assert asyncio.run(later(2)) == 2
    assert asyncio.get_event_loop().run_until_complete(level(10)) == 55
    task = asyncio.ensure_future(later(3))
    assert loop.run_until_complete(task) == 3
    assert await asyncio.gather(later(4), later(5)) == [4, 5]
    assert methods == patched(loop)

{start}
print("fine")
"""
STARTS: dict[str, str] = {
    "inside": "puff.run(main())",
    "policy": "puff.install(); asyncio.run(main())",
    "before": "puff.install(); asyncio.set_event_loop(asyncio.new_event_loop())\n"
    "nest.apply(); asyncio.run(main())",
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_nest_asyncio_finds_a_loop_that_nests(
    module: str, start: str, run_python: Callable[..., object] | RunPython
) -> None:
    pytest.importorskip(module)
    if module == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("it has ended, and does not work there on any loop")
    done = run_python(NEST.format(module=module, start=STARTS[start]))
    assert done.stdout == "fine\n"
    assert "Error" not in done.stderr
