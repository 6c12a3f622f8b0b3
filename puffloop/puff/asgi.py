"""An ASGI app on Puff's HTTP server, inside a program of your own; `puff serve` is built from it.

async with puff.asgi.Server(app, bind="127.0.0.1:0") as server:
    print(server.addresses)          # ['http://127.0.0.1:41234']
    await something_else()
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from puff._bind.http import HttpServer
from puff.errors import AppStartError, ClientDisconnected, ConfigError

__all__ = ["App", "Lifespan", "Server", "parse_bind"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]
LifespanMode = Literal["auto", "on", "off"]

CANCEL_GRACE_S = (
    5.0  # a cancelled request that goes on for longer is left alone, and named in the log
)

_log = logging.getLogger("puff.error")


class Server:
    """One ASGI app, served on the running Puff loop.

    Arguments: bind, "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", or several of them, or listening
    sockets; lifespan, whether the app has one ("auto": try); root_path as in ASGI; access_log, a
    line for each request on stdout; http, limits and timeouts by the names of docs/http.md.
    Raises: AppStartError when the app's lifespan fails, OSError when an address cannot be had.

        async with Server(app, bind="unix:/run/app.sock"):
            await asyncio.Event().wait()
    """

    def __init__(
        self,
        app: App,
        *,
        bind: str | socket.socket | Sequence[str | socket.socket] = "127.0.0.1:7777",
        lifespan: LifespanMode = "auto",
        root_path: str = "",
        access_log: bool = False,
        reuse_port: bool = False,
        backlog: int = 0,
        stop_timeout_ms: int = 30_000,
        http: Mapping[str, int | bool | str] | None = None,
    ) -> None:
        self._app = app
        self._binds = [bind] if isinstance(bind, (str, socket.socket)) else list(bind)
        self._lifespan = Lifespan(app, lifespan)
        self._root_path = root_path
        self._access_log_fd = sys.stdout.fileno() if access_log else -1
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._stop_timeout_ms = stop_timeout_ms
        self._options = dict(http or {})
        self._http: HttpServer | None = None
        self._stopped: asyncio.Future[None] | None = None
        self.addresses: list[str] = []

    async def start(self) -> None:
        """Runs the app's startup, then listens."""
        if self._http is not None:
            raise RuntimeError("the server has been started before")
        await self._lifespan.startup()
        try:
            self._open()
        except BaseException:
            await self.stop(0)
            raise

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopped = loop.create_future()
        self._http = HttpServer(
            loop,
            self._app,
            state=self._lifespan.state,
            root_path=self._root_path,
            on_error=_on_error,
            access_log_fd=self._access_log_fd,
            options=self._options,
        )
        for bind in self._binds:
            self.addresses.append(self._listen(self._http, bind))

    def _listen(self, http: HttpServer, bind: str | socket.socket) -> str:
        if isinstance(bind, socket.socket):
            fd = bind.detach()
            http.listen(fd=fd)
            return f"fd:{fd}"
        host, port = parse_bind(bind)
        if port is None:
            http.listen(unix_path=host, backlog=self._backlog)
            return f"unix:{host}"
        port = http.listen(host=host, port=port, backlog=self._backlog, reuse_port=self._reuse_port)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self, timeout_ms: int | None = None) -> None:
        """Accepts no more, lets what runs finish, at most `timeout_ms`, then the app shuts down.

        What still runs after that is cut off: connection closed, task cancelled.
        """
        timeout_ms = self._stop_timeout_ms if timeout_ms is None else timeout_ms
        if self._http is not None and self._http.is_open:
            await self._drain(self._http, timeout_ms)
        await self._lifespan.shutdown()

    def hurry(self) -> None:
        """Makes a `stop` that waits for requests cut them off now."""
        if self._http is None:
            return
        if self._http.is_open:
            self._http.stop(0)
        for task in self._http.tasks():
            task.cancel()

    async def _drain(self, http: HttpServer, timeout_ms: int) -> None:
        loop, stopped = asyncio.get_running_loop(), self._stopped
        assert stopped is not None

        def on_stopped() -> None:
            if not stopped.done():
                stopped.set_result(None)

        http.stop(timeout_ms, on_stopped)
        await self._wait_for_apps(http, loop.time() + timeout_ms / 1000)
        for task in (cancelled := http.tasks()):
            task.cancel()
        await self._wait_for_apps(http, loop.time() + CANCEL_GRACE_S)
        for task in http.tasks():
            _log.error("a request ignores its cancellation: %r", task)
        if cancelled:
            _log.warning(
                "cut off %d requests that did not end in %d ms", len(cancelled), timeout_ms
            )
        await stopped

    async def _wait_for_apps(self, http: HttpServer, deadline: float) -> None:
        """Also for those whose response is complete: they may have work in the background."""
        loop = asyncio.get_running_loop()
        while http.tasks() or (http.is_open and http.statistics()["in_flight"]):
            left = deadline - loop.time()
            if left <= 0:
                return
            waits: list[Any] = http.tasks()
            if self._stopped is not None and not self._stopped.done():
                waits.append(self._stopped)
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def statistics(self) -> dict[str, int]:
        """Counters of the HTTP server: accepted, requests, refused, connections, in_flight."""
        return self._http.statistics() if self._http and self._http.is_open else {}

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class Lifespan:
    """The app's startup and shutdown: one call with a scope of type "lifespan".

    `state` is what the app put into scope["state"].
    """

    def __init__(self, app: App, mode: LifespanMode = "auto") -> None:
        self._app = app
        self._mode = mode
        self._messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Returns when the app has started, or has no lifespan. Raises AppStartError."""
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started, self._ended = loop.create_future(), loop.create_future()
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._run())
        await asyncio.wait([self._started, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            self._judge(self._task)
        elif self._started.exception() is not None:
            await self._end_task()
        self._started.result()

    def _judge(self, task: asyncio.Task[None]) -> None:
        """The app ended without a word: in auto mode that means that it has no lifespan."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self._mode == "on":
            raise AppStartError("the app does not support lifespan events") from error
        if error is not None:
            _log.info("the app has no lifespan (it raised %s: %s)", type(error).__name__, error)
        assert self._started is not None
        self._started.set_result(None)

    async def shutdown(self) -> None:
        """Tells the app that it ends, and waits for it. Raises AppStartError when it failed."""
        if self._task is None or self._ended is None:
            return
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([self._ended, self._task], return_when=asyncio.FIRST_COMPLETED)
        error = await self._end_task()
        if self._ended.done():
            self._ended.result()
        elif error is not None:
            raise AppStartError(f"the app raised in its shutdown: {error!r}") from error

    async def _end_task(self) -> BaseException | None:
        """Lets the app's call return after its last word; what it raised, if it did."""
        task, self._task = self._task, None
        assert task is not None
        await asyncio.wait([task], timeout=CANCEL_GRACE_S)
        if not task.done():
            task.cancel()
        return task.exception() if task.done() and not task.cancelled() else None

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._messages.get, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._started is not None and self._ended is not None
        part, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        future = {"startup": self._started, "shutdown": self._ended}.get(part)
        if future is None or outcome not in ("complete", "failed") or future.done():
            raise RuntimeError(f"not the time for {message['type']!r}")
        if outcome == "complete":
            future.set_result(None)
        else:
            future.set_exception(AppStartError(_sentence(part, message.get("message", ""))))


def _sentence(part: str, message: str) -> str:
    failed = f"the app's {part} failed"
    return f"{failed}: {message}" if message else failed


def parse_bind(bind: str) -> tuple[str, int | None]:
    """(host, port), or (path, None) for "unix:PATH". Raises ConfigError."""
    if bind.startswith("unix:"):
        if len(bind) > len("unix:"):
            return bind[len("unix:") :], None
    else:
        host, colon, port = bind.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if colon and host and port.isascii() and port.isdigit() and int(port) < 65536:
            return host, int(port)
    raise ConfigError(f"cannot bind to {bind!r}; expected HOST:PORT, [IPV6]:PORT or unix:PATH")


def _on_error(sentence: str, error: BaseException | None, method: bytes, target: bytes) -> None:
    if error is not None and _is_only_disconnects(error):
        return
    where = f"{method.decode('latin-1')} {target.decode('latin-1')}".encode(
        "ascii", "backslashreplace"
    )
    _log.error("%s: %s", where.decode(), sentence, exc_info=error)


def _is_only_disconnects(error: BaseException) -> bool:
    """An exception group whose every leaf is the client's going, from an app's task group."""
    inner: Sequence[BaseException] | None = getattr(error, "exceptions", None)
    if not isinstance(inner, tuple) or not inner:
        return isinstance(error, ClientDisconnected)
    return all(_is_only_disconnects(e) for e in inner)
