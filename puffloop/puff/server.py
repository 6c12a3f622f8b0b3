"""What serving an app is, whatever its interface: bind, start, drain, stop.

    start() -> _startup() -> _host(loop) -> listen on each bind
    stop()  -> no new connections -> requests finish or are cut off -> _shutdown()

puff.asgi.Server and puff.wsgi.Server are its two kinds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from puff.errors import ClientDisconnected, ConfigError

if TYPE_CHECKING:
    from puff._bind.http import HttpServer

__all__ = ["AppServer", "ServerOptions", "parse_bind", "report_error"]

CANCEL_GRACE_S = (
    5.0  # a cancelled request that goes on for longer is left alone, and named in the log
)

_log = logging.getLogger("puff.error")
S = TypeVar("S", bound="AppServer")
Bind = str | socket.socket | Sequence[str | socket.socket]


class ServerOptions(TypedDict, total=False):
    """What AppServer takes by name, and each of its kinds with it."""

    bind: Bind
    root_path: str
    access_log: bool
    reuse_port: bool
    backlog: int
    stop_timeout_ms: int
    http: Mapping[str, int | bool | str] | None


class AppServer:
    """One app, served on the running Puff loop. A subclass says by what interface.

    bind: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", or several of them, or listening sockets;
    root_path: where the app is mounted; access_log: a line for each request on stdout; http: limits
    and timeouts by the names of docs/http.md. Raises: OSError when an address cannot be had.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        bind: Bind = "127.0.0.1:7777",
        root_path: str = "",
        access_log: bool = False,
        reuse_port: bool = False,
        backlog: int = 0,
        stop_timeout_ms: int = 30_000,
        http: Mapping[str, int | bool | str] | None = None,
    ) -> None:
        self._app = app
        self._binds = [bind] if isinstance(bind, (str, socket.socket)) else list(bind)
        self._root_path = root_path
        self._access_log_fd = sys.stdout.fileno() if access_log else -1
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._stop_timeout_ms = stop_timeout_ms
        self._options = dict(http or {})
        self._http: HttpServer | None = None
        self._stopped: asyncio.Future[None] | None = None
        self.addresses: list[str] = []

    def _host(self, loop: asyncio.AbstractEventLoop) -> HttpServer:
        """Makes the native server, which does not listen yet."""
        raise NotImplementedError

    async def _startup(self) -> None:
        """Before the first address is bound."""

    async def _shutdown(self) -> None:
        """After the last request."""

    async def start(self) -> None:
        """Runs the app's startup, then listens."""
        if self._http is not None:
            raise RuntimeError("the server has been started before")
        await self._startup()
        try:
            self._open()
        except BaseException:
            await self.stop(0)
            raise

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopped = loop.create_future()
        self._http = self._host(loop)
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

        What still runs after that is cut off: connection closed, task cancelled, greenlet killed.
        """
        timeout_ms = self._stop_timeout_ms if timeout_ms is None else timeout_ms
        if self._http is not None and self._http.is_open:
            await self._drain(self._http, timeout_ms)
        await self._shutdown()

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
            waits: list[Any] = list(http.tasks())
            if self._stopped is not None and not self._stopped.done():
                waits.append(self._stopped)
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def statistics(self) -> dict[str, int]:
        """Counters of the HTTP server: accepted, requests, refused, connections, in_flight."""
        return self._http.statistics() if self._http and self._http.is_open else {}

    async def __aenter__(self: S) -> S:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


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


def report_error(sentence: str, error: BaseException | None, method: bytes, target: bytes) -> None:
    """Logs what went wrong with a request."""
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
