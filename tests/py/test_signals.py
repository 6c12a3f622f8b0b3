"""Signals and interrupts: what asyncio's loop does with them, ours does at any point of a turn."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

LIMIT_S = 30


def run_for(loop: asyncio.AbstractEventLoop, done: list[object]) -> None:
    """Runs until something has been done, or fails."""

    async def main() -> None:
        while not done:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), LIMIT_S))


# ---- add_signal_handler --------------------------------------------------------------------------


def test_a_handler_runs_on_the_loop_with_its_arguments(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "word")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen == []
    run_for(loop, seen)
    assert seen == ["word"]


def test_a_signal_between_two_runs_is_handled_in_the_second(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen: list[object] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.run_until_complete(asyncio.sleep(0))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen == []
    run_for(loop, seen)
    loop.run_until_complete(asyncio.sleep(0))
    os.kill(os.getpid(), signal.SIGUSR1)
    seen.clear()
    run_for(loop, seen)


def test_a_handler_may_be_replaced_and_removed(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "new")
    os.kill(os.getpid(), signal.SIGUSR1)
    run_for(loop, seen)
    assert seen == ["new"]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_handler_may_remove_itself(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: seen.append(loop.remove_signal_handler(signal.SIGUSR1))
    )
    os.kill(os.getpid(), signal.SIGUSR1)
    run_for(loop, seen)
    assert seen == [True]


def test_removing_one_handler_leaves_the_others(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []

    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        loop.add_signal_handler(signal.SIGUSR2, seen.append, 2)
        loop.remove_signal_handler(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)

    loop.run_until_complete(main())
    run_for(loop, seen)
    assert seen == [2]


def test_a_handler_is_still_there_in_another_run(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []

    async def add() -> None:
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    loop.run_until_complete(add())
    for n in (1, 2, 3):
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        while len(seen) < n:
            loop.run_until_complete(asyncio.sleep(0.001))


def test_closing_the_loop_gives_the_signals_back(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_a_closed_loop_leaves_no_wakeup_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    """Its number would be the next file's, and signals would be written there."""
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(asyncio.sleep(0))  # keeps the descriptor for signals between two runs

    async def remove() -> None:
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(remove())
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_wakeup_descriptor_that_is_closed_while_the_loop_runs(
    loop: asyncio.AbstractEventLoop,
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    async def main() -> None:
        os.close(reader)
        os.close(writer)

    try:
        loop.run_until_complete(main())
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        signal.set_wakeup_fd(-1)


def test_wrong_arguments_are_asyncios_errors(loop: asyncio.AbstractEventLoop) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.add_signal_handler(1000, print)
    with pytest.raises((RuntimeError, OSError)):
        loop.add_signal_handler(signal.SIGKILL, print)
    with pytest.raises(TypeError):
        loop.add_signal_handler("SIGUSR1", print)  # type: ignore[arg-type]


def test_the_loop_of_another_thread_has_no_signals(loop: asyncio.AbstractEventLoop) -> None:
    errors: list[BaseException] = []

    def thread() -> None:
        async def main() -> None:
            try:
                loop.add_signal_handler(signal.SIGUSR1, print)
            except RuntimeError as exc:
                errors.append(exc)

        loop.run_until_complete(main())

    each = threading.Thread(target=thread)
    each.start()
    each.join(LIMIT_S)
    assert "main thread" in str(errors[0])
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_burst_of_signals_loses_none_of_their_kinds(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    kinds = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM]
    for kind in kinds:
        loop.add_signal_handler(kind, seen.append, kind)

    async def main() -> None:
        for _ in range(50):
            for kind in kinds:
                os.kill(os.getpid(), kind)
        while set(seen) != set(kinds):
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), LIMIT_S))


# ---- KeyboardInterrupt ---------------------------------------------------------------------------

PRELUDE = """
import asyncio, os, signal, socket, sys, threading
import puff
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

# What a loop may be doing when somebody presses Ctrl-C.
BUSY = {
    "waiting": "await asyncio.sleep(100)",
    "callbacks": "while True: await asyncio.sleep(0)",
    "timers": """
        loop = asyncio.get_running_loop()
        def again(): loop.call_later(0.0001, again)
        for _ in range(5): again()
        await asyncio.sleep(100)""",
    "core callbacks": """
        loop = asyncio.get_running_loop()
        class Echo(asyncio.Protocol):
            def connection_made(self, transport): self.transport = transport
            def data_received(self, data): self.transport.write(data)
        left, right = socket.socketpair()
        a, _ = await loop.create_connection(Echo, sock=left)
        b, _ = await loop.create_connection(Echo, sock=right)
        a.write(b"ball")
        await asyncio.sleep(100)""",
    "children": """
        while True:
            process = await asyncio.create_subprocess_exec("true", stdout=-1)
            await process.communicate()""",
    "threads": """
        loop = asyncio.get_running_loop()
        while True: await loop.run_in_executor(None, int)""",
}

# Of these, what does not survive a KeyboardInterrupt at any point, on any loop (see below).
FRAGILE = {"children", "threads"}

INTERRUPTED = (
    PRELUDE
    + """
async def main():
    print("ready", flush=True)
    {busy}
try:
    {run}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
)


def program(busy: str, run: str) -> str:
    def block(code: str) -> str:
        return textwrap.indent(textwrap.dedent(code), "    ").strip()

    return INTERRUPTED.format(busy=block(busy), run=block(run))


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, start_new_session=True
    )


def interrupt(
    process: subprocess.Popen[str], after_s: float, excuses: tuple[bytes, ...] = ()
) -> tuple[str, str]:
    """Ctrl-C once it says that it is ready; what it has said until its end.

    Once is enough, unless one of excuses is in what it says and it goes on all the same.
    """
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=LIMIT_S / 3)
        except subprocess.TimeoutExpired as exc:
            said = (exc.stdout or b"") + (exc.stderr or b"")
            if not any(excuse in said for excuse in excuses):
                break
    process.kill()
    _, err = process.communicate()
    pytest.fail(f"hangs after SIGINT {after_s * 1000:.2f} ms after it was ready: {err}")


@pytest.mark.parametrize("busy", BUSY)
def test_ctrl_c_ends_run_by_keyboard_interrupt(busy: str) -> None:
    """Cleaning up included. From 3.11 on asyncio.Runner's handler cancels the main task, and raises
    nothing anywhere; on 3.10 it is as in the next test."""
    code = program(BUSY[busy], "puff.run(main())")
    excuses = (b"",) if busy in FRAGILE and sys.version_info < (3, 11) else ()
    for seed in range(int(os.environ.get("INTERRUPTS", "4"))):
        process = start(code)
        out, err = interrupt(process, random.Random(seed).random() * 0.02, excuses)
        assert (out, process.returncode) == ("interrupted\n", 0), err


@pytest.mark.parametrize("busy", BUSY)
def test_ctrl_c_leaves_run_forever_and_the_loop_runs_again(busy: str) -> None:
    """The loop loses none: it is left, or Python says where the interrupt ended.

    Without a Runner the interrupt is raised wherever Python code happens to be. In 200 runs of each
    of FRAGILE under load, one was not enough in 2 of "threads" and 2 of "children" on this loop, in
    8 and 0 on asyncio's, all for one of these reasons:
    - in a destructor or a weak reference's callback (WeakSet's, when a task is dropped): Python
      says "Exception ignored in", and the loop runs on;
    - in ThreadPoolExecutor.submit(), with a lock that it does not give back: a worker waits for
      it, and shutdown_default_executor() for the worker;
    - in the task of BaseSubprocessTransport._connect_pipes(): nobody tells the transport that it
      will never be connected, and create_subprocess_exec() waits, cancelled or not.
    """
    run = """
    loop = puff.new_event_loop()
    loop.set_debug(False)  # asyncio's code around a callback: the interrupt may lose it
    asyncio.set_event_loop(loop)
    task = loop.create_task(main())
    try:
        loop.run_forever()
    finally:
        print("left", flush=True)
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()"""
    code = program(BUSY[busy], run)
    excuses = (b"left\n", b"Exception ignored in") if busy in FRAGILE else ()
    for seed in range(int(os.environ.get("INTERRUPTS", "4"))):
        process = start(code)
        out, err = interrupt(process, random.Random(seed).random() * 0.02, excuses)
        assert (out, process.returncode) == ("left\ninterrupted\n", 0), err


def test_a_second_ctrl_c_ends_a_clean_up_that_does_not() -> None:
    code = (
        PRELUDE
        + """
async def main():
    try:
        print("ready", flush=True)
        await asyncio.sleep(100)
    finally:
        print("cleaning", flush=True)
        await asyncio.sleep(100)
try:
    puff.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    )
    process = start(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert out == "interrupted\n", err


def test_an_interrupted_protocol_method_leaves_the_run(loop: asyncio.AbstractEventLoop) -> None:
    class Interrupts(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            signal.raise_signal(signal.SIGINT)

    read, write = os.pipe()
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        transport, _ = loop.run_until_complete(
            loop.connect_read_pipe(Interrupts, os.fdopen(read, "rb", 0))
        )
        os.write(write, b"x")
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(LIMIT_S))
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        signal.signal(signal.SIGINT, old)
        os.close(write)
