"""Who blocks the loop is named while it does: `loop.set_watchdog()`, `puff serve --watchdog-ms`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import puff

BOUND_S = 20.0


class Reports:
    """What a watchdog has told; a function can block until it tells."""

    def __init__(self) -> None:
        self.blocks: list[puff.Block] = []
        self.told = threading.Condition()

    def __call__(self, block: puff.Block) -> None:
        with self.told:
            self.blocks.append(block)
            self.told.notify_all()

    def wait(self, wanted: Callable[[list[puff.Block]], bool]) -> bool:
        with self.told:
            return self.told.wait_for(lambda: wanted(self.blocks), BOUND_S)

    @property
    def lasting(self) -> list[puff.Block]:
        return [block for block in self.blocks if not block.over]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def loop(reports: Reports) -> Iterator[puff.Loop]:
    loop = puff.new_event_loop()
    loop.set_watchdog(30, reports, gap_ms=0)
    yield loop
    loop.close()


def block_in_sleep(reports: Reports) -> None:
    """Blocks as time.sleep() does, without the GIL, until it has been named."""
    assert reports.wait(lambda blocks: any(not b.over for b in blocks))


def block_in_a_busy_loop(reports: Reports) -> None:
    deadline = time.monotonic() + BOUND_S
    while not reports.lasting and time.monotonic() < deadline:
        pass


blockers = pytest.mark.parametrize("blocker", [block_in_sleep, block_in_a_busy_loop])


def assert_named(reports: Reports, blocker: Callable[..., None]) -> None:
    block = reports.lasting[0]
    assert blocker.__name__ in [frame.name for frame in block.stack]
    frame = next(frame for frame in block.stack if frame.name == blocker.__name__)
    assert frame.filename == __file__
    assert frame.lineno is not None
    first = blocker.__code__.co_firstlineno
    assert first < frame.lineno < first + 8
    assert block.seconds >= 0.03
    assert not block.dumped


@blockers
def test_a_coroutine_that_blocks_is_named(
    loop: puff.Loop, reports: Reports, blocker: Callable[[Reports], None]
) -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        blocker(reports)

    loop.run_until_complete(handler())
    assert_named(reports, blocker)
    assert "handler" in [frame.name for frame in reports.lasting[0].stack]


@blockers
def test_a_greenlet_that_blocks_is_named(
    loop: puff.Loop, reports: Reports, blocker: Callable[[Reports], None]
) -> None:
    def view() -> None:
        puff.sleep_ms(1)
        blocker(reports)

    async def main() -> None:
        await puff.spawn(view).join()

    loop.run_until_complete(main())
    assert_named(reports, blocker)
    assert "view" in [frame.name for frame in reports.lasting[0].stack]


@blockers
def test_sync_code_of_a_coroutine_that_blocks_is_named(
    loop: puff.Loop, reports: Reports, blocker: Callable[[Reports], None]
) -> None:
    async def main() -> None:
        await puff.to_greenlet(blocker, reports)

    loop.run_until_complete(main())
    assert_named(reports, blocker)


@blockers
def test_a_plain_callback_that_blocks_is_named(
    loop: puff.Loop, reports: Reports, blocker: Callable[[Reports], None]
) -> None:
    loop.call_soon(blocker, reports)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert_named(reports, blocker)


def test_a_protocol_that_blocks_is_named(loop: puff.Loop, reports: Reports) -> None:
    """Its methods run inside the loop's look at the kernel, between two callbacks."""

    class Blocks(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            block_in_sleep(reports)
            done.set_result(None)

    async def main() -> None:
        server = await loop.create_server(Blocks, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await done
        writer.close()
        server.close()

    done = loop.create_future()
    loop.run_until_complete(main())
    assert_named(reports, block_in_sleep)


def test_the_end_of_a_block_is_told(loop: puff.Loop, reports: Reports) -> None:
    async def main() -> None:
        block_in_sleep(reports)
        await asyncio.to_thread(reports.wait, lambda blocks: blocks[-1].over)

    loop.run_until_complete(main())
    *_, last = reports.blocks
    assert last.over
    assert not last.stack
    assert last.seconds >= reports.lasting[-1].seconds


def test_a_block_is_told_again_each_time_that_it_has_doubled(
    loop: puff.Loop, reports: Reports
) -> None:
    async def main() -> None:
        reports.wait(lambda blocks: len(blocks) == 3)

    loop.run_until_complete(main())
    first, second, third = (block.seconds for block in reports.lasting[:3])
    assert second >= 2 * first * 0.9
    assert third >= 2 * second * 0.9


def test_one_block_in_a_while_is_told_and_the_others_are_counted(reports: Reports) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, puff.Loop)
        loop.set_watchdog(20, reports, gap_ms=60_000)
        block_in_sleep(reports)
        for _ in range(3):
            await asyncio.sleep(0)
            time.sleep(0.06)
        await asyncio.sleep(0)

    puff.run(main())
    named = {frame.name for block in reports.lasting for frame in block.stack}
    assert "block_in_sleep" in named
    assert "main" not in {block.stack[-1].name for block in reports.lasting}


def test_blocks_that_were_not_told_are_counted_in_the_next_report(reports: Reports) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, puff.Loop)
        loop.set_watchdog(20, reports, gap_ms=300)
        deadline = time.monotonic() + BOUND_S
        while not any(block.n_silent for block in reports.blocks):
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
            time.sleep(0.06)

    puff.run(main())


def test_a_loop_that_sleeps_is_not_blocked(reports: Reports) -> None:
    async def main() -> None:
        await asyncio.sleep(0.4)

    loop = puff.new_event_loop()
    loop.set_watchdog(100, reports, gap_ms=0)
    loop.run_until_complete(main())
    time.sleep(0.25)  # nor is one that does not run
    loop.run_until_complete(main())
    loop.close()
    assert reports.blocks == []


def test_many_short_callbacks_are_no_block(reports: Reports) -> None:
    async def main() -> None:
        deadline = time.monotonic() + 1.2
        while time.monotonic() < deadline:
            await asyncio.sleep(0)

    loop = puff.new_event_loop()
    loop.set_watchdog(500, reports, gap_ms=0)
    loop.run_until_complete(main())
    loop.close()
    assert reports.blocks == []


def test_by_default_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def report_of_the_year() -> None:
        deadline = time.monotonic() + BOUND_S
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.001)

    async def main() -> None:
        report_of_the_year()

    loop = puff.new_event_loop()
    loop.set_watchdog(20)
    with caplog.at_level(logging.WARNING, "puff.watchdog"):
        loop.run_until_complete(main())
    loop.close()
    text = caplog.records[0].getMessage()
    line = report_of_the_year.__code__.co_firstlineno + 3
    assert text.startswith("the loop has been blocked for 0.0")
    assert f"report_of_the_year() in {__file__}, line {line}" in text
    assert "in main" in text


def test_a_report_that_raises_is_logged_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture, reports: Reports
) -> None:
    def report(block: puff.Block) -> None:
        reports(block)
        raise ZeroDivisionError

    async def main() -> None:
        block_in_sleep(reports)
        reports.wait(lambda blocks: len(reports.lasting) >= 2)

    loop = puff.new_event_loop()
    loop.set_watchdog(20, report, gap_ms=0)
    loop.run_until_complete(main())
    loop.close()
    assert "the report of a blocked loop has failed" in caplog.text


def test_zero_ends_it(loop: puff.Loop, reports: Reports) -> None:
    async def main() -> None:
        loop.set_watchdog(0)
        time.sleep(0.15)

    loop.run_until_complete(main())
    assert reports.blocks == []


def test_a_negative_threshold_is_refused(loop: puff.Loop) -> None:
    with pytest.raises(ValueError, match="negative"):
        loop.set_watchdog(-1)


def test_a_closed_loop_has_none(loop: puff.Loop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.set_watchdog(10)


def test_threads_end_with_the_loop() -> None:
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        loop = puff.new_event_loop()
        loop.set_watchdog(1000)
        loop.close()
    deadline = time.monotonic() + BOUND_S
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(os.listdir("/proc/self/task")) <= before


def test_a_dropped_loop_ends_it(run_python: Any) -> None:
    code = """
import gc, os, time, warnings
import puff
warnings.simplefilter("ignore")
before = len(os.listdir("/proc/self/task"))
loop = puff.new_event_loop()
loop.set_watchdog(5)
del loop
gc.collect()
deadline = time.monotonic() + 20
while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
    time.sleep(0.005)
assert len(os.listdir("/proc/self/task")) == before
loop = puff.new_event_loop()
loop.set_watchdog(5)  # and one that is not dropped is no trouble at exit
print("fine")
"""
    assert "fine" in run_python(code).stdout


def test_a_forked_child_is_not_watched_and_can_close(run_python: Any) -> None:
    code = """
import asyncio, os
import puff

async def main():
    pid = os.fork()
    if pid == 0:
        return 7
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

loop = puff.new_event_loop()
loop.set_watchdog(1000)
status = loop.run_until_complete(main())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
raise SystemExit(status)
"""
    assert run_python(code, check=False).returncode == 7


C_CODE = """
import asyncio, ctypes, sys
import puff

def in_c():
    ctypes.PyDLL(None).usleep(900_000)  # keeps the GIL
    print("in_c is over", file=sys.stderr, flush=True)

async def main():
    in_c()
    await asyncio.sleep(0.3)

loop = puff.new_event_loop()
loop.set_watchdog(50)
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGRTMAX"), reason="there is no signal to spare")
def test_code_that_keeps_the_gil_is_named_on_stderr(run_python: Any) -> None:
    output = run_python(C_CODE).stderr
    before, _, after = output.partition("in_c is over")
    assert "by code that holds the GIL" in before
    assert "line 6 in in_c" in before
    assert "in main" in before
    assert "its stack is on stderr" in after


# ---- puff serve ----------------------------------------------------------------------------------

APP = """
import time

def spin():
    while True:
        pass

def app(environ, start_response):
    if environ["PATH_INFO"] == "/forever":
        spin()
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(0.5)
    start_response("200 OK", [])
    return [b"fine"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/forever":
        spin()
    if scope["path"] == "/sleep":
        time.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})
"""
interfaces = pytest.mark.parametrize(
    ("flag", "app"), [("--wsgi", "hello:app"), ("--asgi", "hello:asgi")]
)


@pytest.fixture
def serve(puff_serve: Any, tmp_path: Path) -> Any:
    (tmp_path / "hello.py").write_text(APP)
    return lambda *flags: puff_serve(None, *flags)


@interfaces
def test_a_request_that_never_returns_is_named_while_it_runs(
    serve: Any, flag: str, app: str
) -> None:
    s = serve(flag, app, "--watchdog-ms", "200")
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(httpx.get, s.url + "/forever", timeout=BOUND_S)
        s.wait_for(r"WARNING puff.watchdog: the loop has been blocked for 0\.\d+ s by spin\(\) in ")
        s.wait_for(rf"hello\.py\", line \d+, in {app.partition(':')[2]}$")
        s.process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            reply.result()


@interfaces
def test_a_request_that_blocks_for_a_while_is_named_and_answered(
    serve: Any, flag: str, app: str
) -> None:
    s = serve(flag, app, "--watchdog-ms", "100")
    assert httpx.get(s.url + "/sleep", timeout=BOUND_S).text == "fine"
    s.wait_for(r"has been blocked for 0\.\d+ s by (app|asgi)\(\) in .*hello\.py, line \d+")
    s.wait_for(r"was blocked for 0\.\d+ s and goes on")
    assert s.stop() == 0


def test_a_start_that_takes_its_time_is_no_block(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        """
import time
time.sleep(0.3)
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        time.sleep(0.3)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""
    )
    s = serve("--asgi", "slow:app", "--watchdog-ms", "100")
    assert s.stop() == 0
    assert "blocked" not in s.output


def test_zero_watches_nobody(serve: Any) -> None:
    s = serve("--wsgi", "hello:app", "--watchdog-ms", "0")
    assert httpx.get(s.url + "/sleep", timeout=BOUND_S).text == "fine"
    assert s.stop() == 0
    assert "blocked" not in s.output


def test_threads_of_a_wsgi_app_may_block(serve: Any) -> None:
    s = serve("--wsgi", "hello:app", "--wsgi-threads", "2", "--watchdog-ms", "300")
    assert httpx.get(s.url + "/sleep", timeout=BOUND_S).text == "fine"
    assert s.stop() == 0
    assert "blocked" not in s.output


def test_what_parks_by_monkey_patches_is_no_block_and_what_computes_is(serve: Any) -> None:
    s = serve("--wsgi", "hello:app", "--monkey", "--watchdog-ms", "300")
    assert httpx.get(s.url + "/sleep", timeout=BOUND_S).text == "fine"
    assert "in app" not in s.output
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(httpx.get, s.url + "/forever", timeout=BOUND_S)
        s.wait_for(r"has been blocked for 0\.\d+ s by spin\(\) in ")
        s.process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            reply.result()
