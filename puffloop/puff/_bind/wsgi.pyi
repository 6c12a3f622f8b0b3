from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from puff._bind.http import HttpServer

class WsgiServer(HttpServer):
    """A WSGI app on the C HTTP server, on one loop. See docs/http.md."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        app: Callable[..., Any],
        *,
        root_path: str = "",
        on_error: Callable[[str, BaseException | None, bytes, bytes], object],
        threads: Executor | None = None,
        greenlets: int = 0,
        multiprocess: bool = False,
        access_log_fd: int = -1,
        options: dict[str, Any] | None = None,
    ) -> None: ...
    def tasks(self) -> list[Future[Any]]: ...
