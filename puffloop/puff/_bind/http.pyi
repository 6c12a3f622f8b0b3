from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable
from typing import Any

App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[Any]
]

class HttpServer:
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
    def listen(
        self,
        *,
        host: str | None = None,
        port: int = 0,
        unix_path: str | None = None,
        fd: int = -1,
        backlog: int = 0,
        reuse_port: bool = False,
    ) -> int: ...
    def stop(self, timeout_ms: int, on_stopped: Callable[[], object] | None = None) -> None: ...
    def tasks(self) -> list[Task[Any]]: ...
    @property
    def is_open(self) -> bool: ...
    def statistics(self) -> dict[str, int]: ...
