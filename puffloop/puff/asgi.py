"""An ASGI app on Puff's HTTP server, inside a program of your own; `puff serve` is built from it.

async with puff.asgi.Server(app, bind="127.0.0.1:0") as server:
    print(server.addresses)          # ['http://127.0.0.1:41234']
    await something_else()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from puff._bind.asgi import AsgiServer
from puff.errors import AppStartError
from puff.server import CANCEL_GRACE_S, AppServer, ServerOptions, report_error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["App", "Lifespan", "Server"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]
LifespanMode = Literal["auto", "on", "off"]

_log = logging.getLogger("puff.error")


class Server(AppServer):
    """One ASGI app, served on the running Puff loop.

    Arguments: lifespan, whether the app has one ("auto": try); and by name what AppServer takes:
    bind ("127.0.0.1:7777"), root_path, access_log, reuse_port, backlog, stop_timeout_ms (30000),
    http.
    Raises: AppStartError when the app's lifespan fails, OSError when an address cannot be had.

        async with Server(app, bind="unix:/run/app.sock"):
            await asyncio.Event().wait()
    """

    def __init__(
        self, app: App, *, lifespan: LifespanMode = "auto", **options: Unpack[ServerOptions]
    ) -> None:
        super().__init__(app, **options)
        self._lifespan = Lifespan(app, lifespan)

    def _host(self, loop: asyncio.AbstractEventLoop) -> AsgiServer:
        return AsgiServer(
            loop,
            self._app,
            state=self._lifespan.state,
            root_path=self._root_path,
            on_error=report_error,
            access_log_fd=self._access_log_fd,
            options=self._options,
        )

    async def _startup(self) -> None:
        await self._lifespan.startup()

    async def _shutdown(self) -> None:
        await self._lifespan.shutdown()


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
        for outcome in (self._started, self._ended, self._task):
            outcome.add_done_callback(_note)
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


def _note(outcome: asyncio.Future[Any]) -> None:
    """Takes an error as seen: a stop in the middle of the startup waits for none, and asyncio would
    log each with a traceback."""
    if not outcome.cancelled():
        outcome.exception()


def _sentence(part: str, message: str) -> str:
    failed = f"the app's {part} failed"
    return f"{failed}: {message}" if message else failed
