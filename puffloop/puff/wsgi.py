"""A WSGI app on Puff's HTTP server, inside a program of your own; see also `puff serve --wsgi`.

async with puff.wsgi.Server(app, bind="127.0.0.1:0") as server:
    print(server.addresses)          # ['http://127.0.0.1:41234']
    await something_else()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from puff._bind.wsgi import WsgiServer
from puff.server import AppServer, ServerOptions, report_error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["App", "Server"]

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(AppServer):
    """One WSGI app (PEP 3333), served on the running Puff loop.

    Each request runs on a greenlet of the loop's thread, where every puff call lets the loop run.
    `threads`, if not 0, is for an app that blocks in other ways: so many threads run it instead.
    `greenlets`, if not 0, is how many requests run at once on greenlets; more wait in order, and
    what is local to a thread (Django's connections) is kept for the next request, as on threads.

    Arguments: multiprocess, what wsgi.multiprocess says; and by name what AppServer takes: bind
    ("127.0.0.1:7777"), root_path (the SCRIPT_NAME), access_log, reuse_port, backlog,
    stop_timeout_ms (30000), http.
    Raises: OSError when an address cannot be had.

        async with Server(app, bind="unix:/run/app.sock"):
            await asyncio.Event().wait()
    """

    def __init__(
        self,
        app: App,
        *,
        threads: int = 0,
        greenlets: int = 0,
        multiprocess: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(app, **options)
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
