from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable
from typing import Any

from puff._bind.http import HttpServer

App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[Any]
]

class AsgiServer(HttpServer):
    """An ASGI app on the C HTTP server, on one loop. See docs/http.md."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        app: App,
        *,
        state: dict[str, Any] | None = None,
        root_path: str = "",
        on_error: Callable[[str, BaseException | None, bytes, bytes], object],
        access_log_fd: int = -1,
        options: dict[str, Any] | None = None,
    ) -> None: ...
    def tasks(self) -> list[Task[Any]]: ...
