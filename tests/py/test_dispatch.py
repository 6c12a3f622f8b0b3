"""Turns, contexts and the garbage collector's view of handles: side by side with asyncio's loop
where the two must be equal.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref

import pytest

import puff

MANY = 300  # more than are tracked at once


def run_ready(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


class Chain:
    """A callback that reschedules itself: the ready queue is never empty while it goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.n = loop, 0
        loop.call_soon(self.step)

    def step(self) -> None:
        self.n += 1
        if self.n > 2_000_000:
            self.loop.stop()  # a test that waits in vain ends
        else:
            self.loop.call_soon(self.step)


# ---- fairness: a poll may be left out, but nobody waits for it -----------------------------------


def test_io_is_served_soon_while_callbacks_reschedule_themselves(puff_loop) -> None:
    """Among 250 idle connections, one is active: its bytes are seen within 16 turns."""
    with contextlib.ExitStack() as stack:
        pairs = [[stack.enter_context(s) for s in socket.socketpair()] for _ in range(251)]
        chain = Chain(puff_loop)
        sent, waits = 0, []

        def on_readable() -> None:
            nonlocal sent
            pairs[0][0].recv(1)
            waits.append(chain.n - sent)
            puff_loop.call_later(0.001, send)  # the chain is quiet by then

        def send() -> None:
            nonlocal sent
            if len(waits) == 20:
                puff_loop.stop()
                return
            sent = chain.n
            pairs[0][1].send(b"x")

        for ours, _ in pairs:
            ours.setblocking(False)
            puff_loop.add_reader(ours, on_readable)
        puff_loop.call_later(0.005, send)
        puff_loop.run_forever()
        for ours, _ in pairs:
            puff_loop.remove_reader(ours)
    assert len(waits) == 20 and max(waits) <= 17


def test_a_slow_callback_does_not_keep_io_waiting_for_others(loop) -> None:
    """What arrives while a callback takes long is seen in the next turn but one at most."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    chain, seen = Chain(loop), []
    loop.add_reader(ours, lambda: (ours.recv(1), seen.append(chain.n)))

    def slow() -> None:
        theirs.send(b"x")
        sent.append(chain.n)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        loop.call_later(0.002, slow if len(sent) < 5 else loop.stop)

    sent: list[int] = []
    loop.call_later(0.005, slow)
    loop.run_forever()
    loop.remove_reader(ours)
    ours.close()
    theirs.close()
    assert len(seen) == 5
    assert all(got - begun <= 3 for got, begun in zip(seen, sent, strict=True))


def test_a_due_timer_runs_in_the_next_turn(loop) -> None:
    chain, late = Chain(loop), []

    def schedule() -> None:
        began = chain.n
        loop.call_later(0, lambda: late.append(chain.n - began))
        loop.call_at(loop.time() - 5, lambda: late.append(chain.n - began))
        loop.call_later(0.001, schedule if len(late) < 20 else loop.stop)

    loop.call_later(0.005, schedule)
    loop.run_forever()
    assert len(late) >= 20 and max(late) <= 1


def test_threads_and_signals_are_served_while_callbacks_reschedule_themselves(loop) -> None:
    Chain(loop)
    seen: list[str] = []
    done = threading.Event()

    def from_thread() -> None:
        loop.call_soon_threadsafe(seen.append, "thread")
        os.kill(os.getpid(), signal.SIGUSR1)
        done.wait(10)
        loop.call_soon_threadsafe(loop.stop)

    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("signal"), done.set()))
    thread = threading.Thread(target=from_thread)
    loop.call_later(0.005, thread.start)
    loop.run_forever()
    done.set()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert sorted(seen) == ["signal", "thread"]


def test_a_run_looks_for_io_at_least_once(loop) -> None:
    ours, theirs = socket.socketpair()
    seen = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
    for n in range(20):  # quiet runs
        run_ready(loop)
        assert len(seen) == n // 5
        if n % 5 == 4:
            theirs.send(b"x")
            run_ready(loop)
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_what_was_queued_before_a_run_runs_before_what_its_first_look_finds(loop) -> None:
    ours, theirs = socket.socketpair()
    seen = []

    class Hears(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append("data")

    transport, _ = loop.run_until_complete(loop.create_connection(Hears, sock=ours))
    loop.run_until_complete(asyncio.sleep(0))
    theirs.send(b"x")
    loop.call_soon(seen.append, "queued")
    run_ready(loop)
    run_ready(loop)
    assert seen == ["queued", "data"]
    transport.close()
    run_ready(loop)
    theirs.close()


def test_a_run_that_stops_at_once_serves_io_and_leaves_what_callbacks_queue(loop) -> None:
    ours, theirs = socket.socketpair()
    seen = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
    theirs.send(b"x")
    loop.call_soon(loop.call_soon, seen.append, "later")
    loop.call_soon(loop.call_soon, seen.append, "last")
    run_ready(loop)
    assert seen == [b"x"]
    run_ready(loop)
    assert seen == [b"x", "later", "last"]
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_threads_that_post_without_a_pause_leave_the_loop_its_turns(puff_loop) -> None:
    posted, ran, stop = [0], [0], threading.Event()

    def callback() -> None:
        ran[0] += 1

    def hammer() -> None:
        while not stop.is_set():
            puff_loop.call_soon_threadsafe(callback)
            posted[0] += 1

    async def main() -> int:
        behind = 0
        end = puff_loop.time() + 1
        while puff_loop.time() < end:
            await asyncio.sleep(0.005)
            behind = max(behind, posted[0] - ran[0])
        return behind

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert puff_loop.run_until_complete(main()) < 50_000
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("what", ["nothing", None, 3, "another loop", "asyncio's loop"])
def test_a_handles_loop_may_be_replaced(puff_loop, later, what, monkeypatch) -> None:
    # A slow callback is named by asyncio's repr(), which asks _loop.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    other = asyncio.SelectorEventLoop() if what == "asyncio's loop" else puff.new_event_loop()
    called: list[str] = []
    for cancel in (True, False):
        if later:
            handle = puff_loop.call_later(0.001, called.append, "called")
        else:
            handle = puff_loop.call_soon(called.append, "called")
        if what == "nothing":
            del handle._loop
        else:
            handle._loop = other if isinstance(what, str) else what
        if cancel:
            handle.cancel()
    puff_loop.run_until_complete(asyncio.sleep(0.01))
    assert called == ["called"]
    other.close()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="from 3.14 on")
def test_cancelling_a_threadsafe_handle_waits_for_its_callback(loop) -> None:
    started = threading.Event()
    seen = []

    def callback() -> None:
        started.set()
        time.sleep(0.05)
        seen.append("ran")
        loop.stop()

    def thread() -> None:
        handle = loop.call_soon_threadsafe(callback)
        started.wait()
        handle.cancel()
        seen.append("cancelled")

    each = threading.Thread(target=thread)
    each.start()
    loop.run_forever()
    each.join()
    assert seen == ["ran", "cancelled"]


def test_a_task_is_what_asyncio_tasks_says_when_it_is_made(loop, monkeypatch) -> None:
    class Mine(asyncio.tasks._PyTask):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Mine)

    async def nothing() -> None: ...

    task = loop.create_task(nothing())
    assert type(task) is Mine
    loop.run_until_complete(task)


# ---- short sleeps --------------------------------------------------------------------------------


def test_sleeps_below_a_millisecond_are_neither_early_nor_rounded_up(puff_loop) -> None:
    took = []

    async def main() -> None:
        for _ in range(200):
            began = time.perf_counter()
            await asyncio.sleep(0.0004)
            took.append(time.perf_counter() - began)

    puff_loop.run_until_complete(main())
    assert min(took) >= 0.0004
    assert sorted(took)[20] < 0.0008  # most are, on a machine that is not busy


def test_io_ends_a_short_sleep(puff_loop) -> None:
    ours, theirs = socket.socketpair()
    order: list[str] = []
    puff_loop.add_reader(ours, lambda: (ours.recv(1), order.append("io")))
    for _ in range(20):
        theirs.send(b"x")
        puff_loop.call_later(0.0015, lambda: (order.append("timer"), puff_loop.stop()))
        puff_loop.run_forever()
    puff_loop.remove_reader(ours)
    ours.close()
    theirs.close()
    assert order == ["io", "timer"] * 20


# ---- contexts ------------------------------------------------------------------------------------

var: contextvars.ContextVar[object] = contextvars.ContextVar("var", default=None)


def test_what_a_callback_sets_is_its_own(loop) -> None:
    seen = []

    def look_and_set(n: int) -> None:
        seen.append(var.get())
        var.set(n)
        seen.append(var.get())
        loop.call_soon(lambda: seen.append(("child", var.get())))

    var.set("outer")
    for n in range(3):
        loop.call_soon(look_and_set, n)
    var.set(None)
    run_ready(loop)
    run_ready(loop)
    assert seen[:6] == ["outer", 0, "outer", 1, "outer", 2]
    assert seen[6:] == [("child", 0), ("child", 1), ("child", 2)]


def test_a_token_belongs_to_one_callback(loop) -> None:
    tokens, refused = [], []

    def take_back() -> None:
        try:
            var.reset(tokens[0])
        except ValueError:
            refused.append(True)

    loop.call_soon(lambda: tokens.append(var.set(1)))
    loop.call_soon(take_back)
    run_ready(loop)
    assert refused == [True]


def test_a_kept_handle_shows_the_context_in_which_it_ran(loop) -> None:
    handle = loop.call_soon(var.set, "inner")
    timer = loop.call_later(0, var.set, "timer")
    context = handle._context
    assert isinstance(context, contextvars.Context) and context is handle._context
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert context[var] == "inner" and handle._context is context
    assert timer._context[var] == "timer"


def test_the_exception_handler_sees_the_failed_callbacks_context(loop) -> None:
    def fail() -> None:
        var.set("failed")
        raise ValueError

    handles = []
    loop.set_exception_handler(lambda _, context: handles.append(context["handle"]))
    loop.call_soon(fail)
    run_ready(loop)
    assert handles[0]._context[var] == "failed"


def test_values_of_a_context_end_with_the_callback(loop) -> None:
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    loop.call_soon(var.set, thing)
    del thing
    run_ready(loop)
    assert alive() is None


def test_a_given_context_is_used_itself(loop) -> None:
    context = contextvars.copy_context()
    loop.call_soon(var.set, "given", context=context)
    run_ready(loop)
    assert context[var] == "given" and var.get() is None


# ---- tasks and futures ---------------------------------------------------------------------------


def test_create_task_takes_what_asyncios_task_takes(loop) -> None:
    async def noop() -> None:
        pass

    async def main() -> None:
        assert loop.create_task(noop(), name="one").get_name() == "one"
        named = loop.create_task(coro=noop())
        assert isinstance(named, asyncio.Task) and named.get_loop() is loop
        coro = noop()
        for wrong in ((), (coro, 1)):
            with pytest.raises(TypeError):
                loop.create_task(*wrong)
        with pytest.raises(TypeError):
            loop.create_task(coro, nonsense=1)
        coro.close()
        with pytest.raises(TypeError):
            loop.create_task(5)
        assert loop.create_task(noop()).get_name().startswith("Task-")
        future = loop.create_future()
        assert isinstance(future, asyncio.Future) and future.get_loop() is loop
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_closed_loop_is_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        loop = puff.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        alive = weakref.ref(loop)
        del loop
        assert alive() is None
    finally:
        gc.enable()


# ---- the garbage collector -----------------------------------------------------------------------


class Holder:
    """Cycles through its handle: holder -> handle -> method or context -> holder."""

    def __init__(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        contextvars.copy_context().run(self.queue, loop, how)

    def queue(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        var.set(self)
        if how == "soon":
            self.handle = loop.call_soon(self.run)
        elif how == "threadsafe":
            self.handle = loop.call_soon_threadsafe(self.run)
        else:
            self.handle = loop.call_later(0 if how == "timer" else 60, self.run)

    def run(self) -> None:
        self.ran = True


@pytest.mark.parametrize("n", [1, MANY])
@pytest.mark.parametrize("how", ["soon", "threadsafe", "timer"])
def test_a_cycle_through_a_handle_that_ran_is_collected(loop, how, n) -> None:
    holders = [Holder(loop, how) for _ in range(n)]
    alive = [weakref.ref(h) for h in holders]
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert all(h.ran for h in holders)
    holders.clear()
    gc.collect()
    assert not any(ref() for ref in alive)


@pytest.mark.parametrize("n", [1, MANY])
@pytest.mark.parametrize("how", ["soon", "far timer"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_cycle_through_a_cancelled_handle_is_collected(loop, how, n, inside) -> None:
    alive = []

    def make() -> None:
        holders = [Holder(loop, how) for _ in range(n)]
        alive.extend(weakref.ref(h) for h in holders)
        for h in holders:
            h.handle.cancel()

    if inside:
        loop.call_soon(make)
    else:
        make()
    run_ready(loop)
    run_ready(loop)
    gc.collect()
    assert not any(ref() for ref in alive)


@pytest.mark.parametrize("how", ["soon", "far timer"])
@pytest.mark.parametrize("ran", [False, True])
def test_a_dropped_loop_is_collected_with_its_handles(how, ran) -> None:
    def leave_one() -> list[weakref.ref]:
        loop = puff.new_event_loop()
        if ran:
            loop.call_soon(lambda: alive.append(weakref.ref(Holder(loop, how))))
            loop.call_soon(loop.stop)
        alive = [weakref.ref(loop), weakref.ref(Holder(loop, how))]
        for _ in range(MANY):
            loop.call_soon(print, loop)
            loop.call_later(60, print, loop)
        if ran:
            loop.run_forever()
        return alive

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        alive = leave_one()
        gc.collect()
    assert not any(ref() for ref in alive)


def test_a_collection_in_the_middle_of_a_burst_takes_nothing_that_is_queued(loop) -> None:
    seen = []

    class Thing:
        def run(self, n: int) -> None:
            seen.append(n)
            if n % 50 == 0:
                gc.collect()

    for n in range(MANY):
        loop.call_soon(Thing().run, n)
        if n % 100 == 0:
            gc.collect()
    run_ready(loop)
    assert seen == list(range(MANY))


def test_a_weak_reference_to_a_queued_handle_may_cancel_it(loop) -> None:
    ran = []
    refs = [weakref.ref(loop.call_soon(ran.append, n)) for n in range(MANY)]
    loop.call_soon(lambda: [ref().cancel() for ref in refs[MANY // 2 :] if ref()])
    loop.call_soon(loop.stop)
    gc.collect()
    for ref in refs[:10]:
        ref().cancel()
    loop.run_forever()
    assert ran == list(range(10, MANY))
    assert not any(ref() for ref in refs)


def test_a_callback_that_drops_its_handle_survives_the_call(loop) -> None:
    """Cancelled from inside through a weak reference: the arguments outlive the call."""
    seen = []

    def run(arg: list) -> None:
        ref().cancel()
        gc.collect()
        seen.append(arg)

    ref = weakref.ref(loop.call_soon(run, [1]))
    run_ready(loop)
    assert seen == [[1]] and ref() is None
