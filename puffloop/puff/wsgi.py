"""A WSGI app on Puff's HTTP server, inside a program of your own; see also `puff serve --wsgi`.

async with puff.wsgi.Server(app, bind="127.0.0.1:0") as server:
    print(server.addresses)          # ['http://127.0.0.1:41234']
    await something_else()
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from puff._bind.wsgi import WsgiServer
from puff.server import AppServer, report_error

__all__ = ["App", "Server"]

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(AppServer):
    """One WSGI app (PEP 3333), served on the running Puff loop.

    Each request runs on a greenlet of the loop's thread, where every puff call lets the loop run.
    `threads`, if not 0, is for an app that blocks in other ways: so many threads run it instead.
    `greenlets`, if not 0, is how many requests run at once on greenlets; more wait in order, and
    what is local to a thread (Django's connections) is kept for the next request, as on threads.

    Arguments: bind, "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", or several of them, or listening
    sockets; root_path, the SCRIPT_NAME; multiprocess, what wsgi.multiprocess says; access_log, a
    line for each request on stdout; http, limits and timeouts by the names of docs/http.md.
    Raises: OSError when an address cannot be had.

        async with Server(app, bind="unix:/run/app.sock"):
            await asyncio.Event().wait()
    """

    def __init__(
        self,
        app: App,
        *,
        bind: str | socket.socket | Sequence[str | socket.socket] = "127.0.0.1:7777",
        threads: int = 0,
        greenlets: int = 0,
        root_path: str = "",
        multiprocess: bool = False,
        access_log: bool = False,
        reuse_port: bool = False,
        backlog: int = 0,
        stop_timeout_ms: int = 30_000,
        http: Mapping[str, int | bool | str] | None = None,
    ) -> None:
        super().__init__(
            bind=bind,
            access_log=access_log,
            reuse_port=reuse_port,
            backlog=backlog,
            stop_timeout_ms=stop_timeout_ms,
            http=http,
        )
        self._app = app
        self._root_path = root_path
        self._multiprocess = multiprocess
        if threads and greenlets:
            raise ValueError("an app runs on threads or on greenlets: one of both numbers is 0")
        self._greenlets = greenlets
        self._threads = ThreadPoolExecutor(threads, "puff-wsgi") if threads else None

    def _host(self, loop: asyncio.AbstractEventLoop) -> WsgiServer:
        return WsgiServer(
            loop,
            self._app,
            root_path=self._root_path,
            on_error=report_error,
            threads=self._threads,
            greenlets=self._greenlets,
            multiprocess=self._multiprocess,
            access_log_fd=self._access_log_fd,
            options=self._options,
        )

    async def _shutdown(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)
