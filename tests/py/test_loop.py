"""The loop does what asyncio's own loop does: each behaviour is tried on both, side by side."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import pytest

import puff


def run_ready(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def later(seconds: float, action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=lambda: (time.sleep(seconds), action()))
    thread.start()
    return thread


# ---- callbacks -----------------------------------------------------------------------------------


def test_callbacks_run_in_order_with_their_arguments(loop) -> None:
    seen = []
    for n in range(7):  # more than lie inline
        loop.call_soon(lambda *args: seen.append(args), *range(n))
    run_ready(loop)
    assert seen == [tuple(range(n)) for n in range(7)]


def test_a_callback_queued_by_a_callback_waits_for_the_next_turn(loop) -> None:
    seen = []
    loop.call_soon(lambda: (loop.call_soon(seen.append, "inner"), loop.stop()))
    loop.call_soon(seen.append, "outer")
    loop.run_forever()
    assert seen == ["outer"]
    run_ready(loop)
    assert seen == ["outer", "inner"]


def test_many_callbacks_keep_their_order(loop) -> None:
    seen = []
    for n in range(10_000):
        loop.call_soon(seen.append, n)
    run_ready(loop)
    assert seen == list(range(10_000))


def test_parameters_may_be_named(loop) -> None:
    seen = []
    loop.call_soon(callback=lambda: seen.append("soon"))
    loop.call_later(delay=0, callback=lambda: seen.append("later"))
    loop.call_at(when=loop.time(), callback=lambda: seen.append("at"))
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert sorted(seen) == ["at", "later", "soon"]


@pytest.mark.parametrize("args, kwargs", [((), {}), ((print,), {"nonsense": 1})])
def test_wrong_arguments_raise_type_error(loop, args, kwargs) -> None:
    for method in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(TypeError):
            method(*args, **kwargs)
    with pytest.raises(TypeError):
        loop.call_later(1, *args, **kwargs)
    with pytest.raises(TypeError):
        loop.call_later("soon", print)


def test_a_callback_runs_in_the_context_of_its_call(loop) -> None:
    var = contextvars.ContextVar("var", default=0)
    seen = []
    loop.call_soon(lambda: seen.append(var.get()))
    var.set(1)
    loop.call_soon(lambda: (seen.append(var.get()), var.set(7)))
    other = contextvars.copy_context()
    other.run(var.set, 2)
    loop.call_soon(lambda: seen.append(var.get()), context=other)
    loop.call_later(0, lambda: seen.append(var.get()), context=other)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2, 2]
    assert var.get() == 1


def test_a_handle_is_asyncios_and_shows_what_it_calls(loop) -> None:
    handle = loop.call_soon(print, "a", 2)
    timer = loop.call_later(60, print, 1, 2, 3, 4, 5)
    assert isinstance(handle, asyncio.Handle) and not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert repr(handle).startswith("<Handle print(")  # 3.13 shows arguments in debug mode only
    assert (handle._callback, handle._args, handle._cancelled) == (print, ("a", 2), False)
    assert timer._args == (1, 2, 3, 4, 5) and timer.when() > loop.time() + 50
    assert timer < loop.call_later(70, print)
    handle.cancel()
    timer.cancel()
    assert handle.cancelled() and handle._args is None
    assert repr(handle).startswith("<Handle cancelled")  # debug mode adds where it was made


def test_a_cancelled_callback_does_not_run(loop) -> None:
    seen = []
    second = loop.call_soon(lambda: None)
    loop.call_soon(lambda: (second.cancel(), third.cancel()))
    third = loop.call_soon(seen.append, "third")
    loop.call_later(0, seen.append, "timer").cancel()
    run_ready(loop)
    run_ready(loop)
    assert seen == []


def test_a_callback_may_cancel_its_own_handle_while_it_runs(loop) -> None:
    seen = []

    def callback(*args: object) -> None:
        handle.cancel()
        gc.collect()
        seen.append(args)

    handle = loop.call_soon(callback, object, "x" * 100, [1])
    run_ready(loop)
    assert seen == [(object, "x" * 100, [1])]


def test_an_exception_goes_to_the_handler_and_the_rest_runs(loop, errors) -> None:
    seen = []
    handle = loop.call_soon(lambda: 1 / 0)
    loop.call_soon(seen.append, "next")
    run_ready(loop)
    assert seen == ["next"]
    assert errors[0]["handle"] is handle and isinstance(errors[0]["exception"], ZeroDivisionError)
    assert errors[0]["message"].startswith("Exception in callback test_an_exception")


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_exit_leaves_run_forever_and_keeps_what_was_queued(loop, errors, exception) -> None:
    def leave() -> None:
        raise exception

    seen = []
    loop.call_soon(leave)
    loop.call_soon(seen.append, "kept")
    with pytest.raises(exception):
        loop.run_forever()
    assert not loop.is_running() and seen == [] and errors == []
    run_ready(loop)
    assert seen == ["kept"]


def test_handles_do_not_keep_their_callbacks(loop) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    alive = weakref.ref(thing)
    loop.call_soon(thing.method)
    loop.call_later(60, thing.method).cancel()
    del thing
    run_ready(loop)
    assert alive() is None


# ---- timers --------------------------------------------------------------------------------------


def test_timers_run_by_deadline(loop) -> None:
    seen = []
    base = loop.time() + 0.005
    for n in (3, 1, 2, 0):
        loop.call_at(base + n / 1000, seen.append, n)
    loop.call_at(base + 0.005, loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2, 3]


def test_equal_deadlines_run_in_call_order(puff_loop) -> None:
    seen = []
    when = puff_loop.time() + 0.002
    for n in range(200):
        puff_loop.call_at(when, seen.append, n)
    puff_loop.call_at(when + 0.001, puff_loop.stop)
    puff_loop.run_forever()
    assert seen == list(range(200))


def test_a_timer_is_never_early(puff_loop) -> None:
    early = []

    def check(when: float) -> None:
        if puff_loop.time() < when:
            early.append(when)

    for n in range(300):
        when = puff_loop.time() + n * 0.00007
        puff_loop.call_at(when, check, when)
    puff_loop.call_later(0.03, puff_loop.stop)
    puff_loop.run_forever()
    assert early == []


@pytest.mark.parametrize("delay", [float("inf"), 1e12])
def test_a_timer_may_be_far_away(loop, delay) -> None:
    timer = loop.call_later(delay, print)
    run_ready(loop)
    timer.cancel()


def test_a_past_deadline_runs_soon(loop) -> None:
    loop.call_at(-5, loop.stop)
    loop.run_forever()


def test_cancelled_timers_leave_at_once(puff_loop) -> None:
    timers = [puff_loop.call_later(60 + n % 7, print) for n in range(1000)]
    assert len(puff_loop._scheduled) == 1000
    for timer in timers[::-2]:
        timer.cancel()
    assert len(puff_loop._scheduled) == 500
    assert timers[0]._scheduled and not timers[-1]._scheduled


def test_scheduled_timers_are_seen_through_the_loop_alone_and_dropped_with_it() -> None:
    loop = puff.new_event_loop()
    refs = []
    for n in range(200):
        callback = type("Callback", (), {"__call__": print})()
        refs.append(weakref.ref(callback))
        loop.call_later(60 + n * 7 % 11, callback)
    del callback
    assert {type(timer) for timer in gc.get_referents(loop)} & {type(loop._scheduled[0])}
    loop.close()
    gc.collect()
    assert [ref for ref in refs if ref()] == []


@pytest.mark.parametrize("timers", [False, True])
def test_the_memory_of_a_burst_is_given_back_when_the_loop_sleeps(puff_loop, timers) -> None:
    def burst() -> None:
        for _ in range(50_000):
            puff_loop.call_later(0, int) if timers else puff_loop.call_soon(int)

    burst()
    puff_loop.run_until_complete(asyncio.sleep(0.001))  # the ring and the heap have grown
    tracemalloc.start()
    try:
        burst()
        at_most, _ = tracemalloc.get_traced_memory()
        puff_loop.run_until_complete(asyncio.sleep(0.001))
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < at_most / 10


def test_another_threads_timer_call_does_not_break_a_waiting_loop(puff_loop) -> None:
    seen = []
    puff_loop.set_debug(False)  # it would refuse that thread
    far = puff_loop.call_later(60, seen.append, "far")
    thread = later(0.02, lambda: (far.cancel(), puff_loop.call_later(0.01, puff_loop.stop)))
    puff_loop.run_forever()
    thread.join()
    assert seen == []


# ---- threads and signals -------------------------------------------------------------------------


def test_another_thread_wakes_the_loop(loop) -> None:
    thread = later(0.02, lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_later(20, loop.stop)
    began = time.monotonic()
    loop.run_forever()
    thread.join()
    assert time.monotonic() - began < 10


def test_calls_from_many_threads_all_arrive(loop) -> None:
    seen = []
    threads = [
        threading.Thread(
            target=lambda: [loop.call_soon_threadsafe(seen.append, n) for n in range(500)]
        )
        for _ in range(4)
    ]

    async def main() -> None:
        for thread in threads:
            thread.start()
        while len(seen) < 2000:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert sorted(seen) == sorted(list(range(500)) * 4)


def test_ctrl_c_ends_a_waiting_loop(loop) -> None:
    # A process that was started in the background ignores it.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = later(0.05, lambda: os.kill(os.getpid(), signal.SIGINT))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(20))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, old)
    assert time.monotonic() - began < 10


def test_a_python_signal_handler_runs_while_the_loop_waits(loop) -> None:
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda *_: seen.append(time.monotonic()))
    try:
        thread = later(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        began = time.monotonic()
        loop.run_until_complete(asyncio.sleep(0.3))
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert len(seen) == 1 and seen[0] - began < 0.25


def test_add_signal_handler(loop) -> None:
    async def main() -> None:
        got = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR2, got.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(got.wait(), 10)
        assert loop.remove_signal_handler(signal.SIGUSR2)
        assert not loop.remove_signal_handler(signal.SIGUSR2)

    loop.run_until_complete(main())


def test_the_wakeup_fd_of_others_is_put_back(puff_loop) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    old = signal.set_wakeup_fd(theirs.fileno())
    try:
        run_ready(puff_loop)
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
    finally:
        signal.set_wakeup_fd(old)
        ours.close()
        theirs.close()


def test_two_threads_run_two_loops() -> None:
    def run() -> None:
        all_alive.wait(30)  # a dead thread's number may be given again
        results.append(puff.run(asyncio.sleep(0.01, threading.get_ident())))

    results: list[int] = []
    all_alive = threading.Barrier(4)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 4


# ---- running and closing -------------------------------------------------------------------------


def test_stop_before_the_run_allows_one_turn(loop) -> None:
    seen = []
    loop.call_soon(lambda: (seen.append(1), loop.call_soon(seen.append, 2)))
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_the_running_loop_is_known_and_forgotten(loop) -> None:
    async def main() -> None:
        assert asyncio.get_running_loop() is loop and loop.is_running()
        if sys.version_info[:3] != (3, 13, 0) or isinstance(
            loop, puff.Loop
        ):  # asyncio's stopped then
            with pytest.raises(RuntimeError, match="already running"):
                loop.run_forever()
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        assert loop.is_running()

    loop.run_until_complete(main())
    assert not loop.is_running() and asyncio._get_running_loop() is None


def test_a_closed_loop_refuses(loop) -> None:
    loop.close()
    loop.close()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.run_forever(),
        lambda: loop.add_reader(0, print),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coroutine)
    coroutine.close()
    assert loop.is_closed() and "closed=True" in repr(loop)


def test_an_unclosed_loop_warns_and_is_collected() -> None:
    def leave_one() -> weakref.ref:
        loop = puff.new_event_loop()
        loop.call_soon(print, loop)
        loop.call_later(60, print, loop)
        loop.add_reader(loop._csock, print, loop)
        return weakref.ref(loop)

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        alive = leave_one()
        gc.collect()
    assert alive() is None


def test_closing_drops_timers_and_callbacks(loop) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    alive = weakref.ref(thing)
    loop.call_soon(thing.method)
    loop.call_later(60, thing.method)
    loop.close()
    del thing
    gc.collect()
    assert alive() is None


def test_a_loop_may_be_run_again(loop) -> None:
    for n in range(3):
        assert loop.run_until_complete(asyncio.sleep(0.001, n)) == n


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_fork_the_child_may_use_the_loop_and_the_parents_goes_on(loop) -> None:
    mine, theirs = socket.socketpair()
    mine.setblocking(False)
    loop.run_until_complete(asyncio.sleep(0))

    async def read() -> bytes:
        return await loop.sock_recv(mine, 10)

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if loop.run_until_complete(asyncio.sleep(0.001, "ok")) == "ok":
                code = 0
            loop.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    loop.call_later(0.01, theirs.send, b"still here")
    assert loop.run_until_complete(read()) == b"still here"
    mine.close()
    theirs.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_running_loop_may_run_its_own(loop) -> None:
    async def main() -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = puff.run(asyncio.sleep(0.001, 0))
            finally:
                os._exit(code)
        await asyncio.sleep(0.01)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert loop.run_until_complete(main()) == 0


# ---- debug mode ----------------------------------------------------------------------------------


def test_debug_mode_checks_callbacks_and_threads(loop) -> None:
    loop.set_debug(True)

    async def coroutine() -> None:
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.call_soon(coroutine)
    with pytest.raises(TypeError, match="callable"):
        loop.call_later(1, "not callable")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_soon, print)

    loop.run_until_complete(main())


def test_debug_mode_logs_slow_callbacks(loop, caplog) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(time.sleep, 0.02)
        run_ready(loop)
    assert "Executing <Handle sleep(0.02)" in caplog.text


def test_debug_mode_remembers_where_a_callback_came_from(loop, errors) -> None:
    loop.set_debug(True)
    loop.call_soon(lambda: 1 / 0)
    timer = loop.call_later(60, print)
    run_ready(loop)
    assert errors[0]["source_traceback"][-1].filename == __file__
    assert timer._source_traceback[-1].line == "timer = loop.call_later(60, print)"
    assert f"created at {__file__}" in repr(timer)


# ---- descriptors ---------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    yield a, b
    a.close()
    b.close()


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**63, 2**100])
def test_a_number_that_no_descriptor_has_is_not_watched(loop, number) -> None:
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False


def test_a_reader_is_told_until_it_is_removed(loop, pair) -> None:
    mine, theirs = pair
    seen = []

    def on_readable(tag: str) -> None:
        seen.append((tag, mine.recv(1)))
        if len(seen) == 3:
            assert loop.remove_reader(mine)
            assert not loop.remove_reader(mine)
            loop.stop()

    theirs.send(b"abcd")
    loop.add_reader(mine, on_readable, "x")
    loop.run_forever()
    run_ready(loop)
    assert seen == [("x", b"a"), ("x", b"b"), ("x", b"c")]


def test_a_new_reader_takes_the_place_of_the_old(loop, pair) -> None:
    mine, theirs = pair
    seen = []
    theirs.send(b"x")
    loop.add_reader(mine, seen.append, "old")
    loop.add_reader(mine.fileno(), lambda: (seen.append("new"), loop.stop()))
    loop.run_forever()
    loop.remove_reader(mine)
    assert seen == ["new"]


def test_reader_and_writer_of_one_descriptor(loop, pair) -> None:
    mine, theirs = pair
    seen = set()

    def note(what: str) -> None:
        seen.add(what)
        if seen == {"r", "w"}:
            loop.stop()

    loop.add_writer(mine, note, "w")
    loop.add_reader(mine, note, "r")
    theirs.send(b"x")
    loop.run_forever()
    assert loop.remove_writer(mine) and loop.remove_reader(mine)
    assert not loop.remove_writer(mine)


def test_a_descriptors_blocking_mode_is_left_alone(loop) -> None:
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, print)
        assert os.get_blocking(a.fileno())
        loop.remove_reader(a)


def test_a_hang_up_is_readable(loop, pair) -> None:
    mine, theirs = pair
    loop.add_reader(mine, loop.stop)
    theirs.close()
    loop.run_forever()
    assert mine.recv(1) == b""
    loop.remove_reader(mine)


def test_a_refused_connection_is_an_error_of_sock_connect(loop) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            loop.run_until_complete(loop.sock_connect(sock, address))


def test_a_regular_file_cannot_be_watched(loop, tmp_path) -> None:
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_reader(object(), print)


def test_a_reused_descriptor_number_can_be_watched(loop) -> None:
    for _ in range(3):
        a, b = socket.socketpair()
        loop.add_reader(a, loop.stop)
        b.send(b"x")
        loop.run_forever()
        loop.remove_reader(a)
        a.close()
        b.close()


def test_a_descriptor_closed_while_watched_does_not_abort(puff_loop) -> None:
    a, b = socket.socketpair()
    number = a.fileno()
    puff_loop.add_reader(a, print)
    run_ready(puff_loop)
    a.close()
    c, d = socket.socketpair()  # takes the number
    try:
        assert number in (c.fileno(), d.fileno())
        puff_loop.add_writer(number, puff_loop.stop)
        puff_loop.call_later(5, puff_loop.stop)
        puff_loop.run_forever()
        puff_loop.remove_writer(number)
        puff_loop.remove_reader(number)
    finally:
        for sock in (b, c, d):
            sock.close()


# ---- tasks, executors, names ---------------------------------------------------------------------


def test_a_task_factory_gets_the_given_keywords(loop) -> None:
    seen = []

    def factory(loop, coro, **kwargs):
        seen.append(set(kwargs))
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main() -> None:
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        await loop.create_task(asyncio.sleep(0))
        loop.set_task_factory(None)
        task = loop.create_task(asyncio.sleep(0), name="named")
        assert task.get_name() == "named"
        await task

    loop.run_until_complete(main())
    assert len(seen) == 1 and "nonsense" not in seen[0]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="from 3.12 on")
def test_eager_tasks(loop) -> None:
    async def at_once() -> int:
        return 42

    async def main() -> int:
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(at_once())
        assert task.done()
        return task.result()

    assert loop.run_until_complete(main()) == 42


def test_executors_and_names(loop) -> None:
    async def main() -> None:
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        infos = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert infos[0][4] == ("127.0.0.1", 80)
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_abandoned_async_generators_are_closed(loop) -> None:
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main() -> None:
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0.001)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    assert closed == [True]


def test_a_subprocess(loop) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(b"through a pipe\n")
        assert out == b"through a pipe\n" and process.returncode == 0

    asyncio.set_event_loop(loop)  # 3.10's and 3.11's child watchers
    try:
        loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)


def test_a_subprocess_starts_no_thread(puff_loop) -> None:
    async def main() -> None:
        before = threading.active_count()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=subprocess.PIPE
        )
        assert threading.active_count() == before
        await process.communicate(b"\n")
        assert process.returncode == 0

    puff_loop.run_until_complete(main())


def test_many_subprocesses_in_many_threads() -> None:
    async def spawn(code: int) -> int:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {code}")
        return await process.wait()

    async def main() -> list[int]:
        return await asyncio.gather(*map(spawn, range(8)))

    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(puff.run(main()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(8))] * 4


# ---- choosing the loop ---------------------------------------------------------------------------


async def running() -> type:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop())


def test_run() -> None:
    assert puff.run(running()) is puff.Loop
    assert puff.run(asyncio.sleep(0, "result"), debug=True) == "result"
    with pytest.raises(ZeroDivisionError):
        puff.run(fails())


async def fails() -> None:
    raise ZeroDivisionError


def test_run_inside_a_running_loop_is_refused() -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running event loop"):
            puff.run(coroutine)
        coroutine.close()

    puff.run(main())


def test_run_cancels_what_is_left() -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)

    async def main() -> None:
        main.task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)

    puff.run(main())
    assert cancelled == [True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_and_install() -> None:
    try:
        asyncio.set_event_loop_policy(puff.Policy())
        assert asyncio.run(running()) is puff.Loop
        asyncio.set_event_loop_policy(None)
        puff.install()
        assert isinstance(asyncio.get_event_loop_policy(), puff.Policy)
    finally:
        asyncio.set_event_loop_policy(None)


@pytest.mark.skipif(not hasattr(asyncio, "Runner"), reason="from 3.11 on")
def test_runner() -> None:
    with asyncio.Runner(loop_factory=puff.new_event_loop) as runner:
        assert runner.run(running()) is puff.Loop


def test_importing_puff_imports_neither_asyncio_nor_a_policy() -> None:
    code = "import puff, sys; print('asyncio' in sys.modules, 'Policy' in vars(puff))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.split() == ["False", "False"]
    assert "Policy" in dir(puff)


def test_a_loop_left_open_at_exit_says_nothing() -> None:
    code = (
        "import asyncio, puff; loop = puff.new_event_loop(); "
        "loop.call_later(9, print, loop); asyncio.x = loop"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")
