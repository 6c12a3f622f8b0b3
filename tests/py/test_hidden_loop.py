"""While a greenlet runs there is no running loop; after each switch it is right again."""

from __future__ import annotations

import asyncio
import gc
import io
import pdb
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import greenlet
import pytest

import puff

BOUND_S = 20.0


def hidden() -> bool:
    """Sync code: neither function tells of a loop."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    return asyncio._get_running_loop() is None


def shown() -> bool:
    return isinstance(asyncio.get_running_loop(), puff.Loop)


async def echo(value: Any = None) -> Any:
    assert shown()
    await asyncio.sleep(0)
    assert shown()
    return value


async def fail() -> None:
    await asyncio.sleep(0)
    raise KeyError("fail")


def switches() -> list[tuple[str, Callable[[], Any]]]:
    """Each way for sync code to leave its greenlet and to come back."""
    return [
        ("sleep", lambda: puff.sleep_ms(0)),
        ("await", lambda: puff.await_(echo())),
        ("await what is done", lambda: puff.await_(_nothing())),
        ("join", lambda: puff.spawn(hidden).join()),
        ("join_all", lambda: puff.join_all([puff.spawn(hidden), puff.spawn(hidden)])),
        ("thread", lambda: puff.spawn_blocking(hidden).join()),
        ("lock", lambda: puff.Lock().acquire()),
        ("to_greenlet", lambda: puff.to_greenlet(hidden)),
    ]


async def _nothing() -> None:
    assert shown()


each_switch = pytest.mark.parametrize(
    "switch", [switch for _, switch in switches()], ids=[name for name, _ in switches()]
)
WAYS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "spawn": lambda f: puff.spawn(f).join(),
    "to_greenlet": lambda f: puff.to_greenlet(f),
    "in a task": lambda f: asyncio.create_task(_run(f)),
}
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


async def _run(f: Callable[[], Any]) -> Any:
    return await puff.to_greenlet(f)


# ---- plainly -------------------------------------------------------------------------------------


@each_way
@each_switch
def test_hidden_in_a_greenlet_and_shown_in_the_coroutine(way: Any, switch: Any) -> None:
    def sync_code() -> str:
        assert hidden()
        for _ in range(3):
            switch()
            assert hidden()
        return "done"

    async def main() -> None:
        for _ in range(3):
            assert shown()
            assert await way(sync_code) == "done"
            assert shown()

    puff.run(main())
    assert asyncio._get_running_loop() is None


@each_way
@each_switch
def test_after_an_exception(way: Any, switch: Any) -> None:
    def sync_code() -> None:
        try:
            puff.await_(fail())
        except KeyError:
            assert hidden()
            switch()
            assert hidden()
        try:
            raise ValueError
        except ValueError:
            switch()
            assert hidden()
        switch()
        raise ZeroDivisionError

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await way(sync_code)
            assert shown()
            try:
                raise LookupError
            except LookupError:
                with pytest.raises(ZeroDivisionError):
                    await way(sync_code)
                assert shown()

    puff.run(main())


@each_way
def test_after_a_kill_and_a_cancellation(way: Any) -> None:
    seen = []

    def sync_code() -> None:
        try:
            puff.sleep_ms(60_000)
        finally:
            seen.append(hidden())
            puff.sleep_ms(0)
            seen.append(hidden())

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(way(sync_code), 0.01)
        assert shown()
        g = puff.spawn(sync_code)
        await asyncio.sleep(0)
        g.kill()
        await g.join()
        assert shown()

    puff.run(main())
    assert all(seen)
    assert len(seen) >= 2


@each_way
@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt])
def test_after_an_exit(way: Any, exit_: type[BaseException]) -> None:
    def sync_code() -> None:
        puff.sleep_ms(0)
        raise exit_

    async def main() -> None:
        try:
            await way(sync_code)
        except exit_:  # who joins gets it too, as who awaits a Task does
            assert shown()

    loop = puff.new_event_loop()
    with pytest.raises(exit_):
        loop.run_until_complete(asyncio.wait([loop.create_task(main())]))
        loop.run_until_complete(asyncio.sleep(0.1))  # to_greenlet() itself: a coroutine caught it
        raise exit_
    assert asyncio._get_running_loop() is None
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(echo())
    loop.close()


def test_many_in_turn() -> None:
    def sync_code(n: int) -> int:
        for _ in range(n % 7):
            assert hidden()
            puff.sleep_ms(n % 3)
        assert hidden()
        return puff.await_(echo(n))  # type: ignore[no-any-return]

    async def ours(n: int) -> int:
        for _ in range(n % 5):
            assert shown()
            await asyncio.sleep(0)
        assert shown()
        return n

    async def main() -> None:
        spawned = [puff.spawn(sync_code, n) for n in range(50)]
        bridged = [asyncio.create_task(puff.to_greenlet(sync_code, n)) for n in range(50)]
        tasks = [asyncio.create_task(ours(n)) for n in range(50)]
        assert await asyncio.gather(*bridged, *tasks) == [*range(50), *range(50)]
        assert await puff.join_all(spawned) == list(range(50))

    puff.run(main())


# ---- nested --------------------------------------------------------------------------------------


def test_sync_in_async_in_sync_in_async() -> None:
    def down(depth: int) -> int:
        assert hidden()
        deeper: int = puff.await_(up(depth - 1)) if depth else 0
        assert hidden()
        return deeper + 1

    async def up(depth: int) -> int:
        assert shown()
        deeper: int = await puff.to_greenlet(down, depth)
        assert shown()
        return deeper

    async def main() -> None:
        assert await up(20) == 21
        assert await puff.spawn(down, 20).join() == 21

    puff.run(main())


def test_a_greenlet_that_spawns_greenlets() -> None:
    def spawns(depth: int) -> int:
        assert hidden()
        below = [puff.spawn(spawns, depth - 1) for _ in range(2)] if depth else []
        assert hidden()
        total = sum(each.join() for each in below)
        assert hidden()
        return total + 1

    async def main() -> None:
        assert await puff.spawn(spawns, 4).join() == 31
        assert shown()

    puff.run(main())


def test_another_loop_that_runs_inside_a_greenlet() -> None:
    """asyncio.run() is sync code: there is no running loop that it would have to refuse."""

    async def inner() -> str:
        assert not isinstance(asyncio.get_running_loop(), puff.Loop)
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__name__

    def sync_code() -> str:
        loop = asyncio.SelectorEventLoop()
        try:
            name = loop.run_until_complete(inner())
        finally:
            loop.close()
        assert hidden()
        puff.sleep_ms(0)
        assert hidden()
        return name

    async def main() -> None:
        task = asyncio.current_task()
        assert "Selector" in await puff.to_greenlet(sync_code)
        assert shown() and asyncio.current_task() is task
        assert "Selector" in await puff.spawn(sync_code).join()
        assert shown()

    puff.run(main())


def test_a_run_inside_a_run() -> None:
    loop = puff.new_event_loop(nested=True)

    def sync_code() -> bool:
        puff.sleep_ms(0)
        return hidden()

    async def inner() -> bool:
        found: bool = await puff.to_greenlet(sync_code)
        return found and shown()

    async def main() -> None:
        assert loop.run_until_complete(inner())
        assert shown()
        assert await puff.spawn(sync_code).join()
        assert shown()

    loop.run_until_complete(main())
    loop.close()


def test_a_loop_in_each_of_two_threads() -> None:
    def sync_code(n: int) -> bool:
        for _ in range(n):
            puff.sleep_ms(0)
            assert hidden()
        return True

    async def main() -> None:
        mine = asyncio.get_running_loop()
        for _ in range(20):
            assert all(await puff.join_all([puff.spawn(sync_code, n) for n in range(5)]))
            assert asyncio.get_running_loop() is mine

    failures: list[BaseException] = []

    def run() -> None:
        try:
            puff.run(main())
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert not failures


# ---- greenlets of the user's own -----------------------------------------------------------------


def test_a_raw_greenlet_sees_what_its_maker_sees() -> None:
    def raw() -> str:
        return "hidden" if asyncio._get_running_loop() is None else "shown"

    def sync_code() -> str:
        found: str = greenlet.greenlet(raw).switch()
        assert hidden()
        return found

    async def main() -> None:
        assert greenlet.greenlet(raw).switch() == "shown"
        assert shown()
        assert await puff.to_greenlet(sync_code) == "hidden"
        assert await puff.spawn(sync_code).join() == "hidden"
        assert shown()

    puff.run(main())


def test_a_raw_greenlet_in_a_greenlet_may_wait_and_switch_back_and_forth() -> None:
    seen = []

    def raw(home: greenlet.greenlet) -> str:
        for n in range(3):
            seen.append(hidden())
            puff.sleep_ms(n)
            seen.append(hidden())
            home.switch(n)
        return "end"

    def sync_code() -> list[Any]:
        other = greenlet.greenlet(raw)
        got = [other.switch(greenlet.getcurrent())]
        while not other.dead:
            assert hidden()
            puff.sleep_ms(0)
            assert hidden()
            got.append(other.switch())
        return got

    async def main() -> None:
        assert await puff.to_greenlet(sync_code) == [0, 1, 2, "end"]
        assert await puff.spawn(sync_code).join() == [0, 1, 2, "end"]
        assert shown()

    puff.run(main())
    assert seen == [True] * 12


def test_a_greenlets_tracer_is_called_in_the_middle_of_switches() -> None:
    events = []

    def tracer(event: str, _: Any) -> None:
        events.append(event)

    def sync_code() -> bool:
        puff.sleep_ms(0)
        return hidden()

    async def main() -> None:
        before = greenlet.settrace(tracer)
        try:
            assert await puff.spawn(sync_code).join()
            assert shown()
            assert await puff.to_greenlet(sync_code)
            assert shown()
        finally:
            greenlet.settrace(before)

    puff.run(main())
    assert "switch" in events


# ---- generators ----------------------------------------------------------------------------------


def states() -> Iterator[str]:
    while True:
        yield "hidden" if asyncio._get_running_loop() is None else "shown"


def test_a_generator_sees_what_its_caller_sees() -> None:
    generator = states()

    def sync_code() -> str:
        first = next(generator)
        puff.sleep_ms(0)
        assert next(generator) == first
        return first

    async def main() -> None:
        assert next(generator) == "shown"
        assert await puff.to_greenlet(sync_code) == "hidden"
        assert next(generator) == "shown"
        assert await puff.spawn(sync_code).join() == "hidden"
        assert next(generator) == "shown"

    puff.run(main())


def test_a_generator_that_waits_inside_and_is_resumed_by_another_greenlet() -> None:
    def waits() -> Iterator[int]:
        for n in range(4):
            assert hidden()
            puff.sleep_ms(0)
            assert hidden()
            yield n

    async def main() -> None:
        generator = waits()
        got = [await puff.spawn(next, generator).join(), await puff.to_greenlet(next, generator)]
        got += await puff.to_greenlet(list, generator)
        assert got == [0, 1, 2, 3]
        assert shown()

    puff.run(main())


def test_an_async_generator_across() -> None:
    seen = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for n in range(3):
                assert shown()
                seen.append(await puff.to_greenlet(hidden))
                yield n
        finally:
            assert shown()
            seen.append(await puff.to_greenlet(hidden))

    def sync_code() -> list[int]:
        async def collect() -> list[int]:
            return [n async for n in numbers()]

        found: list[int] = puff.await_(collect())
        assert hidden()
        return found

    async def main() -> None:
        assert [n async for n in numbers()] == [0, 1, 2]
        assert await puff.to_greenlet(sync_code) == [0, 1, 2]
        async for _ in numbers():
            break  # it is closed by the loop, later
        gc.collect()
        await asyncio.sleep(0.01)
        assert shown()

    puff.run(main())
    assert seen
    assert all(seen)


def test_an_async_generator_that_a_greenlet_drops_is_closed_by_the_loop() -> None:
    closed = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            assert shown()
            closed.set()

    def sync_code() -> int:
        generator = numbers()
        first: int = puff.await_(generator.__anext__())
        del generator
        gc.collect()
        assert hidden()
        return first

    async def main() -> None:
        assert await puff.to_greenlet(sync_code) == 1
        await asyncio.wait_for(closed.wait(), BOUND_S)

    puff.run(main())


# ---- debuggers, profilers, signals, debug mode ---------------------------------------------------


def looked_at() -> tuple[Callable[[], bool], Callable[[], Any]]:
    """Sync code and a coroutine that a tracer is to look at; each line of them counts."""

    def in_greenlet() -> bool:
        x = 1
        puff.sleep_ms(0)
        x += 1
        puff.await_(echo())
        x += 1
        return hidden()

    async def in_coroutine() -> bool:
        x = 1
        found = await puff.to_greenlet(in_greenlet)
        x += 1
        found = found and await puff.spawn(in_greenlet).join()
        x += 1
        await asyncio.sleep(0)
        return found and shown()

    return in_greenlet, in_coroutine


class Look:
    """Of a tracer: whether a loop was running at each event of the two functions."""

    def __init__(self) -> None:
        self.at: dict[str, set[bool]] = {}
        self.n_events = 0

    def __call__(self, frame: Any, event: str, arg: Any) -> Look:
        self.note(frame.f_code.co_name)
        return self

    def note(self, name: str) -> None:
        if name in ("in_greenlet", "in_coroutine"):
            self.n_events += 1
            self.at.setdefault(name, set()).add(asyncio._get_running_loop() is not None)


def assert_right(look: Look, at_least: int) -> None:
    assert look.at == {"in_greenlet": {False}, "in_coroutine": {True}}
    assert look.n_events >= at_least


@pytest.mark.parametrize("install", [sys.settrace, sys.setprofile])
@pytest.mark.parametrize("inside", [False, True], ids=["around the run", "in the coroutine"])
def test_a_tracer_sees_the_same(install: Any, inside: bool) -> None:
    look = Look()
    _, in_coroutine = looked_at()

    async def main() -> None:
        if inside:
            install(look)
        assert await asyncio.create_task(in_coroutine())

    before = sys.gettrace() if install is sys.settrace else sys.getprofile()
    try:
        if not inside:
            install(look)
        puff.run(main())
    finally:
        install(before)
    if not inside:
        assert_right(look, 12 if install is sys.settrace else 6)
    else:  # greenlets that exist already have tracers of their own, or none
        assert look.at.get("in_greenlet", {False}) == {False}
        assert look.at["in_coroutine"] == {True}


def test_a_tracer_that_raises_ends_the_greenlet_only() -> None:
    in_greenlet, _ = looked_at()

    def tracer(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code is in_greenlet.__code__ and event == "line" and frame.f_locals.get("x"):
            raise ZeroDivisionError
        return tracer

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await puff.to_greenlet(in_greenlet)
        assert shown()

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        puff.run(main())
    finally:
        sys.settrace(before)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_monitoring_sees_the_same() -> None:
    look = Look()
    in_greenlet, in_coroutine = looked_at()
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    events = monitoring.events.LINE | monitoring.events.PY_START | monitoring.events.PY_RESUME
    tool = monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, "test")
    try:
        for event in (monitoring.events.LINE, monitoring.events.PY_START):
            monitoring.register_callback(tool, event, lambda code, _: look.note(code.co_name))
        for f in (in_greenlet, in_coroutine):
            monitoring.set_local_events(tool, f.__code__, events)
        assert puff.run(in_coroutine())
    finally:
        monitoring.free_tool_id(tool)
    assert_right(look, 12)


def test_a_debugger_that_stops_in_a_greenlet() -> None:
    answers = io.StringIO()
    commands = "p asyncio._get_running_loop()\nnext\np asyncio._get_running_loop()\ncontinue\n"
    debugger = pdb.Pdb(stdin=io.StringIO(commands), stdout=answers, nosigint=True, readrc=False)

    def sync_code() -> bool:
        debugger.set_trace()
        puff.sleep_ms(0)
        return hidden()

    async def main() -> None:
        assert await puff.to_greenlet(sync_code)
        assert shown()

    before = sys.gettrace()
    try:
        puff.run(main())
    finally:
        sys.settrace(before)
    printed = [line for line in answers.getvalue().splitlines() if "None" in line]
    assert len(printed) == 2, answers.getvalue()


def test_a_signal_handler_sees_what_it_interrupts() -> None:
    seen = []

    def on_signal(*_: Any) -> None:
        seen.append(asyncio._get_running_loop() is None)

    def sync_code() -> None:
        signal.raise_signal(signal.SIGUSR1)
        assert hidden()
        puff.sleep_ms(0)
        signal.raise_signal(signal.SIGUSR1)
        assert hidden()

    async def main() -> None:
        await puff.to_greenlet(sync_code)
        signal.raise_signal(signal.SIGUSR1)
        assert shown()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        puff.run(main())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [True, True, False]


@each_way
def test_in_debug_mode(way: Any) -> None:
    def sync_code() -> bool:
        puff.sleep_ms(0)
        puff.await_(echo())
        return hidden()

    async def main() -> None:
        assert await way(sync_code)
        assert shown()

    puff.run(main(), debug=True)


@each_way
def test_in_debug_mode_without_a_python_frame(way: Any) -> None:
    """asyncio notes where each Future and each handle was made."""

    async def main() -> None:
        assert await way(partial(puff.sleep_ms, 1)) is None
        assert await way(partial(puff.await_, echo(5))) == 5
        assert await way(partial(next, iter([6]))) == 6

    puff.run(main(), debug=True)


def test_a_destructor_sees_where_it_runs() -> None:
    seen = []

    class Dying:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            seen.append((self.name, asyncio._get_running_loop() is None))

    def sync_code() -> None:
        Dying("greenlet")
        puff.sleep_ms(0)
        Dying("greenlet")

    async def main() -> None:
        Dying("coroutine")
        await puff.to_greenlet(sync_code)
        Dying("coroutine")

    puff.run(main())
    assert seen == [("coroutine", False), *[("greenlet", True)] * 2, ("coroutine", False)]


def test_a_greenlet_that_is_parked_when_its_loop_closes_sees_no_loop() -> None:
    seen = []

    def sync_code() -> None:
        try:
            puff.sleep_ms(60_000)
        finally:
            seen.append(hidden())

    async def main() -> None:
        puff.spawn(sync_code)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    puff.run(main())
    assert seen == [True]
    assert asyncio._get_running_loop() is None
