"""Pipe transports on asyncio's."""

import asyncio
from typing import IO, Any

class ReadPipeTransport(asyncio.ReadTransport): ...
class WritePipeTransport(asyncio.WriteTransport): ...

class PipeMethods:
    def _make_read_pipe_transport(
        self,
        pipe: IO[bytes],
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.ReadTransport: ...
    def _make_write_pipe_transport(
        self,
        pipe: IO[bytes],
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.WriteTransport: ...
