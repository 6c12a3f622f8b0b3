"""Real servers, subprocesses with bounds, and a clock over every test.

Nothing in the suite may hang: a test that runs longer than TEST_TIMEOUT_S (or its own
`@pytest.mark.timeout(seconds)`) fails with a TimeoutError raised wherever it is; if it does not
react, for it is stuck in C, every thread's stack is printed and the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import leaks
import pytest
from oracle import MAKERS

import puff
from puff import embedded
from puff.embedded import place, servers
from puff.embedded.supervisor import Server

TEST_TIMEOUT_S = 60.0
STUCK_IN_C_S = 20.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout(seconds): fail this test after so long, not 60 s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    mark = item.get_closest_marker("timeout")
    seconds = float(mark.args[0]) if mark else TEST_TIMEOUT_S

    def on_alarm(*_: object) -> None:
        faulthandler.dump_traceback(sys.__stderr__)
        raise TimeoutError(f"{item.nodeid} ran for more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + STUCK_IN_C_S, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


# ---- what tests leave behind ---------------------------------------------------------------------

_raised = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    if call.excinfo is not None:
        item.stash[_raised] = True
    return (yield)


@pytest.fixture(scope="session")
def _what_stays_for_good() -> None:
    """libuv's descriptors, and this thread's own loop: they come with the first use."""
    puff.new_event_loop().close()
    puff.sleep_ms(0)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(
    request: pytest.FixtureRequest, _what_stays_for_good: None, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Descriptors, open loops, threads and the core's memory of a test end with it. What fixtures
    of wider scope hold was there before. After a failure the traceback keeps what it shows."""
    before = leaks.state()
    yield
    caplog.get_records("call").clear()  # so does that of an exception that was logged
    if request.node.get_closest_marker("leaves"):
        return
    if _raised not in request.node.stash and (found := leaks.left_for_good(before)):
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)


@pytest.fixture(params=MAKERS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """asyncio's, then ours: what holds on both."""
    loop = MAKERS[request.param]()
    yield loop
    loop.close()


@pytest.fixture
def puff_loop() -> Iterator[puff.Loop]:
    loop = puff.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def errors(loop: asyncio.AbstractEventLoop) -> list[dict]:
    """What the loop's exception handler is told."""
    seen: list[dict] = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    return seen


# ---- servers that every test shares --------------------------------------------------------------


@pytest.fixture(scope="session")
def server_folder() -> Iterator[str]:
    with embedded.temporary() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A Postgres for all tests: each uses tables of its own name, or temporary ones."""
    given = os.environ.get("PUFF_TEST_POSTGRES")
    return given or embedded.postgres_url(request.getfixturevalue("server_folder"), durable=False)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """A Redis or Valkey for all tests: each uses keys of its own."""
    given = os.environ.get("PUFF_TEST_REDIS")
    return given or embedded.redis_url(request.getfixturevalue("server_folder"), durable=False)


@pytest.fixture
def puff_env(postgres_url: str, redis_url: str) -> dict[str, str]:
    """An environment whose default pools are the shared servers, for subprocesses."""
    urls = {"PUFF_DEFAULT_POSTGRES_URL": postgres_url, "PUFF_DEFAULT_REDIS_URL": redis_url}
    return os.environ | urls


# ---- servers that a test may stop and kill -------------------------------------------------------


class PrivateServer:
    """One server that a test may `stop`, `kill`, `start` and `restart`; its data stays."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._where = place.locate(kind, folder)
        self._where.make_folders()
        self._server = Server(servers.spec(self._where, durable=False, remove=[]))
        # A server ends with the thread that started it (PR_SET_PDEATHSIG): none of a test's own.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="private-server-")
        self._server.lock()
        self._server.init()
        self.url = servers.url(self._where)

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def socket_path(self) -> str:
        name = ".s.PGSQL.5432" if self._where.kind == "postgres" else "redis.sock"
        return str(self._where.sockets / name)

    def running(self) -> bool:
        return self._server.running()

    def start(self) -> None:
        if not self.running():
            self._starter.submit(self._server.start_after_crash).result()

    def stop(self) -> None:
        """As an administrator would: connections are ended, data is saved."""
        self._server.stop()

    def kill(self) -> None:
        """kill -9."""
        self._server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        self._starter.shutdown()
        self._server.unlock()


def _private_server(kind: str) -> Iterator[PrivateServer]:
    with embedded.temporary() as folder:
        server = PrivateServer(kind, Path(folder))
        try:
            yield server
        finally:
            server.close()


@pytest.fixture(scope="session")
def _private_postgres() -> Iterator[PrivateServer]:
    yield from _private_server("postgres")


@pytest.fixture(scope="session")
def _private_redis() -> Iterator[PrivateServer]:
    yield from _private_server("redis")


@pytest.fixture
def postgres_server(_private_postgres: PrivateServer) -> PrivateServer:
    """A Postgres that nobody else uses at this moment; running, whatever the last test did."""
    _private_postgres.start()
    return _private_postgres


@pytest.fixture
def redis_server(_private_redis: PrivateServer) -> PrivateServer:
    """A Redis that nobody else uses at this moment; running, whatever the last test did."""
    _private_redis.start()
    return _private_redis


# ---- ports and processes -------------------------------------------------------------------------


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """`run_python(code_or_path, *args, timeout=30, env=None, cwd=None, check=True)`.

    Runs it in an interpreter of its own and returns the CompletedProcess, its output as text.
    With `check`, a status other than 0 fails the test and shows the output.
    """

    def run(
        code: str | Path,
        *args: str,
        timeout: float = 30,
        env: dict[str, str] | None = None,
        cwd: str | Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        program = [str(code)] if isinstance(code, Path) else ["-c", code]
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *program, *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=env,
            cwd=cwd or tmp_path,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    return run


class Serve:
    """A running `puff serve`. `address` is (host, port) or the path of a Unix socket."""

    LISTENING = re.compile(r"listening on (?:https?://(\S+):(\d+)|unix:(\S+))")

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str] | None) -> None:
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str | re.Pattern[str], timeout: float = 20) -> re.Match[str]:
        """The first line of the output that matches; fails when it does not come."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(m for line in self._lines if (m := re.search(pattern, line)))
            return bool(found) or self._ended

        with self._news:
            self._news.wait_for(look, timeout)
        if not found:
            pytest.fail(f"puff did not print {pattern!r}:\n{self.output}", pytrace=False)
        return found[0]

    @property
    def address(self) -> tuple[str, int] | str:
        host, port, path = self.wait_for(self.LISTENING).groups()
        return path or (host.strip("[]"), int(port))

    @property
    def url(self) -> str:
        address = self.address
        assert isinstance(address, tuple)
        return f"http://{address[0]}:{address[1]}"

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Signals it and returns its exit status; kills it, and fails, if it does not go."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"puff serve did not stop in {timeout} s:\n{self.output}", pytrace=False)
        self._reader.join(5)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@pytest.fixture
def puff_serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    """`puff_serve("module:app", *flags, cwd=tmp_path, env=None, wait=True)` -> Serve, listening.

    Binds to a free port unless the flags say otherwise; stopped by SIGTERM at the end of the test.
    """
    with contextlib.ExitStack() as stack:

        def start(
            app: str | None,
            *flags: str,
            cwd: Path = tmp_path,
            env: dict[str, str] | None = None,
            wait: bool = True,
        ) -> Serve:
            argv = [sys.executable, "-m", "puff", "serve"]
            argv += ["--asgi", app] if app else []
            argv += [] if "--bind" in flags else ["--bind", "127.0.0.1:0"]
            serve = Serve(argv + list(flags), cwd, env)
            stack.callback(serve.stop)
            if wait:
                assert serve.address
            return serve

        yield start
