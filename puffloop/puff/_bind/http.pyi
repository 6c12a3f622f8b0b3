from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

class HttpServer:
    """The C HTTP server on one loop; a subclass hosts an app. See docs/http.md."""

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
    def tasks(self) -> Sequence[Future[Any]]: ...
    @property
    def is_open(self) -> bool: ...
    def statistics(self) -> dict[str, int]: ...
