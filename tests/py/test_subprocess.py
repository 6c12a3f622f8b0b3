"""Child processes do what they do on asyncio's loop: each behaviour is tried on both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import puff

MEGABYTE = 1 << 20
LIMIT_S = 30


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main, LIMIT_S))


def python(*code: str, **options: Any) -> Coroutine[Any, Any, asyncio.subprocess.Process]:
    return asyncio.create_subprocess_exec(sys.executable, "-c", "\n".join(code), **options)


def n_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Those that run and those that nobody has waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


_others: set[int] = set()  # of the session's servers


@pytest.fixture(autouse=True)
def _see_others() -> None:
    _others.clear()
    _others.update(children())


def no_child_is_left() -> bool:
    return children() <= _others


class Recorder(asyncio.SubprocessProtocol):
    """Remembers what it is told; `lost` is done at the end."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append((fd, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append((fd, None))

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(None)


# ---- one child -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_the_exit_status_is_popens(
    loop: asyncio.AbstractEventLoop, command: str, code: int
) -> None:
    async def main() -> tuple[int, int | None]:
        process = await asyncio.create_subprocess_shell(command)
        return await process.wait(), process.returncode

    assert run(loop, main()) == (code, code)
    assert no_child_is_left()


def test_a_protocol_is_told_in_asyncios_order(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[Any]:
        _, protocol = await loop.subprocess_shell(Recorder, "printf out; printf err >&2")
        await protocol.lost
        return protocol.events

    events = run(loop, main())
    assert events[0] == "made"
    assert events[-1] == "lost"
    assert sorted(map(str, events[1:-1])) == sorted(
        map(str, [(0, None), (1, b"out"), (2, b"err"), (1, None), (2, None), "exited"])
    )
    assert events.index((1, b"out")) < events.index((1, None))


def test_ten_megabytes_go_in_and_come_back(loop: asyncio.AbstractEventLoop) -> None:
    data = os.urandom(MEGABYTE) * 10

    async def main() -> bytes:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await process.communicate(data)
        assert process.returncode == 0
        return out

    assert run(loop, main()) == data


def test_a_child_that_closes_its_stdin_early_breaks_nothing(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def main() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_shell("exec 0<&-; echo done", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"x" * MEGABYTE)  # asyncio ignores the broken pipe
        return out, process.returncode

    assert run(loop, main()) == (b"done\n", 0)


def test_a_child_opens_its_stdin_by_name(puff_loop: puff.Loop) -> None:
    """As with asyncio from 3.12 on; before, its stdin is a socket, which cannot be opened."""

    async def main() -> bytes:
        process = await asyncio.create_subprocess_exec("cat", "/dev/stdin", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"by name")
        return out

    assert run(puff_loop, main()) == b"by name"


def test_a_child_that_ended_before_anybody_looked_is_waited_for(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec("true")
        with contextlib.suppress(ChildProcessError):  # it has been waited for
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return await process.wait()

    assert run(loop, main()) == 0


def test_popens_keywords_reach_the_child(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    read, write = os.pipe()

    async def main() -> list[bytes]:
        process = await asyncio.create_subprocess_shell(
            f"pwd; umask; echo $WORD; cut -d' ' -f6 /proc/$$/stat; echo $$;"
            f"echo fd >/dev/fd/{write}",
            stdout=-1, cwd=tmp_path, env={"WORD": "word", "PATH": os.environ["PATH"]}, umask=0o027,
            start_new_session=True, pass_fds=[write], preexec_fn=lambda: os.write(write, b"pre\n"),
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.split()

    try:
        where, umask, word, sid, pid = run(loop, main())
        assert (where, umask, word) == (str(tmp_path).encode(), b"0027", b"word")
        assert sid == pid
        assert os.read(read, 100) == b"pre\nfd\n"
    finally:
        os.close(read)
        os.close(write)


def test_what_cannot_be_started_is_an_error_and_leaves_nothing(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def start() -> None:
        await asyncio.create_subprocess_exec("/no/such/file", stdin=-1, stdout=-1, stderr=-1)

    before = n_fds()
    with pytest.raises(FileNotFoundError):
        run(loop, start())
    gc.collect()
    assert n_fds() == before
    assert no_child_is_left()


# ---- signals to it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "code"),
    [("kill", -signal.SIGKILL), ("terminate", -signal.SIGTERM), ("usr1", -signal.SIGUSR1)],
)
def test_signals_reach_the_child(loop: asyncio.AbstractEventLoop, send: str, code: int) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec("sleep", "100")
        if send == "usr1":
            process.send_signal(signal.SIGUSR1)
        else:
            getattr(process, send)()
        return await process.wait()

    assert run(loop, main()) == code


def test_a_signal_races_with_the_end(puff_loop: puff.Loop) -> None:
    """Popen may wait for the child first: its status is the child's all the same, never 255."""

    async def one() -> int:
        process = await asyncio.create_subprocess_exec("true")
        while process.returncode is None:
            try:
                process.send_signal(signal.SIGCONT)
            except ProcessLookupError:
                break
            await asyncio.sleep(0)
        return await process.wait()

    async def main() -> set[int]:
        return {await one() for _ in range(40)}

    assert run(puff_loop, main()) == {0}


def test_a_signal_after_the_end_is_process_lookup_error(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        await asyncio.sleep(0)
        for send in (process.kill, process.terminate):
            with pytest.raises(ProcessLookupError):
                send()

    run(loop, main())


def test_cancelling_the_wait_leaves_the_child(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        assert process.returncode is None
        assert process.stdin is not None
        process.stdin.close()
        return await process.wait()

    assert run(loop, main()) == 0


# ---- many ----------------------------------------------------------------------------------------


def test_two_hundred_children_at_once(loop: asyncio.AbstractEventLoop) -> None:
    async def one(i: int) -> bool:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"%d" % i)
        return out == b"%d" % i and process.returncode == 0

    async def main() -> list[bool]:
        return await asyncio.gather(*map(one, range(200)))

    before = n_fds()
    assert all(run(loop, main()))
    gc.collect()
    assert n_fds() <= before + 1
    assert no_child_is_left()


def test_loops_of_several_threads_have_children_at_once(puff_loop: puff.Loop) -> None:
    done: list[bytes] = []

    async def some() -> None:
        for _ in range(10):
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"thread")
            assert process.returncode == 0
            done.append(out)

    def thread() -> None:
        loop = puff.new_event_loop()
        run(loop, some())
        loop.close()

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    run(puff_loop, some())
    for each in threads:
        each.join(LIMIT_S)
    assert done == [b"thread"] * 50
    assert no_child_is_left()


# ---- when things go wrong ------------------------------------------------------------------------


def test_a_child_that_somebody_else_has_reaped_ended_with_255(
    puff_loop: puff.Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1)
        os.kill(process.pid, signal.SIGTERM)
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert run(puff_loop, main()) == 255
    assert "exit status already read" in caplog.text


def test_closing_the_transport_kills_the_child(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> int | None:
        transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "100")
        transport.close()
        await protocol.lost
        return transport.get_returncode()

    assert run(loop, main()) == -signal.SIGKILL
    assert no_child_is_left()


def test_a_loop_closed_over_a_running_child_warns_and_kills_it() -> None:
    loop = puff.new_event_loop()

    async def main() -> int:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            Recorder, "sleep", "100", stdin=None, stdout=None, stderr=None
        )
        return transport.get_pid()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pid = run(loop, main())
        loop.close()
        del loop
        gc.collect()
    assert any("unclosed transport" in str(w.message) for w in seen)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_child_outlives_a_run_and_is_waited_for_in_the_next(
    loop: asyncio.AbstractEventLoop,
) -> None:
    process = run(loop, python("import sys; sys.stdin.read()", stdin=-1))
    process.stdin.close()
    assert run(loop, process.wait()) == 0


def test_cancelling_the_start_kills_the_child(puff_loop: puff.Loop) -> None:
    async def main() -> None:
        start = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "100", stdout=-1))
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    run(puff_loop, main())
    gc.collect()
    assert no_child_is_left()


def test_a_child_watcher_of_the_program_is_left_in_charge() -> None:
    if not hasattr(asyncio, "SafeChildWatcher") or sys.version_info >= (3, 12):
        pytest.skip("this Python has done away with them")
    code = """
import asyncio, puff
class Watcher(asyncio.ThreadedChildWatcher):
    def add_child_handler(self, *args):
        print("asked", flush=True)
        super().add_child_handler(*args)
puff.install()
asyncio.set_child_watcher(Watcher())
async def main():
    return await (await asyncio.create_subprocess_exec("true")).wait()
print(asyncio.run(main()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.stdout.split() == ["asked", "0"], done.stderr
